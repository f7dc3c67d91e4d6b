"""MTMFI on key-seeded weights against recorded outputs of the original code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from vosrepro.base.types import ParityRow
from vosrepro.lab.parity.fixture import (
    frames,
    relative,
    run_options,
    seeded_networks,
    stored_views,
)
from vosrepro.lab.parity.frtm import augmentation_rows, feature_rows, free_run
from vosrepro.methods.mtmfi.model import MTMFI
from vosrepro.methods.mtmfi.segmenter import MTMFISegmenter

_HEADS = {"mtm": "initial", "fi": "bise"}
_LEVELS = ("layer3", "layer4")


@torch.no_grad()
def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare with golden/mtmfi.npz; see `vosrepro.lab.parity.frtm`."""
    rows = augmentation_rows(arrays, ("mtm.dv.o1", "mtm.dv.o2", "mtm.yt.o2"))
    for name, head in _HEADS.items():
        for dtype, network in seeded_networks(partial(MTMFI, head=head), arrays):  # type: ignore[arg-type]
            if name == "mtm":
                rows += feature_rows(arrays, network, dtype)
            rows.append(_logit_row(arrays, network, name, dtype))
            for scene in ("dv", "yt"):
                segmenter = MTMFISegmenter(network, **run_options(dtype))
                views = stored_views(scene, "mtm.")
                rows += free_run(segmenter, arrays, f"{name}.{scene}", views, dtype, "both")
    return rows


def _logit_row(arrays: Mapping[str, Any], network: Any, name: str, dtype: str) -> ParityRow:
    images, worst = frames(arrays, dtype), 0.0
    for t in range(1, len(images)):
        features = network.backbone(images[t : t + 1])
        scores = [
            torch.from_numpy(np.stack([arrays[f"{name}.dv.o{o}.{level}.score"][t - 1] for o in (1, 2)]))[:, None].to(
                images
            )
            for level in _LEVELS
        ]
        logits = network.refiner(features, scores, images.shape[-2:])[:, 0]
        for o in (1, 2):
            worst = max(worst, relative(logits[o - 1], arrays[f"{name}.dv.o{o}.logit"][t - 1]))
    tolerance = 1e-5 if dtype == "float64" else 5e-5
    return ParityRow(f"{name}.dv.logit from recorded scores [{dtype}]", worst, tolerance, "rel")
