"""Losses of masks: cross-entropy with Dice, and the seed's summed loss on upsampled mask vectors."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def mask_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy plus Dice loss (smooth 1) of maps (N, M, M) against 0/1 targets, (N)."""
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))
    p = logits.sigmoid()
    shared = (p * target).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / (p.sum(dim=(1, 2)) + target.sum(dim=(1, 2)) + 1)
    return cross + dice


def legacy_bilinear(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear resizing of maps (N, m, m) to (N, size, size) as TensorFlow 1 did: source = target * m / size.

    Without the half-pixel shift; `torch.nn.functional.interpolate` has no such mode.
    """
    cells = maps.shape[-1]
    place = torch.arange(size, dtype=maps.dtype, device=maps.device) * (cells / size)
    low = place.floor().long().clamp(0, cells - 1)
    high = (low + 1).clamp_max(cells - 1)
    share = place - low
    rows = maps[:, low] * (1 - share)[:, None] + maps[:, high] * share[:, None]
    return rows[:, :, low] * (1 - share) + rows[:, :, high] * share


def thesis_mask_loss(vectors: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The seed's mask loss: class-balanced cross-entropy summed over each map, mean over maps.

    Args:
        vectors: logits (N, 63, 63).
        target: 0/1 (N, 127, 127).

    Source: WangYuTum/MasterThesis2, branch guide_mask.
    """
    up = legacy_bilinear(vectors, target.shape[-1])
    target = target.to(up.dtype)
    share = target.mean(dim=(1, 2), keepdim=True)
    weights = torch.where(target > 0, 1 - share, share)
    cross = F.binary_cross_entropy_with_logits(up, target, reduction="none")
    return (cross * weights).sum(dim=(1, 2)).mean()
