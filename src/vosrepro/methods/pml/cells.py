"""The geometry between pixels and embedding cells: labels down, probabilities up."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

#: Where the i-th cell lies: "half-pixel" at (i + 1/2) H / h (the seed's resizing), "aligned" at
#: i * cell_px, where the convolutions of the network are centered.
Geometry = Literal["half-pixel", "aligned"]


def cell_labels(labels: torch.Tensor, size: tuple[int, int], *, geometry: Geometry, cell_px: int) -> torch.Tensor:
    """The label at the center of each cell.

    Args:
        labels: integer (..., H, W).
        size: h, w of the grid.
        geometry: see `Geometry`.
        cell_px: pixels per cell.

    Returns:
        (..., h, w) of the same dtype.

    Source: sydney0zq/PML: dataset/davis.py (Pillow NEAREST) for "half-pixel".
    """
    for axis, cells in zip((-2, -1), size, strict=True):
        pixels = labels.shape[axis]
        position = torch.arange(cells, device=labels.device)
        if geometry == "half-pixel":
            position = (2 * position + 1) * pixels // (2 * cells)
        else:
            position = (position * cell_px).clamp(max=pixels - 1)
        labels = labels.index_select(axis, position)
    return labels


def cell_fractions(masks: torch.Tensor, size: tuple[int, int], *, geometry: Geometry, cell_px: int) -> torch.Tensor:
    """The share of each cell's area that a mask covers: float (N, H, W) -> (N, h, w)."""
    if geometry == "half-pixel":
        return F.adaptive_avg_pool2d(masks, size)
    pads = [max(0, (n - 1) * cell_px + 1 - m) for n, m in zip(size, masks.shape[1:], strict=True)]
    grown = F.pad(masks[None], (0, pads[1], 0, pads[0]), mode="replicate")[0]
    return F.avg_pool2d(grown, cell_px + 1, cell_px, cell_px // 2, count_include_pad=False)


def to_pixels(maps: torch.Tensor, size: tuple[int, int], *, geometry: Geometry, cell_px: int) -> torch.Tensor:
    """Bilinear interpolation of cell maps (N, h, w) at the pixels of a frame: (N, H, W)."""
    if geometry == "half-pixel":
        return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    whole = [(n - 1) * cell_px + 1 for n in maps.shape[1:]]
    dense = F.interpolate(maps[None], whole, mode="bilinear", align_corners=True)
    # The last cell lies up to cell_px - 2 pixels before the border.
    pads = [max(0, m - n) for n, m in zip(whole, size, strict=True)]
    dense = F.pad(dense, (0, pads[1], 0, pads[0]), mode="replicate")[0]
    return dense[:, : size[0], : size[1]].contiguous()


def own_cells(fractions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Give every object at least one cell.

    Args:
        fractions: (L, h, w) share of each label in each cell, background first.
        labels: int64 (h, w) labels of the cells.

    Returns:
        `labels` in which an object that owns no cell, because it is smaller than one, gets the cell it
        covers most.

    Deviation: the seed loses such an object.
    """
    present = set(torch.unique(labels).tolist())
    missing = [label for label in range(1, len(fractions)) if label not in present]
    if not missing:
        return labels
    labels = labels.clone()
    for label in missing:
        if float(fractions[label].max()) > 0:
            labels.view(-1)[fractions[label].flatten().argmax()] = label
    return labels
