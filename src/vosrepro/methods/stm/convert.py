"""Released checkpoints -> our weights. Module names are upstream's, so only the wrapping differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vosrepro.methods.common.checkpoints import checked, without_prefix
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.original import OriginalSTM
from vosrepro.methods.stm.transfer import CONV1

_RESUME_KEYS = {"it", "network", "optimizer", "scheduler"}


def convert(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of `STM` or `OriginalSTM` from a released file.

    Understands Mask-Propagation's files (597 keys; 4 or 5 input channels of the memory encoder), its
    resume checkpoints (the network in them), and STM's (558 keys behind "module.").

    Raises:
        CheckpointError: if a key is missing or unknown or has another shape.
    """
    state: Mapping[str, Any] = released
    if "network" in state and set(state) <= _RESUME_KEYS:
        state = state["network"]
    state = without_prefix(state, "module.")
    with torch.device("meta"):
        if any(key.startswith("Encoder_M.") for key in state):
            return checked(state, OriginalSTM().state_dict(), what="STM (ICCV 2019)")
        conv1 = state.get(CONV1)
        single = isinstance(conv1, torch.Tensor) and conv1.ndim == 4 and conv1.shape[1] == 4
        expected = STM(objects=1 if single else 2).state_dict()
    return checked(state, expected, what="Mask-Propagation")
