"""Naming the classes of single images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

#: Of TensorFlow's ImageNet models, which put a background class before the thousand.
_WITH_BACKGROUND = 1001


@dataclass(frozen=True)
class Classifier:
    """What names classes.

    Attributes:
        logits: RGB float32 (B, 3, H, W) in [0, 1] -> (B, outputs).
        outputs: how many classes the weights know, with the background if there is one.
    """

    logits: Callable[[torch.Tensor], torch.Tensor]
    outputs: int

    @property
    def classes(self) -> int:
        """How many classes beside the background."""
        return self.outputs - background(self.outputs)


def background(outputs: int) -> int:
    """How many outputs come before that of class 0: 1 for TensorFlow's 1001 classes, else 0."""
    return 1 if outputs == _WITH_BACKGROUND else 0
