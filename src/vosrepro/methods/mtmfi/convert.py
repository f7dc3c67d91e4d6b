"""Released MTMFI checkpoints -> our weights; the keys tell which head a file is for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from vosrepro.methods.frtm.convert import converted, inner_state
from vosrepro.methods.mtmfi.model import MTMFI, FusionHead


def convert(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of `MTMFI` with the head that the checkpoint belongs to.

    Raises:
        CheckpointError: see `vosrepro.methods.frtm.convert.convert`.
    """
    head = head_of(inner_state(released))
    part = "TSE" if head == "initial" else "TFFM"
    return converted(
        released,
        partial(MTMFI, head=head),
        first=f"refiner.{part}.layer4.reduce.0.weight",
        what=f"MTMFI with head '{head}'",
    )


def head_of(state: Mapping[str, Any]) -> FusionHead:
    """Which head the keys are for."""
    if not any(key.startswith("refiner.TFFM.") for key in state):
        return "initial"
    return "bise-large" if any(key.startswith("refiner.RRB1.") for key in state) else "bise"
