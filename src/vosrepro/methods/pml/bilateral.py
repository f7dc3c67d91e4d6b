"""The bilateral solver in matrix-free torch: an edge-aware smoothing of per-pixel targets.

Pixels that are near in position and color share a vertex of a sparse 5-D grid. The solver finds the vertex
values that stay near the targets and vary little between neighbouring vertices.

Source: Barron & Poole, ECCV 2016; poolio/bilateral_solver: notebooks/bilateral_solver.ipynb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

_BISTOCHASTIC_STEPS = 10
_SELF_WEIGHT = 10.0  # of a vertex in its own blur: one for each of its 10 possible neighbours


class BilateralGrid:
    """The occupied vertices of one guide image and who neighbours whom.

    Attributes:
        vertex: int64 (H * W,): the vertex of each pixel.
        vertices: their number.
        place: int64 (vertices,): the vertex that has a given rank among the sorted grid keys (x fastest).
        n: (vertices,) the scaling that makes the blur doubly stochastic.
        m: (vertices,) the row sums after it.
    """

    def __init__(
        self,
        guide: torch.Tensor,
        *,
        spatial_px: float = 8.0,
        luma: float = 4.0,
        chroma: float = 4.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        """Build the grid.

        Args:
            guide: (H, W, 3) RGB in 0..255.
            spatial_px: bin width of both positions.
            luma: bin width of the luma, in 0..255.
            chroma: bin width of both chroma channels.
            dtype: of all later computation; binning is always float64, because a bin edge is.
        """
        self.dtype = dtype
        key, strides = _keys(guide, spatial_px=spatial_px, luma=luma, chroma=chroma)
        known, vertex = torch.unique(key, return_inverse=True)
        self.vertices = len(known)
        self.place, self._slots = _neighbors(known, strides)
        self.vertex = self.place.index_select(0, vertex)
        mass = torch.bincount(self.vertex, minlength=self.vertices).to(dtype)
        self.n = torch.ones_like(mass)
        for _ in range(_BISTOCHASTIC_STEPS):
            self.n = torch.sqrt(self.n * mass / self.blur(self.n))
        self.m = self.n * self.blur(self.n)

    def splat(self, x: torch.Tensor) -> torch.Tensor:
        """Sum the pixels of each vertex: (H * W,) -> (vertices,)."""
        total = x.new_zeros(self.vertices, dtype=self.dtype)
        return total.index_add_(0, self.vertex, x.to(self.dtype))

    def slice(self, y: torch.Tensor) -> torch.Tensor:
        """Copy each vertex to its pixels: (vertices,) -> (H * W,)."""
        return y.index_select(0, self.vertex)

    def around(self, y: torch.Tensor) -> torch.Tensor:
        """Sum of the existing neighbours: (vertices,) -> the same."""
        total = torch.zeros_like(y)
        for slot in self._slots:
            total[: len(slot)] += y.index_select(0, slot)
        return total

    def blur(self, y: torch.Tensor) -> torch.Tensor:
        """Ten times the vertex plus its existing neighbours: (vertices,) -> the same."""
        return self.around(y).add_(y, alpha=_SELF_WEIGHT)


def _keys(
    guide: torch.Tensor, *, spatial_px: float, luma: float, chroma: float
) -> tuple[torch.Tensor, list[int]]:
    """Mixed-radix vertex key of each pixel, x fastest, and the key distance of a step along each axis."""
    height, width = guide.shape[:2]
    red, green, blue = guide.permute(2, 0, 1).contiguous().to(torch.float64)
    # The offset comes last: a grey pixel then has a chroma of exactly 128, which is a bin edge.
    axes = (
        (0.299 * red + 0.587 * green + 0.114 * blue, luma),
        (0.5 * blue - 0.331264 * green - 0.168736 * red + 128, chroma),
        (0.5 * red - 0.418688 * green - 0.081312 * blue + 128, chroma),
    )
    x_bins, y_bins = (
        torch.arange(size, device=guide.device).div(spatial_px, rounding_mode="floor").long()
        for size in (width, height)
    )
    strides = [1, int(x_bins[-1]) + 2]  # one guard bin: the next bin of the last one never aliases
    # Below 2^53 a float64 key is exact, and floor is far cheaper than a conversion per axis.
    key = (x_bins[None] + y_bins[:, None] * strides[1]).to(torch.float64)
    step = strides[1] * (int(y_bins[-1]) + 2)
    for values, bin_width in axes:
        bins = values.div_(bin_width).floor_()
        low, high = (int(v) for v in bins.aminmax())
        key.add_(bins.sub_(low), alpha=step)
        strides.append(step)
        step *= high - low + 2
    return key.flatten().long(), strides


def _neighbors(known: torch.Tensor, strides: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Who neighbours whom, with the vertices renumbered by falling number of neighbours.

    Of the ten possible neighbours of a vertex about three exist. In this order the s-th neighbours of all
    vertices that have one belong to the first vertices, so a blur touches nothing that is not there.

    Returns:
        int64 (vertices,): the new number of each vertex of `known`; and for s = 0, 1, ... the s-th
        neighbour of each of the first vertices.
    """
    count = len(known)
    degree = torch.zeros_like(known)
    packed = known.new_zeros(2 * len(strides) * count)
    for stride in strides:
        wanted = known + stride
        found = _search_sorted(known, wanted).clamp_(max=count - 1)
        lower = (known.index_select(0, found) == wanted).nonzero()[:, 0]
        upper = found.index_select(0, lower)
        for one, other in ((lower, upper), (upper, lower)):
            have = degree.index_select(0, one)
            packed.scatter_(0, one.add(have, alpha=count), other)
            degree.scatter_(0, one, have + 1)
    by_degree = [(degree == d).nonzero()[:, 0] for d in range(2 * len(strides), -1, -1)]
    order = torch.cat(by_degree)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(count, device=known.device))
    # The s-th neighbour exists for all vertices but those with at most s of them.
    sizes = np.cumsum([len(part) for part in by_degree])[:-1][::-1].tolist()
    slots = [
        place.index_select(0, packed[s * count : (s + 1) * count].index_select(0, order[:size]))
        for s, size in enumerate(sizes)
        if size
    ]
    return place, slots


