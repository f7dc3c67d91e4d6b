"""Released G-FRTM checkpoints -> our weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vosrepro.methods.frtm.convert import converted
from vosrepro.methods.gfrtm.model import GFRTM


def convert(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of `GFRTM`.

    Raises:
        CheckpointError: see `vosrepro.methods.frtm.convert.convert`.
    """
    first = "refiner.TSE.layer4.reduce.0.weight"
    return converted(released, GFRTM, first=first, what="G-FRTM")
