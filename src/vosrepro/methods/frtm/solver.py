"""Gauss-Newton with preconditioned conjugate gradients, for many small least-squares problems at once.

Every problem (object) of a batch has its own step lengths; the arithmetic is batched matrix products at
the size of the score map. Nothing here waits for the device.

Source: Robinson et al., CVPR 2020, Sec. 3.2; Danelljan et al., CVPR 2019 (ATOM) for the optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

from vosrepro.methods.frtm.stencil import FoldedTerms, apply_stencil

#: The unknowns: (projection (O, c, Cin), filter (O, c, 9)), or the filter alone.
Blocks = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Weighting:
    """Regularization and preconditioner of one kind of unknown.

    Attributes:
        decay: factor of the unknown in the *residual*; its square is the effective weight.
        diagonal: what the residual of conjugate gradients is divided by.
    """

    decay: float
    diagonal: float


@dataclass
class SolverMemory:
    """What conjugate gradients keep between runs: direction, last <r, q>, last residual."""

    direction: Blocks | None = None
    rho: torch.Tensor | None = None  # (O,)
    residual: Blocks | None = None

    def select(self, rows: torch.Tensor | slice) -> SolverMemory:
        """The state of some objects."""
        if self.direction is None or self.rho is None or self.residual is None:
            return SolverMemory()
        pick = lambda blocks: tuple(b[rows] for b in blocks)  # noqa: E731
        return SolverMemory(pick(self.direction), self.rho[rows], pick(self.residual))


class Problem(Protocol):
    """A batch of non-linear least-squares problems."""

    weightings: tuple[Weighting, ...]

    def linearize(self, point: Blocks) -> Blocks:
        """Move to a point and return -J' f there."""
        ...

    def normal(self, direction: Blocks) -> Blocks:
        """J' J times a direction, at the last point."""
        ...


def gauss_newton_step(
    problem: Problem,
    point: Blocks,
    *,
    iterations: int,
    memory: SolverMemory,
    forget: float,
    fletcher_reeves: bool = False,
) -> Blocks:
    """One Gauss-Newton step of full length, by a fixed number of conjugate-gradient iterations.

    Args:
        problem: is left linearized at `point`.
        iterations: always all of them are done.
        memory: is updated in place. With `forget` > 0 the first direction is conjugate to the last one
            of the previous run, damped by `forget`; with 0 every run starts anew.
        fletcher_reeves: use the Fletcher-Reeves rule instead of Polak-Ribiere.
    """
    residual = problem.linearize(point)
    step = tuple(torch.zeros_like(b) for b in residual)
    if forget == 0:
        memory.direction = memory.rho = memory.residual = None
    damping = forget
    for iteration in range(iterations):
        scaled = tuple(r / w.diagonal for r, w in zip(residual, problem.weightings, strict=True))
        rho = _inner(residual, scaled)
        direction = scaled
        if memory.direction is not None and memory.rho is not None and memory.residual is not None:
            fresh = rho if fletcher_reeves else rho - _inner(memory.residual, scaled)
            beta = (_ratio(fresh, memory.rho) * damping).clamp(min=0)
            direction = _add(scaled, beta, memory.direction)
        damping = 1.0  # only the first direction of a run looks back to the run before
        product = problem.normal(direction)
        alpha = _ratio(rho, _inner(direction, product))
        step = _add(step, alpha, direction)
        memory.direction, memory.rho, memory.residual = direction, rho, residual
        if iteration < iterations - 1:
            residual = _add(residual, -alpha, product)
    return tuple(p + s for p, s in zip(point, step, strict=True))


class JointProblem:
    """Projection and filter of O objects from K samples each, on folded data terms.

    The score is bilinear in the unknowns, s = taps(w' P X). Folding the nine taps into the projection
    first (w' P is 9 x Cin) makes J and J' products of 9 rows instead of c.

    Args:
        features: (O, K, Cin, N) backbone features, N = h * w.
        terms: data terms (O, K, ...) that are already multiplied by the sample weights.
        size: h and w.
        projection: its regularization and preconditioner.
        filters: those of the filter.
    """

    def __init__(
        self,
        features: torch.Tensor,
        terms: FoldedTerms,
        size: tuple[int, int],
        *,
        projection: Weighting,
        filters: Weighting,
    ) -> None:
        self.weightings = (projection, filters)
        self._inputs = features.shape[2]
        self._features = features
        self._terms = _Data(terms, size)
        self._stacked = features
        self._point: Blocks = ()

    def linearize(self, point: Blocks) -> Blocks:
        """Project the samples, stack them below the features, and return -J' f."""
        projection, filters = point
        self._point = point
        projected = projection[:, None] @ self._features  # (O, K, c, N)
        self._stacked = torch.cat([self._features, projected], dim=2)
        maps = filters.mT[:, None] @ projected
        gradient = self._adjoint(self._terms.gradient(maps))
        return tuple(-(g + w.decay**2 * z) for g, w, z in zip(gradient, self.weightings, point, strict=True))

    def normal(self, direction: Blocks) -> Blocks:
        """J' J direction."""
        filters = self._point[1]
        d_projection, d_filters = direction
        rows = torch.cat([filters.mT @ d_projection, d_filters.mT], dim=2)  # (O, 9, Cin + c)
        product = self._adjoint(self._terms.curvature(rows[:, None] @ self._stacked))
        return tuple(g + w.decay**2 * d for g, w, d in zip(product, self.weightings, direction, strict=True))

    def objective(self, point: Blocks) -> torch.Tensor:
        """(O,) value of the objective at a point."""
        projection, filters = point
        maps = (filters.mT @ projection)[:, None] @ self._features
        return self._terms.value(maps) + _decay(self.weightings, point)

    def _adjoint(self, shifted: torch.Tensor) -> Blocks:
        rows = (shifted @ self._stacked.mT).sum(1)  # (O, 9, Cin + c)
        filters = self._point[1]
        return filters @ rows[..., : self._inputs], rows[..., self._inputs :].mT


