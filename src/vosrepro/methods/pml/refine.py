"""Post-processing: from upsampled votes to probabilities that follow the image's edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vosrepro.base.errors import ConfigError
from vosrepro.methods.pml.bilateral import BilateralGrid, bilateral_filter, solve
from vosrepro.methods.pml.guided import guided_filter

#: What the seed's `13 / 65535` is: it wrote 2^16-1, which Python reads as 2 xor 15.
SEED_CONFIDENCE = 13 / 65535


@dataclass(frozen=True)
class Refinement:
    """Settings of the post-processing.

    Attributes:
        kind: "none", "solver" (bilateral solver), "filter" (bilateral filter without a solve) or
            "guided" (guided filter).
        threshold: an object's value above which a pixel belongs to it.
        spatial_px, luma, chroma: bin widths of the bilateral grid.
        smoothness: lambda of the solver.
        confidence: trust in the votes, the same at every pixel; the seed's is `SEED_CONFIDENCE`.
        max_iterations: of the solver.
        rescale_by_max: divide the map by its maximum before and after, as the seed does: the level is
            lost and a single stray cell is amplified to 1 (quirk).
        double: compute in float64, which the seed's confidence needs.
        radius_px: of the guided filter.
        edge: color difference of the guided filter, in [0, 1].
    """

    kind: Literal["none", "solver", "filter", "guided"] = "none"
    threshold: float = 0.5
    spatial_px: float = 8.0
    luma: float = 4.0
    chroma: float = 4.0
    smoothness: float = 128.0
    confidence: float = 1.0
    max_iterations: int = 25
    rescale_by_max: bool = False
    double: bool = True
    radius_px: int = 8
    edge: float = 0.02

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: naming the value.
        """
        if self.kind not in ("none", "solver", "filter", "guided"):
            raise ConfigError(f"there is no post-processing '{self.kind}': use none, solver, filter or guided")
        if not 0 < self.threshold < 1 or self.confidence <= 0:
            raise ConfigError(
                f"threshold {self.threshold} must lie between 0 and 1 and confidence {self.confidence} above 0"
            )

    def apply(self, frame: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Refine the objects' maps and make a distribution of them.

        Args:
            frame: (3, H, W) RGB in [0, 1].
            maps: (N, H, W) in [0, 1], one per object.

        Returns:
            float32 (N + 1, H, W), background first, summing to 1. With one object, it wins exactly where
            its refined value exceeds the threshold.

        Source: sydney0zq/PML: net/bs.py for one object; several objects are refined alike on one grid.
        """
        if self.rescale_by_max:
            maps = _by_max(maps)
        if self.kind == "guided":
            maps = guided_filter(frame, maps, radius_px=self.radius_px, edge=self.edge)
        elif self.kind != "none":
            maps = self._bilateral(frame, maps)
        if self.rescale_by_max and self.kind != "none":
            maps = _by_max(maps)
        return _distribution(maps.float().clamp(0, 1), self.threshold)

    def _bilateral(self, frame: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        grid = BilateralGrid(
            (frame * 255).round().permute(1, 2, 0),
            spatial_px=self.spatial_px,
            luma=self.luma,
            chroma=self.chroma,
            dtype=torch.float64 if self.double else torch.float32,
        )
        if self.kind == "filter":
            return bilateral_filter(grid, maps)
        return solve(
            grid,
            maps,
            self.confidence,
            smoothness=self.smoothness,
            max_iterations=self.max_iterations,
        ).values


def _by_max(maps: torch.Tensor) -> torch.Tensor:
    """Divide each map by its maximum; an empty one stays empty (the seed's becomes NaN, then empty)."""
    largest = maps.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, maps / torch.where(largest > 0, largest, 1), 0)


def _distribution(objects: torch.Tensor, threshold: float) -> torch.Tensor:
    """Probabilities from objects' values (N, H, W): values are bent so that the threshold maps to 1/2."""
    if threshold != 0.5:
        below = objects / (2 * threshold)
        above = 1 - (1 - objects) / (2 * (1 - threshold))
        objects = torch.where(objects > threshold, above, below)
    background = (1 - objects.sum(0, keepdim=True)).clamp_min(0)
    joint = torch.cat([background, objects])
    return joint / joint.sum(0, keepdim=True)
