"""Dense correspondences between two frames: which cells of the source a target cell looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from vosrepro.methods.common.padding import Padding

if TYPE_CHECKING:
    from vosrepro.methods.stm.network import SpaceTimeNetwork


@torch.inference_mode()
def affinity(model: SpaceTimeNetwork, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """For each target cell, a distribution over source cells.

    The source is encoded as memory with empty masks and the target as query, so exchanging the two
    does not transpose the result.

    Args:
        model: the network.
        source: (3, H, W) in [0, 1].
        target: (3, H, W) in [0, 1], of the same size.

    Returns:
        float32 (S, T): columns sum to 1. Cells are row-major on the padded grid.

    Source: hkchengrex/Mask-Propagation: model/corr_network.py.
    """
    padding = Padding.to_multiple(*source.shape[-2:], multiple=model.stride)
    x, y = (padding.apply(model.normalize(frame[None])) for frame in (source, target))
    empty = torch.zeros_like(x[:, :1])
    key, _ = model.encode_memory(x, empty)
    query = model.encode_query(y).key
    return torch.softmax(torch.matmul(key[0], query[0].T).float(), dim=0)


def cell_map(
    model: SpaceTimeNetwork, height: int, width: int, *, row: int, column: int
) -> torch.Tensor:
    """A map (h, w) on the padded grid with a one at one cell."""
    grid = torch.zeros(-(-height // model.stride), -(-width // model.stride))
    grid[row, column] = 1
    return grid


def transfer_map(
    model: SpaceTimeNetwork,
    weights: torch.Tensor,
    source_map: torch.Tensor,
    *,
    height: int,
    width: int,
) -> torch.Tensor:
    """Carry a map on the source's cells to the target's pixels.

    Args:
        model: the network.
        weights: (S, T) of `affinity`.
        source_map: (h, w) non-negative.
        height: of the unpadded target.
        width: of the unpadded target.

    Returns:
        (height, width), its largest value just below 1.
    """
    padding = Padding.to_multiple(height, width, multiple=model.stride)
    grid = (source_map.to(weights).flatten() @ weights).view(1, 1, *source_map.shape)
    heat = F.interpolate(grid, scale_factor=model.stride, mode="bilinear", align_corners=False)
    heat = padding.crop(heat)[0, 0]
    return heat / (heat.max() + 1e-6)
