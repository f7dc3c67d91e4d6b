"""Padding of frames to a multiple of the network's stride, and cropping back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Padding:
    """Pixels added on each side: the smaller half of an odd amount goes left and to the top."""

    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def to_multiple(cls, height: int, width: int, *, multiple: int) -> Padding:
        """The padding that brings both sides up to the next multiple."""
        extra_h = -height % multiple
        extra_w = -width % multiple
        return cls(extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Pad the last two dimensions with zeros."""
        if not any((self.left, self.right, self.top, self.bottom)):
            return x
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def crop(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `apply`."""
        height, width = x.shape[-2:]
        return x[..., self.top : height - self.bottom, self.left : width - self.right]
