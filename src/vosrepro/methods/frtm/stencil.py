"""The data term of a target model, folded exactly onto the low-resolution score map.

The published objective compares the *upsampled* score with the label at image size. Upsampling U is a
fixed linear map and the pixel weights v are fixed per sample, so

    sum_pixels v^2 (U s - y)^2  =  s' M s - 2 s' c + const,     M = U' diag(v^2) U,   c = U' (v^2 y).

Bilinear hats overlap direct neighbors only: M is a 3 x 3 stencil per low-resolution pixel. Nothing of image
size is touched while the target model is optimized, and nothing of image size is remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch.nn import functional as F


class FoldedTerms(NamedTuple):
    """Data terms of samples; the leading dimensions are free.

    Attributes:
        stencil: (..., 9, h * w): weight of the neighbor at row-major offset -1..1 of each pixel.
        linear: (..., h * w).
        constant: (...), the value of the data term at a zero score.
    """

    stencil: torch.Tensor
    linear: torch.Tensor
    constant: torch.Tensor


def fold_terms(weights: torch.Tensor, labels: torch.Tensor, size: tuple[int, int]) -> FoldedTerms:
    """Fold upsampling and pixel weights into a stencil.

    Args:
        weights: (..., H, W), squares of the pixel weights.
        labels: (..., H, W), wanted score, in [0, 1].
        size: h and w of the score map.
    """
    height, width = weights.shape[-2:]
    rows = _neighbor_products(size[0], height, weights.dtype, weights.device)
    columns = _neighbor_products(size[1], width, weights.dtype, weights.device)
    upsample_y = _upsampling(size[0], height, weights.dtype, weights.device)
    upsample_x = _upsampling(size[1], width, weights.dtype, weights.device)
    blocks = rows @ weights @ columns.T  # (..., 3 h, 3 w)
    blocks = blocks.unflatten(-1, (3, size[1])).unflatten(-3, (3, size[0]))  # (..., 3, h, 3, w)
    stencil = blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)  # (..., 9, h * w)
    weighted = weights * labels
    linear = (upsample_y.T @ weighted @ upsample_x).flatten(-2)
    return FoldedTerms(stencil.contiguous(), linear, (weighted * labels).sum((-2, -1)))


def apply_stencil(stencil: torch.Tensor, score: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """M s for scores (N, h * w) and stencils (N, 9, h * w)."""
    neighbors = F.unfold(score.view(-1, 1, *size), 3, padding=1)
    return (stencil * neighbors).sum(1)


@lru_cache(maxsize=32)
def _upsampling(small: int, large: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(large, small): bilinear interpolation along one axis as a matrix."""
    with torch.inference_mode(mode=False):
        identity = torch.eye(small, dtype=torch.float64)[None]
        matrix = F.interpolate(identity, large, mode="linear", align_corners=False)[0].T
        return matrix.to(device=device, dtype=dtype).contiguous()


@lru_cache(maxsize=32)
def _neighbor_products(small: int, large: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(3 * small, large): products of each hat function with its left, own and right neighbor."""
    with torch.inference_mode(mode=False):
        hats = _upsampling(small, large, torch.float64, torch.device("cpu")).T  # (small, large)
        padded = F.pad(hats, (0, 0, 1, 1))
        products = [hats * padded[i : i + small] for i in range(3)]
        return torch.cat(products).to(device=device, dtype=dtype).contiguous()
