"""The bilateral solver in matrix-free torch: an edge-aware smoothing of per-pixel targets.

Pixels that are near in position and color share a vertex of a sparse 5-D grid. The solver finds the vertex
values that stay near the targets and vary little between neighbouring vertices.

Source: Barron & Poole, ECCV 2016; poolio/bilateral_solver: notebooks/bilateral_solver.ipynb.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch

_BISTOCHASTIC_STEPS = 10
_SELF_WEIGHT = 10.0  # of a vertex in its own blur: one for each of its 10 possible neighbours
#: The coefficients of luma and chroma are integers of this unit, so that sums of them are exact.
_COLOR_UNIT = 1e6
_LUMA, _BLUE, _RED = (
    (299000, 587000, 114000),
    (-168736, -331264, 500000),
    (500000, -418688, -81312),
)


class BilateralGrid:
    """The occupied vertices of one guide image and who neighbours whom.

    Attributes:
        vertex: int64 (H * W,): the vertex of each pixel.
        vertices: their number.
        place: int64 (vertices,): the vertex that has a given rank among the sorted grid keys (x fastest).
        mass: (vertices,) pixels of each vertex.
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
            guide: (H, W, 3) RGB, integers 0..255.
            spatial_px: bin width of both positions.
            luma: bin width of the luma, in 0..255.
            chroma: bin width of both chroma channels.
            dtype: of all later computation; binning is exact.
        """
        self.dtype = dtype
        key, strides = _keys(guide, spatial_px=spatial_px, luma=luma, chroma=chroma)
        known, rank = torch.unique(key, return_inverse=True)
        self.vertices = len(known)
        self.place, self._begin, self._neighbor = _neighbors(known.long(), strides)
        self.vertex = self.place.index_select(0, rank)
        self.mass = torch.bincount(self.vertex, minlength=self.vertices).to(dtype)
        self.n = torch.ones_like(self.mass)
        self._blur = self.matrix(torch.full_like(self.n, _SELF_WEIGHT), self.n.new_ones(len(self._neighbor)))
        for _ in range(_BISTOCHASTIC_STEPS):
            self.n = torch.sqrt(self.n * self.mass / self.blur(self.n))
        self.m = self.n * self.blur(self.n)

    def splat(self, x: torch.Tensor) -> torch.Tensor:
        """Sum the pixels of each vertex: (H * W,) -> (vertices,)."""
        return torch.bincount(self.vertex, x.to(self.dtype), minlength=self.vertices)

    def slice(self, y: torch.Tensor) -> torch.Tensor:
        """Copy each vertex to its pixels: (vertices,) -> (H * W,)."""
        return y.index_select(0, self.vertex)

    def blur(self, y: torch.Tensor) -> torch.Tensor:
        """Ten times the vertex plus its existing neighbours: (vertices,) -> the same."""
        return self._blur @ y

    def matrix(self, diagonal: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
        """A sparse matrix of (vertices,) values on the diagonal and (links,) values off it.

        The values of the diagonal in `links` are not used.
        """
        values = links.index_copy(0, self._begin[:-1].long(), diagonal)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)  # "is in beta state"
            return torch.sparse_csr_tensor(
                self._begin,
                self._neighbor,
                values,
                (self.vertices, self.vertices),
                check_invariants=False,
            )

    def between(self, y: torch.Tensor) -> torch.Tensor:
        """The product of both ends' values (vertices,) for each link, in the order of `matrix`."""
        ends = y.index_select(0, self._neighbor)
        return ends.mul_(y.repeat_interleave(self._begin.diff(), output_size=len(ends)))


def _keys(guide: torch.Tensor, *, spatial_px: float, luma: float, chroma: float) -> tuple[torch.Tensor, list[int]]:
    """Mixed-radix vertex key of each pixel, x fastest, and the key distance of a step along each axis.

    Integer combinations of integer colors are exact in float64, and so are the bins. In floating-point
    coefficients every grey pixel lies on a bin edge, 128, give or take the rounding of that machine.
    """
    height, width = guide.shape[:2]
    red, green, blue = guide.permute(2, 0, 1).contiguous().to(torch.float64)
    x_bins, y_bins = (
        torch.arange(size, device=guide.device).div(spatial_px, rounding_mode="floor").long()
        for size in (width, height)
    )
    strides = [1, int(x_bins[-1]) + 2]  # one guard bin: the next bin of the last one never aliases
    # Below 2^53 a float64 key is exact, and floor is far cheaper than a conversion per axis.
    key = (x_bins[None] + y_bins[:, None] * strides[1]).to(torch.float64)
    step = strides[1] * (int(y_bins[-1]) + 2)
    for (r, g, b), offset, bin_width in (
        (_LUMA, 0, luma),
        (_BLUE, 128, chroma),
        (_RED, 128, chroma),
    ):
        bins = (red * r).add_(green, alpha=g).add_(blue, alpha=b).add_(offset * _COLOR_UNIT)
        bins.div_(bin_width * _COLOR_UNIT).floor_()
        low, high = (int(v) for v in bins.aminmax())
        key.add_(bins.sub_(low), alpha=step)
        strides.append(step)
        step *= high - low + 2
    narrow = torch.int32 if step < 2**31 else torch.int64  # sorts in half the time
    return key.flatten().to(narrow), strides


