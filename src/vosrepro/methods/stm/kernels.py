"""The Gaussian kernel of the kernelized memory network, as a bias of the similarity logits."""

from __future__ import annotations

import torch


def kernel_bias(logits: torch.Tensor, grid: tuple[int, int], *, sigma: float) -> torch.Tensor:
    """Minus half the squared distance to each memory cell's best query cell, over sigma squared.

    Args:
        logits: (K, Q, N) similarities.
        grid: (h, w) of the query cells, row-major, h * w = Q.
        sigma: standard deviation in cells.

    Returns:
        (K, Q, N): 0 at the best query cell of a memory cell, falling with the distance. Adding it to
        the logits multiplies their exponentials by the (unnormalized) Gaussian, without underflow.

    Source: Seong et al., ECCV 2020, Sec. 3.2.
    """
    height, width = grid
    best = logits.argmax(dim=1)  # (K, N)
    rows = torch.div(best, width, rounding_mode="floor").to(logits.dtype)
    columns = (best % width).to(logits.dtype)
    y = torch.arange(height, device=logits.device, dtype=logits.dtype)
    x = torch.arange(width, device=logits.device, dtype=logits.dtype)
    # The exponent is separable: (K, h, 1, N) + (K, 1, w, N).
    scale = -0.5 / sigma**2
    vertical = (y[:, None] - rows[:, None]).square() * scale
    horizontal = (x[:, None] - columns[:, None]).square() * scale
    return (vertical[:, :, None] + horizontal[:, None]).flatten(1, 2)
