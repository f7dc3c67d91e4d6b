"""The guided filter with a color guide: a cheap edge-aware smoothing."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def guided_filter(guide: torch.Tensor, target: torch.Tensor, *, radius_px: int = 8, edge: float = 0.02) -> torch.Tensor:
    """Smooth targets so that they become locally linear in the guide's colors.

    Args:
        guide: (3, H, W) in [0, 1].
        target: (T, H, W).
        radius_px: windows have (2 * radius_px + 1)^2 pixels, fewer at the border.
        edge: color differences (in [0, 1]) well below it are smoothed over; its square is He's epsilon.

    Returns:
        (T, H, W) of the guide's dtype; may leave the target's range a little.

    Source: He, Sun & Tang, TPAMI 2013, Eqs. 14-16.
    """
    target = target.to(guide)
    rows, columns = torch.triu_indices(3, 3, device=guide.device)
    products = guide[rows] * guide[columns]  # (6, H, W)
    crossed = (guide[None] * target[:, None]).flatten(0, 1)  # (3 T, H, W)
    count = len(target)
    means = _box(torch.cat([guide, products, target, crossed]), radius_px)
    color, square, value, cross = means.split([3, 6, count, 3 * count])
    covariance = guide.new_empty(*guide.shape[1:], 3, 3)
    packed = (square - color[rows] * color[columns]).permute(1, 2, 0)
    covariance[..., rows, columns] = packed
    covariance[..., columns, rows] = packed
    covariance.diagonal(dim1=2, dim2=3).add_(edge**2)
    joint = cross.view(count, 3, *guide.shape[1:]) - color[None] * value[:, None]  # (T, 3, H, W)
    slope = torch.einsum("hwij,tjhw->tihw", _inverse(covariance), joint)
    offset = value - (slope * color[None]).sum(1)
    smooth = _box(torch.cat([slope.flatten(0, 1), offset]), radius_px)
    slope = smooth[: 3 * count].view(count, 3, *guide.shape[1:])
    return (slope * guide[None]).sum(1) + smooth[3 * count :]


def _inverse(a: torch.Tensor) -> torch.Tensor:
    """Inverse of symmetric 3x3 matrices (..., 3, 3) by cofactors; far faster than a batched solver."""
    (a00, a01, a02), (_, a11, a12), (_, _, a22) = (row.unbind(-1) for row in a.unbind(-2))
    c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
    c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
    determinant = a00 * c00 + a01 * c01 + a02 * c02
    cofactors = torch.stack([c00, c01, c02, c01, c11, c12, c02, c12, c22], dim=-1)
    return (cofactors / determinant[..., None]).unflatten(-1, (3, 3))


def _box(x: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over windows, cut off at the border: (C, H, W) -> the same, one axis after the other."""
    for kernel in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        pad = (kernel[0] // 2, kernel[1] // 2)
        x = F.avg_pool2d(x, kernel, 1, pad, count_include_pad=False)
    return x