class FilterProblem:
    """The filter alone: linear least squares on projected samples.

    Args:
        projected: (O, K, c, N).
        terms: data terms (O, K, ...) that are already multiplied by the sample weights.
        size: h and w.
        filters: regularization and preconditioner.
    """

    def __init__(
        self,
        projected: torch.Tensor,
        terms: FoldedTerms,
        size: tuple[int, int],
        *,
        filters: Weighting,
    ) -> None:
        self.weightings = (filters,)
        self._projected = projected
        self._terms = _Data(terms, size)

    def linearize(self, point: Blocks) -> Blocks:
        """Return -J' f at a point."""
        gradient = self._adjoint(self._terms.gradient(self._maps(point[0])))
        return (-(gradient + self.weightings[0].decay ** 2 * point[0]),)

    def normal(self, direction: Blocks) -> Blocks:
        """J' J direction."""
        product = self._adjoint(self._terms.curvature(self._maps(direction[0])))
        return (product + self.weightings[0].decay ** 2 * direction[0],)

    def objective(self, point: Blocks) -> torch.Tensor:
        """(O,) value of the objective at a point."""
        return self._terms.value(self._maps(point[0])) + _decay(self.weightings, point)

    def _maps(self, filters: torch.Tensor) -> torch.Tensor:
        return filters.mT[:, None] @ self._projected  # (O, K, 9, N)

    def _adjoint(self, shifted: torch.Tensor) -> torch.Tensor:
        return (shifted @ self._projected.mT).sum(1).mT


class _Data:
    """The quadratic data term of O x K samples, in terms of nine unshifted tap maps."""

    def __init__(self, terms: FoldedTerms, size: tuple[int, int]) -> None:
        self._size = size
        self._stencil = terms.stencil.flatten(0, 1)  # (O * K, 9, N)
        self._linear = terms.linear.flatten(0, 1)
        self._constant = terms.constant

    def gradient(self, maps: torch.Tensor) -> torch.Tensor:
        score = gather_taps(maps.flatten(0, 1), self._size)
        slope = apply_stencil(self._stencil, score, self._size) - self._linear
        return self._scatter(slope, maps)

    def curvature(self, maps: torch.Tensor) -> torch.Tensor:
        score = gather_taps(maps.flatten(0, 1), self._size)
        return self._scatter(apply_stencil(self._stencil, score, self._size), maps)

    def value(self, maps: torch.Tensor) -> torch.Tensor:
        score = gather_taps(maps.flatten(0, 1), self._size)
        quadratic = (score * (apply_stencil(self._stencil, score, self._size) - 2 * self._linear)).sum(1)
        return (quadratic.view(maps.shape[:2]) + self._constant).sum(1)

    def _scatter(self, score: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return scatter_taps(score, self._size).view_as(like)


def gather_taps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Sum of nine maps (N, 9, h * w), each moved by its tap; zero outside.

    Taps are in *reversed* row-major order: index 0 is the lower right one.
    """
    return F.fold(maps, size, 3, padding=1).flatten(1)


def scatter_taps(score: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Adjoint of `gather_taps`: (N, h * w) -> (N, 9, h * w)."""
    return F.unfold(score.view(-1, 1, *size), 3, padding=1)


def _inner(a: Blocks, b: Blocks) -> torch.Tensor:
    return sum((x * y).sum((-2, -1)) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _add(a: Blocks, factor: torch.Tensor, b: Blocks) -> Blocks:
    return tuple(x + factor[:, None, None] * y for x, y in zip(a, b, strict=True))


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A / b, and 0 where b is 0 (a solved problem stays where it is)."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)


def _decay(weightings: tuple[Weighting, ...], point: Blocks) -> torch.Tensor:
    pairs = zip(weightings, point, strict=True)
    return sum(w.decay**2 * (z * z).sum((-2, -1)) for w, z in pairs)  # type: ignore[return-value]
