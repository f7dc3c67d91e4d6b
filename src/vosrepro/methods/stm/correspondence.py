"""Dense correspondences between two frames: which cells of the source a target cell looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vosrepro.methods.common.correspondence import Correspondence
from vosrepro.methods.common.padding import Padding
from vosrepro.methods.stm.network import SpaceTimeNetwork

if TYPE_CHECKING:
    from torch import nn


@torch.inference_mode()
def correspond(model: nn.Module, source: torch.Tensor, target: torch.Tensor) -> Correspondence:
    """The memory's affinity between two frames.

    The source is encoded as memory with empty masks and the target as query, so exchanging the two
    does not transpose the result.

    Args:
        model: the network, prepared for inference or not.
        source: float32 (3, H, W) in [0, 1].
        target: float32 (3, H, W) in [0, 1], of the same size.

    Source: hkchengrex/Mask-Propagation: model/corr_network.py.
    """
    if not isinstance(model, SpaceTimeNetwork):
        raise TypeError(f"expected a space-time memory network, not {type(model).__name__}")
    padding = Padding.to_multiple(*source.shape[-2:], multiple=model.stride)
    x, y = (padding.apply(model.normalize(frame[None]).to(model.dtype)) for frame in (source, target))
    key, _ = model.encode_memory(x, torch.zeros_like(x[:, :1]))
    query = model.encode_query(y).key
    weights = torch.softmax(torch.matmul(key[0], query[0].T).float(), dim=0)
    grid = (x.shape[-2] // model.stride, x.shape[-1] // model.stride)
    return Correspondence(weights, grid, model.stride, padding)
