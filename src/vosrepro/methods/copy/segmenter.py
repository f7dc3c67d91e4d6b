"""The whole method: remember the label map, return it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vosrepro.methods.common.masks import first_objects, late_objects, one_hot

if TYPE_CHECKING:
    from torch import nn


class CopySegmenter:
    """Answers every frame with the first masks; an object that begins later is drawn over them."""

    def __init__(self, model: nn.Module | None = None) -> None:  # noqa: ARG002, an argument of every segmenter
        """Take no model; the argument is there because every segmenter has it."""
        self._labels: torch.Tensor | None = None
        self._objects = 0

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Remember the first mask (H, W) uint8."""
        self._objects = first_objects(frame, mask)
        self._labels = mask.clone()

    def correct(self, frame: torch.Tensor, mask: torch.Tensor) -> None:  # noqa: ARG002, an argument of the trait
        """Remember this mask instead."""
        self._objects = max(self._objects, int(mask.max()))
        self._labels = mask.clone()

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Return the remembered masks as 0/1 probabilities (N+1, H, W)."""
        if self._labels is None:
            raise RuntimeError("init must be called before step")
        if new is not None:
            self._objects = late_objects(frame, new, present=self._objects)
            self._labels = torch.where(new > 0, new, self._labels)
        return one_hot(self._labels, range(self._objects + 1))
