"""G-FRTM on key-seeded weights against recorded outputs of the original code."""

from __future__ import annotations

from collections.abc import Mapping
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
from vosrepro.methods.gfrtm.model import GFRTM
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter


@torch.no_grad()
def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare with golden/gfrtm.npz; see `vosrepro.lab.parity.frtm`."""
    rows = augmentation_rows(arrays, ("dv.o1", "dv.o2", "yt.o2"))
    for dtype, network in seeded_networks(GFRTM, arrays):
        rows += feature_rows(arrays, network, dtype)
        rows.append(_change_row(arrays, network, dtype))
        for scene in ("dv", "yt", "t1"):
            tau = 1.0 if scene == "t1" else float(arrays["tau"])
            segmenter = GFRTMSegmenter(network, tau=tau, fast=False, record_gate=True, **run_options(dtype))
            free = free_run(segmenter, arrays, scene, stored_views(scene), dtype)
            rows += _gate_rows(arrays, segmenter, scene, dtype) + free
    return rows


def _gate_rows(arrays: Mapping[str, Any], segmenter: GFRTMSegmenter, scene: str, dtype: str) -> list[ParityRow]:
    ours = torch.cat([gate.probabilities for gate in segmenter.gates])
    error = abs(ours.double().numpy() - arrays[f"{scene}.gate_prob"]).max()
    decided = np.array([r for frame in segmenter.reused for r in frame])
    wrong = float((decided != (arrays[f"{scene}.gate"] == 1)).sum())
    rows = [
        ParityRow(f"{scene}.gate_prob [{dtype}]", float(error), 5e-3),
        ParityRow(f"{scene}.gate [{dtype}]", wrong, 0, "wrong decisions"),
    ]
    if f"{scene}.template" in arrays:
        templates = relative(segmenter.templates, arrays[f"{scene}.template"])
        first = segmenter.gates[0]
        logits = relative(first.logits, arrays[f"{scene}.gate_logits"][: len(first.logits)])
        rows.append(ParityRow(f"{scene}.template [{dtype}]", templates, 1e-5, "rel"))
        rows.append(ParityRow(f"{scene}.gate_logits at frame 1 [{dtype}]", logits, 1e-5, "rel"))
    return rows


def _change_row(arrays: Mapping[str, Any], network: Any, dtype: str) -> ParityRow:
    reused = np.flatnonzero(arrays["dv.gate"] == 1)
    match = torch.from_numpy(arrays["dv.match"][reused]).to(frames(arrays, dtype))
    error = relative(network.Convert_Diff(match)[:, 0], arrays["dv.diff"])
    return ParityRow(f"dv.diff from recorded match [{dtype}]", error, 1e-4, "rel")
