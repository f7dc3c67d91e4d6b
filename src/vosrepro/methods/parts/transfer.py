"""Fitting the weights of one stage to the network of the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

_CLASS_HEAD = "head."


def transfer(state: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Leave the class head of stage 0 behind; all other weights are in every stage's network."""
    wanted = model.state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith(_CLASS_HEAD)}
    head = {name: value for name, value in wanted.items() if name.startswith(_CLASS_HEAD)}
    return {**head, **kept}
