"""The published way to optimize a target model: residuals at image size and double backward passes.

Kept to measure what the folded operator saves and to test that both minimize the same objective; it is
never the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from vosrepro.methods.frtm.solver import Blocks, Weighting


class FullResolutionProblem:
    """Least squares over all pixels of all samples, with products by automatic differentiation.

    Args:
        features: (O, K, C, N): backbone features if the unknowns are (projection, filter), projected
            samples if the filter is the only unknown.
        weights: (O, K, H, W), squares of the pixel weights, times the sample weights.
        labels: (O, K, H, W).
        size: h and w of the score map, h * w = N.
        weightings: regularization and preconditioner of each unknown.
    """

    def __init__(
        self,
        features: torch.Tensor,
        weights: torch.Tensor,
        labels: torch.Tensor,
        size: tuple[int, int],
        *,
        weightings: tuple[Weighting, ...],
    ) -> None:
        self.weightings = weightings
        with torch.inference_mode(mode=False):  # tensors made under inference mode cannot be differentiated
            self._features, weights, self._labels = (x.clone() for x in (features, weights, labels))
            self._root = weights.sqrt()
        self._size = size
        self._point: list[torch.Tensor] = []
        self._probe: list[torch.Tensor] = []
        self._backward: tuple[torch.Tensor, ...] = ()
        self._residual: list[torch.Tensor] = []

    def linearize(self, point: Blocks) -> Blocks:
        """Record the residual and its transposed product; return -J' f."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            self._point = [z.clone().requires_grad_() for z in point]
            self._residual = self._residuals(self._point)
            self._probe = [torch.zeros_like(f, requires_grad=True) for f in self._residual]
            self._backward = torch.autograd.grad(self._residual, self._point, self._probe, create_graph=True)
        return self._transposed([f.detach() for f in self._residual], negate=True)

    def normal(self, direction: Blocks) -> Blocks:
        """J' (J direction): a forward product by differentiating the backward one, then a backward one."""
        with torch.inference_mode(mode=False):
            forward = torch.autograd.grad(
                self._backward, self._probe, [d.clone() for d in direction], retain_graph=True
            )
        return self._transposed(list(forward), negate=False)

    def objective(self, point: Blocks) -> torch.Tensor:
        """(O,) value of the objective at a point."""
        return sum(f.pow(2).flatten(1).sum(1) for f in self._residuals(list(point)))  # type: ignore[return-value]

    def _transposed(self, vectors: list[torch.Tensor], *, negate: bool) -> Blocks:
        with torch.inference_mode(mode=False):
            products = torch.autograd.grad(self._residual, self._point, vectors, retain_graph=True)
        return tuple(-p if negate else p for p in products)

    def _residuals(self, point: list[torch.Tensor]) -> list[torch.Tensor]:
        objects, samples = self._features.shape[:2]
        projected = self._features
        if len(point) == 2:
            projected = point[0][:, None] @ self._features
        kernels = point[-1].flip(-1).unflatten(-1, (3, 3))  # (O, c, 3, 3)
        maps = projected.unflatten(-1, self._size).transpose(0, 1).flatten(1, 2)  # (K, O c, h, w)
        score = F.conv2d(maps, kernels, padding=1, groups=objects).transpose(0, 1)  # (O, K, h, w)
        wide = F.interpolate(score, self._labels.shape[-2:], mode="bilinear", align_corners=False)
        data = self._root * (wide - self._labels)
        assert data.shape[1] == samples
        return [data, *(w.decay * z for w, z in zip(self.weightings, point, strict=True))]
