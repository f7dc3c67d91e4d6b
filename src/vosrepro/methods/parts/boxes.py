"""Geometry of parts: squares, cells, pyramid levels, and the seed's template square.

Boxes are (x0, y0, x1, y1) in pixels, half-open, with pixel centers at +0.5.
"""

from __future__ import annotations

import numpy as np
import torch


def squares(centers: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """Centers (N, 2) as (x, y) and sides (N) -> boxes (N, 4)."""
    half = sides[:, None] / 2
    return torch.cat([centers - half, centers + half], dim=1)


def cell_px(sides: torch.Tensor, *, template: int) -> torch.Tensor:
    """Pixels of a response cell: the template region of 2 sides has `template` cells across."""
    return 2 * sides / template


def level_of(pixels: torch.Tensor, *, lowest: int, highest: int) -> torch.Tensor:
    """Pyramid level (log2 of the stride) for a cell of so many pixels, int64."""
    return torch.log2(pixels).round().long().clamp(lowest, highest)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The half-open tight box of a boolean mask (H, W), or None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def object_square(mask: np.ndarray) -> tuple[float, float, float] | None:
    """Center x, y and side of the square around the tight box of a mask: part 0."""
    box = tight_box(mask)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    return (x0 + x1) / 2, (y0 + y1) / 2, float(max(x1 - x0, y1 - y0))


def template_square(box: tuple[int, int, int, int], *, template_px: int = 127) -> tuple[int, int, int, int, float]:
    """The seed's template region of a tight box, and the scale that brings it to 127 pixels.

    The shorter side is extended to a square (an odd pixel goes left or top), then a margin of (w + h) / 4 is
    put on each side.

    Source: WangYuTum/MasterThesis2, branch master (SiamFC's margin).
    """
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    margin = int((width + height) / 4)
    if width < height:
        extra = height - width
        x0, x1 = x0 - (extra - extra // 2), x1 + extra // 2
    elif height < width:
        extra = width - height
        y0, y1 = y0 - (extra - extra // 2), y1 + extra // 2
    x0, y0, x1, y1 = x0 - margin, y0 - margin, x1 + margin, y1 + margin
    return x0, y0, x1, y1, template_px / (x1 - x0)


def side_table(shorter_side_px: float, *, image_short_side_px: int) -> tuple[int, int, int]:
    """Block size and smallest and largest part side, for an object with this shorter side.

    The table is for images with a short side of 480 pixels and is scaled to others; no part is smaller
    than 12 pixels.

    Source: WangYuTum/MasterThesis2, branch parts_track.
    """
    factor = image_short_side_px / 480
    rows = ((300, 64, 32, 152), (200, 32, 28, 128), (100, 24, 24, 112), (0, 16, 24, 96))
    _, block, low, high = next(row for row in rows if shorter_side_px >= row[0] * factor)
    low = max(12, round(low * factor))
    return max(4, round(block * factor)), low, max(low, round(high * factor))
