"""The Gaussian kernel of the kernelized memory network, as a bias of the similarity logits."""

from __future__ import annotations

import torch


def kernel_bias(
    best: torch.Tensor, grid: tuple[int, int], *, sigma: float, begin: int = 0, rows: int | None = None
) -> torch.Tensor:
    """Minus half the squared distance to each memory cell's best query cell, over sigma squared.

    Args:
        best: int64 (K, N), for each memory cell the most similar query cell.
        grid: (h, w) of the query cells, row-major, h * w = Q.
        sigma: standard deviation in cells.
        begin: the first query cell that is wanted.
        rows: how many are; None for all from there.

    Returns:
        float32 (K, rows, N): 0 at the best query cell of a memory cell, falling with the distance. Adding it to
        the logits multiplies their exponentials by the (unnormalized) Gaussian, without underflow.

    Source: Seong et al., ECCV 2020, Sec. 3.2.
    """
    height, width = grid
    cells = torch.arange(begin, height * width if rows is None else begin + rows, device=best.device)
    scale = -0.5 / sigma**2
    bias = torch.zeros(1, device=best.device)
    for of_cells, of_best in (
        (torch.div(cells, width, rounding_mode="floor"), torch.div(best, width, rounding_mode="floor")),
        (cells % width, best % width),
    ):
        bias = bias + (of_cells[:, None] - of_best[:, None]).float().square() * scale
    return bias
