"""Dense correspondences of two frames on a grid of cells, whatever method found them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional as F

from vosrepro.methods.common.padding import Padding

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Correspondence:
    """For each target cell, a distribution over source cells.

    Attributes:
        weights: float32 (S, T), non-negative; columns sum to 1. Cells are row-major on the padded grid.
        grid: (h, w) of both frames, h * w = S = T.
        cell_px: side of a cell.
        padding: pixels by which the frames were padded to whole cells.
    """

    weights: torch.Tensor
    grid: tuple[int, int]
    cell_px: int
    padding: Padding

    def cell(self, x: int, y: int) -> tuple[int, int]:
        """Row and column of the cell that holds a pixel of the unpadded frame."""
        return (y + self.padding.top) // self.cell_px, (x + self.padding.left) // self.cell_px

    def transfer(self, source_map: torch.Tensor) -> torch.Tensor:
        """Carry a map on the source's cells to the target's pixels.

        Args:
            source_map: (h, w), non-negative.

        Returns:
            float32 (H, W) of the unpadded target, its largest value just below 1.

        Source: hkchengrex/Mask-Propagation: model/corr_network.py.
        """
        heat = (source_map.to(self.weights).flatten() @ self.weights).view(1, 1, *self.grid)
        heat = F.interpolate(heat, scale_factor=self.cell_px, mode="bilinear", align_corners=False)
        heat = self.padding.crop(heat)[0, 0]
        return heat / (heat.max() + 1e-6)
