"""Finding parts again: grouped correlation of templates in search regions, labels and weights, localization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch.nn import functional as F

LabelWeights = Literal["balanced", "thesis", "thesis-fixed"]
UPSAMPLING = 16


def correlate(template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
    """Depth-wise cross-correlation of all pairs in one grouped convolution.

    Args:
        template: (P, D, T, T).
        search: (S * P, D, X, X): S scales of every part, scale-major.

    Returns:
        (S * P, D, X - T + 1, X - T + 1).
    """
    parts, depth, size, _ = template.shape
    scales = search.shape[0] // parts
    side = search.shape[-1]
    stacked = search.reshape(scales, parts * depth, side, side)
    kernel = template.reshape(parts * depth, 1, size, size)
    found = F.conv2d(stacked, kernel, groups=parts * depth)
    return found.reshape(scales * parts, depth, *found.shape[-2:])


# ------------------------------------------------------------------------------------------- losses


def positive_cells(target: torch.Tensor, *, size: int, radius: float, norm: Literal["l1", "l2"] = "l2") -> torch.Tensor:
    """Cells within `radius` of targets (N, 2) as (row, column) in cells; bool (N, size, size)."""
    grid = torch.arange(size, device=target.device, dtype=target.dtype)
    rows = (grid[None, :, None] - target[:, 0, None, None]).abs()
    columns = (grid[None, None, :] - target[:, 1, None, None]).abs()
    return (rows + columns if norm == "l1" else torch.hypot(rows, columns)) <= radius


def cell_weights(
    positive: torch.Tensor, *, kind: LabelWeights = "balanced", center: torch.Tensor | None = None
) -> torch.Tensor:
    """Weights of the cells (N, R, R) of a label map.

    "balanced" gives both classes half of the total weight. "thesis-fixed" gives N-/N to positives and N+/N to
    the others. "thesis" is what the seed wrote: N-/N at the center cell only, so that the other positives get
    the small weight of the negatives; it needs `center`, int64 (N, 2) as (row, column).

    Source: WangYuTum/MasterThesis2, branch master; bertinetto/siamese-fc ("balanced").
    """
    count = positive.float().sum(dim=(1, 2), keepdim=True)
    total = float(positive.shape[1] * positive.shape[2])
    if kind == "balanced":
        high, low = 0.5 / count.clamp_min(1), 0.5 / (total - count).clamp_min(1)
        return torch.where(positive, high, low)
    high, low = (total - count) / total, count / total
    if kind == "thesis-fixed":
        return torch.where(positive, high, low)
    assert center is not None
    only = torch.zeros_like(positive)
    only[torch.arange(len(positive)), center[:, 0], center[:, 1]] = True
    return torch.where(only, high, low)


def matching_loss(logits: torch.Tensor, positive: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy of score maps (N, R, R): summed over each map, (N)."""
    losses = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    return (losses * weights).sum(dim=(1, 2))


# ------------------------------------------------------------------------------------- localization


@dataclass(frozen=True)
class SearchParams:
    """How a part is found in its search region (SiamFC's constants).

    Attributes:
        scales: odd number of search scales.
        scale_step: factor between neighboring scales.
        scale_penalty: factor on the confidence of any change of scale; it acts on probabilities, because on
            negative logits it would be a reward.
        scale_rate: how fast the side follows the best scale.
        window: share of the cosine window.
        convention: "half-pixel"; or the seed's "thesis": corner-aligned upsampling whose factor is taken
            for 16 (moves 5.9 % too far), and a window that has no effect.
    """

    scales: int = 3
    scale_step: float = 1.0375
    scale_penalty: float = 0.9745
    scale_rate: float = 0.59
    window: float = 0.176
    convention: Literal["half-pixel", "thesis"] = "half-pixel"

    def factors(self) -> list[float]:
        """Scales relative to the present one, ascending."""
        half = self.scales // 2
        return [self.scale_step**i for i in range(-half, half + 1)]


@dataclass(frozen=True)
class FoundParts:
    """Where parts were found.

    Attributes:
        offset: float32 (P, 2) as (row, column), in cells of the chosen scale.
        scale: int64 (P), index of the chosen scale.
        confidence: float32 (P), probability at the peak of the map without the window.
        chosen: float32 (P, R, R), the probabilities of the chosen scale.
    """

    offset: torch.Tensor
    scale: torch.Tensor
    confidence: torch.Tensor
    chosen: torch.Tensor


def locate(probabilities: torch.Tensor, params: SearchParams) -> FoundParts:
    """The best scale and position of every part.

    Args:
        probabilities: (S, P, R, R) for S scales, ascending.
        params: see there.
    """
    scales, parts = probabilities.shape[:2]
    peaks = probabilities.flatten(2).amax(2)  # (S, P)
    penalty = torch.full((scales, 1), params.scale_penalty, device=peaks.device)
    penalty[scales // 2] = 1.0
    chosen = (peaks * penalty).argmax(0)
    maps = probabilities[chosen, torch.arange(parts, device=chosen.device)]
    offset = peak_offset(maps, window=params.window, convention=params.convention)
    return FoundParts(offset, chosen, maps.flatten(1).amax(1), maps)


def response(
    maps: torch.Tensor, *, window: float, convention: Literal["half-pixel", "thesis"] = "half-pixel"
) -> torch.Tensor:
    """Maps (P, R, R) upsampled 16 times, scaled to sum 1, mixed with a cosine window of sum 1."""
    size = maps.shape[-1] * UPSAMPLING
    corners = convention == "thesis"
    up = F.interpolate(maps[:, None], (size, size), mode="bicubic", align_corners=corners)[:, 0]
    if corners:  # the seed normalizes only the window, which then weighs nothing
        return (1 - window) * up + window * cosine_window(size, up)
    up = up - up.flatten(1).amin(1)[:, None, None]
    up = up / up.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return (1 - window) * up + window * cosine_window(size, up)


def peak_offset(
    maps: torch.Tensor, *, window: float, convention: Literal["half-pixel", "thesis"] = "half-pixel"
) -> torch.Tensor:
    """Displacement (P, 2) as (row, column) in cells from the center to the peak of maps (P, R, R)."""
    up = response(maps, window=window, convention=convention)
    size, cells = up.shape[-1], maps.shape[-1]
    best = up.flatten(1).argmax(1)
    place = torch.stack([best // size, best % size], dim=1).to(maps.dtype)
    if convention == "thesis":
        return (place - size // 2) / UPSAMPLING
    return (place + 0.5) / UPSAMPLING - 0.5 - (cells - 1) / 2


def cosine_window(size: int, like: torch.Tensor) -> torch.Tensor:
    """Outer product of two symmetric Hann windows with sum 1, (size, size)."""
    return _window(size).to(like)


@lru_cache(maxsize=8)
def _window(size: int) -> torch.Tensor:
    line = torch.hann_window(size, periodic=False, dtype=torch.float64)
    full = line[:, None] * line
    return full / full.sum()
