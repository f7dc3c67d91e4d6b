"""Target models: per object a linear projection and a 3 x 3 filter that score every location of a frame.

All objects of a video are optimized, applied and updated as one batch. Decisions that depend on pixel
counts stay on the device.

Source: andr345/frtm-vos: model/discriminator.py; Robinson et al., CVPR 2020, Sec. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from vosrepro.methods.frtm.full_resolution import FullResolutionProblem
from vosrepro.methods.frtm.memory import SampleMemory, initial_weights, updated_weights
from vosrepro.methods.frtm.solver import (
    FilterProblem,
    JointProblem,
    SolverMemory,
    Weighting,
    gather_taps,
    gauss_newton_step,
)
from vosrepro.methods.frtm.stencil import FoldedTerms, fold_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vosrepro.methods.frtm.solver import Blocks

#: Smaller masks neither balance the pixel weights nor enter the memory.
MIN_PX = 10


@dataclass(frozen=True)
class TargetSettings:
    """Everything that determines a target model, apart from the features and masks.

    Attributes:
        channels: c of the projection.
        projection: regularization and preconditioner of the projection (they are equal).
        filters: those of the filter. Both enter the *residual*: the effective weights are the squares.
        hinge: objects that cover less than this share of the frame are weighted up to it; None
            weights all pixels alike.
        forget: damping of the first conjugate direction of a run; 0 starts every run anew.
        fletcher_reeves: instead of Polak-Ribiere.
        init_iterations: of each joint Gauss-Newton step.
        update_iterations: of the filter's step at initialization and of each update.
        capacity: samples in the memory.
        every: an update of the filter after so many tracked frames.
        rate: memory learning rate.
        growth: "divide" by 1 - rate (FRTM) or "multiply" by 1 + rate (MTMFI) for each new sample.
        protect_first: never evict the annotated frame. Upstream does after about 90 frames.
        dtype: of the optimizer.
        backend: "folded", or "autograd" (the published arithmetic; slow, for measurements).
    """

    channels: int = 96
    projection: float = 1e-4
    filters: float = 1e-2
    hinge: float | None = 0.1
    forget: float = 0.9**750
    fletcher_reeves: bool = False
    init_iterations: tuple[int, ...] = (5, 10, 10, 10, 10)
    update_iterations: int = 10
    capacity: int = 80
    every: int = 8
    rate: float = 0.1
    growth: Literal["divide", "multiply"] = "divide"
    protect_first: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    backend: Literal["folded", "autograd"] = "folded"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The optimizer's number type."""
        return torch.float64 if self.dtype == "float64" else torch.float32


def pixel_weights(hard: torch.Tensor, hinge: float | None) -> torch.Tensor:
    """Square roots of the pixel weights that balance foreground and background.

    With a the foreground share and t = max(hinge, a): t / a on the foreground and (1 - t) / (1 - a) on
    the background, so objects larger than `hinge` are not reweighted.

    Args:
        hard: bool (..., H, W).
        hinge: see `TargetSettings`.
    """
    if hinge is None:
        return torch.ones(hard.shape, dtype=torch.float64, device=hard.device)
    count = hard.sum((-2, -1), keepdim=True).double()
    share = count / (hard.shape[-2] * hard.shape[-1])
    share = torch.where(count < MIN_PX, torch.full_like(share, hinge), share)
    goal = share.clamp(min=hinge)
    background = (1 - goal) / (1 - share).clamp(min=1e-12)  # a frame-filling object has none
    return torch.where(hard, goal / share, background).sqrt()