def _neighbors(known: torch.Tensor, strides: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Who neighbours whom, in compressed rows, with the vertices renumbered by their number of neighbours.

    In this order the lengths of the rows can be foreseen, which makes a product three times as fast.

    Returns:
        int64 (vertices,): the new number of each vertex of `known`; int32 (vertices + 1,): where the
        links of each begin; int32 (links,): where they lead, first to the vertex itself.
    """
    up = [_pairs(known, stride) for stride in strides]
    directions = [*up, *((upper, lower) for lower, upper in up)]
    count = torch.bincount(torch.cat([rows for rows, _ in directions]), minlength=len(known))
    count, order = torch.sort(count.to(torch.uint8), stable=True)
    new = torch.arange(len(order), device=order.device)
    place = torch.empty_like(order).scatter_(0, order, new)
    begin = torch.nn.functional.pad((count.long() + 1).cumsum(0), (1, 0))
    neighbor = torch.empty(int(begin[-1]), dtype=torch.int32, device=known.device)
    neighbor.scatter_(0, begin[:-1], new.int())
    free = begin.index_select(0, place)
    for rows, columns in directions:
        at = free.index_select(0, rows) + 1
        neighbor.scatter_(0, at, place.index_select(0, columns).int())
        free.scatter_(0, rows, at)
    return place, begin.int(), neighbor


def _pairs(known: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks of the keys for which another one lies `stride` above, and of those; both int64 (pairs,)."""
    if known.is_cuda:
        wanted = known + stride
        found = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
        lower = (known.index_select(0, found) == wanted).nonzero()[:, 0]
        return lower, found.index_select(0, lower)
    # Even numbers are the keys, odd ones what is looked for; a stable sort merges sorted runs.
    even = 2 * known.numpy()
    merged = np.sort(np.concatenate([even, even + (2 * stride + 1)]), kind="stable")
    odd = merged & 1
    hit = np.flatnonzero(merged[1:] - merged[:-1] + odd[:-1] == 1)
    lower = np.cumsum(odd)[hit]
    return torch.from_numpy(lower), torch.from_numpy(hit - lower)


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
    weight: torch.Tensor | float = confidence
    if isinstance(confidence, torch.Tensor):
        weight = confidence.flatten().to(grid.dtype)
        trust = grid.splat(weight)
    else:
        trust = grid.mass * confidence
    diagonal = smoothness * (grid.m - _SELF_WEIGHT * grid.n.square()) + trust
    # Scaled by the preconditioner's root on both sides, the iterates are the same and the products fewer.
    scale = diagonal.clamp_min(diagonal_min).rsqrt_()
    links = grid.between(grid.n * scale).mul_(-smoothness)
    system = grid.matrix(diagonal * scale.square(), links)
    values, iterations = [], 0
    for one in target.flatten(1):
        right = grid.splat(one.to(grid.dtype) * weight)
        start = right / trust.clamp_min(torch.finfo(trust.dtype).tiny)
        y, count = _conjugate_gradients(system, scale, right, start, tolerance, max_iterations)
        values.append(grid.slice(y))
        iterations = max(iterations, count)
    return Solution(torch.stack(values).view(target.shape), iterations)


def _conjugate_gradients(
    system: torch.Tensor,
    scale: torch.Tensor,
    right: torch.Tensor,
    y: torch.Tensor,
    tolerance: float,
    max_iterations: int,
) -> tuple[torch.Tensor, int]:
    """Solve A y = right for `system` = scale * A * scale; the solution and the iterations done."""
    u = y / scale
    residual = right * scale - system @ u
    limit = tolerance * float(right.norm())
    widest = float(scale.max())
    direction, last = torch.zeros_like(u), 1.0
    for iteration in range(max_iterations):
        rho = float(torch.dot(residual, residual))
        # The criterion is the norm of the unscaled residual, which is at least sqrt(rho) / widest.
        if rho <= (limit * widest) ** 2 and float((residual / scale).norm()) <= limit:
            return u * scale, iteration
        direction.mul_(rho / last).add_(residual)
        product = system @ direction
        step = rho / float(torch.dot(direction, product))
        u.add_(direction, alpha=step)
        residual.sub_(product, alpha=step)
        last = rho
    return u.mul_(scale), max_iterations


def bilateral_filter(grid: BilateralGrid, target: torch.Tensor) -> torch.Tensor:
    """Normalized splat, blur and slice of targets (T, H, W): a bilateral filter without a solve."""
    weights = grid.blur(grid.mass)
    values = [grid.slice(grid.blur(grid.splat(one)) / weights) for one in target.flatten(1)]
    return torch.stack(values).view(target.shape)