def _search_sorted(known: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    if known.is_cuda:
        return torch.searchsorted(known, wanted)
    return torch.from_numpy(np.searchsorted(known.numpy(), wanted.numpy()))  # twice as fast


class Solution(NamedTuple):
    """What the solver found."""

    values: torch.Tensor  # (T, H, W)
    iterations: int  # of the target that took longest


def solve(
    grid: BilateralGrid,
    target: torch.Tensor,
    confidence: torch.Tensor | float,
    *,
    smoothness: float = 128.0,
    diagonal_min: float = 1e-5,
    tolerance: float = 1e-5,
    max_iterations: int = 25,
) -> Solution:
    """Smooth targets along the guide.

    Args:
        grid: of the guide image.
        target: (T, H, W); the targets share the grid.
        confidence: trust in the target, positive; a number or (H, W).
        smoothness: lambda.
        diagonal_min: lower bound of the preconditioner's diagonal.
        tolerance: stop when the residual is below this share of the right side's norm.
        max_iterations: of conjugate gradients. With lambda 128 they run out before the tolerance is
            reached, so the result depends on them.

    Returns:
        Values of the grid's dtype. The seed's confidence of 13/65535 needs a float64 grid.
    """
    if isinstance(confidence, torch.Tensor):
        weight = confidence.flatten().to(grid.dtype)
    else:
        pixels = target.shape[1] * target.shape[2]
        weight = torch.full((pixels,), confidence, dtype=grid.dtype, device=target.device)
    trust = grid.splat(weight)
    diagonal = smoothness * (grid.m - _SELF_WEIGHT * grid.n.square()) + trust
    inverse = 1 / diagonal.clamp_min(diagonal_min)
    edges = smoothness * grid.n

    def system(y: torch.Tensor) -> torch.Tensor:
        return (diagonal * y).addcmul_(edges, grid.around(grid.n * y), value=-1)

    values, iterations = [], 0
    for one in target.flatten(1):
        right = grid.splat(one.to(grid.dtype) * weight)
        start = right / trust.clamp_min(torch.finfo(trust.dtype).tiny)
        y, count = _conjugate_gradients(system, right, start, inverse, tolerance, max_iterations)
        values.append(grid.slice(y))
        iterations = max(iterations, count)
    return Solution(torch.stack(values).view(target.shape), iterations)


def _conjugate_gradients(
    system: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    y: torch.Tensor,
    inverse: torch.Tensor,
    tolerance: float,
    max_iterations: int,
) -> tuple[torch.Tensor, int]:
    """Conjugate gradients with a diagonal preconditioner; the solution and the iterations done."""
    y = y.clone()
    residual = right - system(y)
    limit = tolerance * float(right.norm())
    direction, rho = residual, 1.0
    for iteration in range(max_iterations):
        if float(residual.norm()) <= limit:
            return y, iteration
        z = inverse * residual
        last, rho = rho, float(torch.dot(residual, z))
        direction = z if iteration == 0 else z.add_(direction, alpha=rho / last)
        product = system(direction)
        step = rho / float(torch.dot(direction, product))
        y.add_(direction, alpha=step)
        residual.sub_(product, alpha=step)
    return y, max_iterations


def bilateral_filter(grid: BilateralGrid, target: torch.Tensor) -> torch.Tensor:
    """Normalized splat, blur and slice of targets (T, H, W): a bilateral filter without a solve."""
    mass = torch.bincount(grid.vertex, minlength=grid.vertices).to(grid.dtype)
    weights = grid.blur(mass)
    values = [grid.slice(grid.blur(grid.splat(one)) / weights) for one in target.flatten(1)]
    return torch.stack(values).view(target.shape)