def initial_target(inputs: int, channels: int, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights before the first step: torch's default convolution initialization, on the CPU.

    Returns:
        project.weight (c, Cin, 1, 1) and filter.weight (1, c, 3, 3).
    """
    bounds = inputs**-0.5, (channels * 9) ** -0.5
    shapes = (channels, inputs, 1, 1), (1, channels, 3, 3)
    project, kernel = (
        torch.empty(shape).uniform_(-bound, bound, generator=generator)
        for shape, bound in zip(shapes, bounds, strict=True)
    )
    return project, kernel


class TargetModels:
    """Target models of all objects of a video on one feature level.

    Attributes:
        projections: (O, c, Cin).
        filters: (O, c, 9), taps in reversed row-major order (see `gather_taps`).
        current: (n, c, N), projection of the frame that was scored last, which `update` stores.
        objectives: per added batch, values (steps, n) before each Gauss-Newton step, if recorded.
    """

    def __init__(self, settings: TargetSettings, *, record: bool = False) -> None:
        self.settings = settings
        self.projections = torch.empty(0)
        self.filters = torch.empty(0)
        self.objectives: list[torch.Tensor] = []
        self.tracked: list[int] = []  # frames on which an object was scored
        self.samples = SampleMemory(settings.capacity)
        self._record = record
        self._kept = SolverMemory()
        self._size: tuple[int, int] = (0, 0)
        self.current = torch.empty(0)

    def __len__(self) -> int:
        return len(self.tracked)

    @property
    def size(self) -> tuple[int, int]:
        """H and w of the score map."""
        return self._size

    def add(
        self,
        features: torch.Tensor,
        masks: torch.Tensor,
        initial: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """Optimize the target models of new objects from their first frame.

        Args:
            features: (n, K, Cin, h, w) of K augmented views; the first is the annotated frame.
            masks: (n, K, H, W), 0 or 1.
            initial: n pairs of project.weight and filter.weight.
        """
        settings = self.settings
        self._size = (features.shape[-2], features.shape[-1])
        flat = features.flatten(3).to(settings.torch_dtype)
        terms = self._terms(masks.to(flat), pixel_weights(masks > 0, settings.hinge))
        gains = initial_weights(flat.shape[1]).to(flat)
        projection, filters = _stacked(initial, flat)
        gains = gains.expand(len(flat), -1)
        problem = self._joint(flat, terms, gains)
        point: Blocks = (projection, filters)
        kept = SolverMemory()
        values = []
        for iterations in settings.init_iterations:
            values += [problem.objective(point)] if self._record else []
            point = self._step(problem, point, iterations, kept)
        projected = point[0][:, None] @ flat
        kept = SolverMemory()  # the filter has an optimizer of its own from here on
        single = self._single(projected, terms, gains)
        values += [single.objective(point[1:])] if self._record else []
        filters = self._step(single, point[1:], settings.update_iterations, kept)[0]
        self._join(point[0], filters, kept)
        self.samples.add(projected, terms, gains)
        if self._record:
            self.objectives.append(torch.stack(values))

    def load(self, projections: torch.Tensor, filters: torch.Tensor, size: tuple[int, int]) -> None:
        """Use finished target models, without a memory: they can score but not be updated.

        Args:
            projections: (n, c, Cin, 1, 1).
            filters: (n, 1, c, 3, 3).
            size: h and w of the score map.
        """
        self._size = size
        dtype = self.settings.torch_dtype
        taps = filters.flatten(3).squeeze(1).flip(-1)
        self._join(projections.flatten(2).to(dtype), taps.to(dtype), SolverMemory())

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """project.weight (O, c, Cin, 1, 1) and filter.weight (O, 1, c, 3, 3)."""
        kernels = self.filters.flip(-1).unflatten(-1, (3, 3)).unsqueeze(1)
        return self.projections[..., None, None], kernels

    def score(self, features: torch.Tensor, rows: Sequence[int] | None = None) -> torch.Tensor:
        """Scores of the objects on a frame, whose projection is kept for `update`.

        Args:
            features: (1, Cin, h, w), or (n, Cin, h, w) with a frame for each object.
            rows: which objects (None: all); the frame counts as tracked for these only.

        Returns:
            (n, 1, h, w) of the features' number type.
        """
        index, chosen = self._rows(rows)
        flat = features.flatten(2).to(self.settings.torch_dtype)
        self.current = self.projections[index] @ flat  # (n, c, N)
        for row in chosen:
            self.tracked[row] += 1
        maps = self.filters[index].mT @ self.current
        return gather_taps(maps, self._size).view(-1, 1, *self._size).to(features.dtype)

    def update(self, soft: torch.Tensor, rows: Sequence[int] | None = None, *, now: bool = False) -> None:
        """Remember the frame that was scored last, and re-train the filters that are due.

        Args:
            soft: (n, H, W) merged soft masks of the objects that were scored last.
            rows: the objects of that call.
            now: all filters are due.
        """
        chosen = self._rows(rows)[1]
        hard = soft > 0.5
        valid = hard.sum((-2, -1)) >= MIN_PX  # (n,) on the device
        soft = soft.to(self.settings.torch_dtype)
        terms = self._terms(soft, pixel_weights(hard, self.settings.hinge))
        self.samples.insert(chosen, self.current, terms, valid, self._updated_weights)
        due = [i for i, row in enumerate(chosen) if now or self.tracked[row] % self.settings.every == 0]
        if due:
            self._retrain([chosen[i] for i in due], valid if len(due) == len(valid) else valid[due])

    def _retrain(self, chosen: list[int], valid: torch.Tensor) -> None:
        projected, terms, gains = self.samples.read(chosen)
        rows = self._rows(chosen)[0]
        kept = self._kept.select(rows)
        old = self.filters[rows]
        problem = self._single(projected, terms, gains)
        new = self._step(problem, (old,), self.settings.update_iterations, kept)[0]
        wanted = valid[:, None, None]
        self.filters[rows] = torch.where(wanted, new, old)
        before = self._kept.select(rows)
        if before.direction and before.residual and before.rho is not None:
            assert kept.direction and kept.residual and kept.rho is not None
            assert self._kept.direction and self._kept.residual and self._kept.rho is not None
            direction = torch.where(wanted, kept.direction[0], before.direction[0])
            residual = torch.where(wanted, kept.residual[0], before.residual[0])
            self._kept.direction[0][rows] = direction
            self._kept.residual[0][rows] = residual
            self._kept.rho[rows] = torch.where(valid, kept.rho, before.rho)

    def _rows(self, rows: Sequence[int] | None) -> tuple[torch.Tensor | slice, list[int]]:
        everything = list(range(len(self)))
        chosen = everything if rows is None else list(rows)
        if chosen == everything:  # a view, without a copy to the device
            return slice(None), chosen
        return torch.tensor(chosen, device=self.filters.device), chosen

    def _updated_weights(self, gains: torch.Tensor, previous: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.settings
        return updated_weights(gains, previous, rate=s.rate, growth=s.growth, protect_first=s.protect_first)

    def _step(self, problem, point: Blocks, iterations: int, kept: SolverMemory) -> Blocks:
        return gauss_newton_step(
            problem,
            point,
            iterations=iterations,
            memory=kept,
            forget=self.settings.forget,
            fletcher_reeves=self.settings.fletcher_reeves,
        )

    def _join(self, projections: torch.Tensor, filters: torch.Tensor, kept: SolverMemory) -> None:
        if not self.tracked:
            self.projections, self.filters, self._kept = projections, filters, kept
        else:
            self.projections = torch.cat([self.projections, projections])
            self.filters = torch.cat([self.filters, filters])
            assert self._kept.direction and self._kept.residual and self._kept.rho is not None
            assert kept.direction and kept.residual and kept.rho is not None
            self._kept.direction = (torch.cat([self._kept.direction[0], kept.direction[0]]),)
            self._kept.residual = (torch.cat([self._kept.residual[0], kept.residual[0]]),)
            self._kept.rho = torch.cat([self._kept.rho, kept.rho])
        self.tracked += [0] * len(projections)

    # ---------------------------------------------------------------- the two arithmetics

    def _terms(self, labels: torch.Tensor, roots: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights = roots.square().to(labels.dtype)
        if self.settings.backend == "autograd":
            return weights, labels
        return tuple(fold_terms(weights, labels, self._size))

    def _joint(self, features: torch.Tensor, terms: tuple, gains: torch.Tensor):
        s = self.settings
        projection = Weighting(s.projection, s.projection)
        filters = Weighting(s.filters, s.filters)
        if s.backend == "autograd":
            weights = terms[0] * gains[..., None, None]
            return FullResolutionProblem(features, weights, terms[1], self._size, weightings=(projection, filters))
        folded = _scaled(terms, gains)
        return JointProblem(features, folded, self._size, projection=projection, filters=filters)

    def _single(self, projected: torch.Tensor, terms: tuple, gains: torch.Tensor):
        filters = Weighting(self.settings.filters, self.settings.filters)
        if self.settings.backend == "autograd":
            weights = terms[0] * gains[..., None, None]
            return FullResolutionProblem(projected, weights, terms[1], self._size, weightings=(filters,))
        return FilterProblem(projected, _scaled(terms, gains), self._size, filters=filters)


def _scaled(terms: tuple[torch.Tensor, ...], gains: torch.Tensor) -> FoldedTerms:
    stencil, linear, constant = terms
    return FoldedTerms(stencil * gains[..., None, None], linear * gains[..., None], constant * gains)


def _stacked(
    initial: Sequence[tuple[torch.Tensor, torch.Tensor]], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    projection = torch.stack([p.flatten(1) for p, _ in initial]).to(like)
    kernels = torch.stack([k[0].flatten(1) for _, k in initial]).to(like)
    return projection, kernels.flip(-1)
