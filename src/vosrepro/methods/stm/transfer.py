"""Fitting weights of one stage to the network of the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from vosrepro.base.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONV1 = "mask_rgb_encoder.conv1.weight"


def transfer(state: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Give a single-object network's first convolution the input channel of the other objects.

    The new channel is the last one and is drawn as an orthogonal tensor from torch's global generator,
    so it must happen before a distributed wrapper broadcasts the weights.

    Args:
        state: weights of the previous stage.
        model: the network of the next stage.

    Raises:
        CheckpointError: if the channels cannot be fitted (there is no way back to one object).

    Source: hkchengrex/Mask-Propagation: model/model.py, load_network.
    """
    state = dict(state)
    if CONV1 not in state:
        return state
    have = state[CONV1].shape[1]
    want = model.get_parameter(CONV1).shape[1]
    if have == want:
        return state
    if (have, want) != (4, 5):
        raise CheckpointError(
            f"{CONV1} has {have} input channels and the network needs {want}: only weights of the "
            "single-object network (4) can be given to the multi-object network (5)"
        )
    weight = state[CONV1]
    others = torch.empty(weight.shape[0], 1, *weight.shape[2:])
    nn.init.orthogonal_(others)
    state[CONV1] = torch.cat([weight, others.to(weight)], dim=1)
    return state
