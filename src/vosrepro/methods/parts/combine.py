"""From parts to objects: pasting, similarity weights, weighted averages, merging of several objects."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vosrepro.methods.common.aggregation import aggregate

_SIMILARITY_SCALE = 0.5


def similarity(
    first: torch.Tensor,
    first_mask: torch.Tensor,
    now: torch.Tensor,
    now_mask: torch.Tensor,
    *,
    scale: float = _SIMILARITY_SCALE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How alike parts look in two frames.

    Args:
        first: features (P, D, M, M) in the reference frame.
        first_mask: soft masks (P, M, M) there.
        now: features of the present frame.
        now_mask: soft masks there.
        scale: tau.

    Returns:
        Distances of the normalized masked mean features, and weights exp(-distance^2 / tau), (P) each.
    """
    squared = (masked_mean(first, first_mask) - masked_mean(now, now_mask)).square().sum(1)
    return squared.sqrt(), torch.exp(-squared / scale)


def masked_mean(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Normalized mean (P, D) of features (P, D, M, M) under masks (P, M, M)."""
    total = (features * mask[:, None]).sum(dim=(2, 3))
    return F.normalize(total / (mask.sum(dim=(1, 2))[:, None] + 1e-6), dim=1)


def paste(values: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (P, M, M) brought into whole frames by sampling every frame pixel; the plain form.

    Returns:
        (P, H, W) values, 0 outside of the boxes, and (P, H, W) coverage of pixel centers, 0 or 1.
    """
    height, width = size
    rows = torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5
    columns = torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5
    x0, y0, x1, y1 = (boxes[:, i, None] for i in range(4))
    u, v = (columns - x0) / (x1 - x0), (rows - y0) / (y1 - y0)  # 0..1 inside
    grid = torch.stack(
        [
            (2 * u - 1)[:, None, :].expand(-1, height, -1),
            (2 * v - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=3,
    )
    sampled = F.grid_sample(values[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
    covered = _within(u)[:, None, :] & _within(v)[:, :, None]
    return sampled * covered, covered.to(values.dtype)


def _within(place: torch.Tensor) -> torch.Tensor:
    return (place >= 0) & (place < 1)


def interpolation_matrix(start: torch.Tensor, stop: torch.Tensor, *, cells: int, length: int):
    """Linear interpolation of maps along one axis as a matrix per box.

    Args:
        start: (P) where the boxes begin, in pixels.
        stop: (P) where they end.
        cells: samples of a map across its box.
        length: pixels of the frame along the axis.

    Returns:
        (P, length, cells): row i holds the weights of pixel i, all 0 where its center lies outside.
    """
    pixels = torch.arange(length, device=start.device, dtype=start.dtype) + 0.5
    place = (pixels - start[:, None]) / (stop - start)[:, None]  # (P, length), 0..1 inside
    cell = (place * cells - 0.5).clamp(0, cells - 1)
    weight = 1 - (cell[:, :, None] - torch.arange(cells, device=start.device)).abs()
    return weight.clamp_min(0) * _within(place)[:, :, None]


def combine_parts(
    values: torch.Tensor, weights: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean of part maps at every pixel.

    Both axes of the bilinear sampling are matrices, so that all parts are summed by one matrix product
    without a frame-sized map per part; equal to `paste` up to rounding.

    Args:
        values: probabilities (P, M, M).
        weights: (P), not negative.
        boxes: (P, 4).
        size: height and width of the frame.

    Returns:
        (H, W) weighted mean where parts cover, else 0; and (H, W) bool, covered by a part of positive weight.
    """
    height, width = size
    if not len(values):
        empty = values.new_zeros(size)
        return empty, empty.bool()
    cells = values.shape[-1]
    down = interpolation_matrix(boxes[:, 1], boxes[:, 3], cells=cells, length=height)
    across = interpolation_matrix(boxes[:, 0], boxes[:, 2], cells=cells, length=width)
    rows = torch.bmm(down, values * weights[:, None, None])  # (P, H, M)
    total = torch.einsum("phm,pwm->hw", rows, across)
    covers = torch.einsum("ph,pw->hw", (down.sum(2) > 0) * weights[:, None], across.sum(2))
    return total / covers.clamp_min(1e-12), covers > 1e-9


def blend_parts(whole: torch.Tensor, parts: torch.Tensor, covered: torch.Tensor, *, share: float) -> torch.Tensor:
    """`share` of the whole object's map and the rest of the parts', where a part covers; else the whole's."""
    return torch.where(covered, share * whole + (1 - share) * parts, whole)


def favos_combination(
    values: torch.Tensor, boxes: torch.Tensor, base: torch.Tensor, *, ratio: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """FAVOS's public rule: the plain mean of covering parts divided by its maximum, blended with a base.

    Source: JingchunCheng/FAVOS (`ratio` is a table of hand-set values per validation sequence there).
    """
    mean, _ = combine_parts(
        values, torch.ones(len(values), device=values.device), boxes, (base.shape[0], base.shape[1])
    )
    mean = mean / mean.max().clamp_min(1e-12)
    return mean, ratio * base + (1 - ratio) * mean


def merge_objects(objects: torch.Tensor) -> torch.Tensor:
    """Maps of N objects (N, H, W) in [0, 1] -> probabilities (N + 1, H, W), background first.

    Source: seoungwugoh/RGMP (the same softmax of odds).
    """
    return aggregate(objects)
