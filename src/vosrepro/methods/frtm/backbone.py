"""ResNet features of all levels.

Level names follow the upstream's count: "layer2" (stride 4) is torchvision's `layer1`, ..., "layer5" (stride
32) is `layer4`. The narrow networks of the mini study are the same code with fewer channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.resnet import IMAGENET_MEAN, IMAGENET_STD, BasicBlock, Bottleneck, ResNet

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Shallow to deep.
LEVELS = ("layer2", "layer3", "layer4", "layer5")

_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}


class Backbone(ResNet):
    """A ResNet without its classifier.

    Args:
        name: "resnet18", "resnet101", or "resnet10" (one block per level; ours).
        width: channels of the first level; 64 in the published networks.
        stem_stride: 4 as published, or 2 (without max-pooling) for small frames: all levels are then
            twice as fine.
        level_strides: of the four levels; (1, 2, 2, 2) as published.
        norm: "batch" as published, or "group" (ours) where no pretrained statistics exist.
        frozen: no gradient, and statistics never change.

    Raises:
        ConfigError: if there is no such network.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        name: str = "resnet18",
        *,
        width: int = 64,
        stem_stride: Literal[2, 4] = 4,
        level_strides: Sequence[int] = (1, 2, 2, 2),
        norm: Literal["batch", "group"] = "batch",
        frozen: bool = True,
    ) -> None:
        if name not in _BLOCKS:
            raise ConfigError(f"there is no backbone '{name}': known are {', '.join(_BLOCKS)}")
        super().__init__(
            block=Bottleneck if name == "resnet101" else BasicBlock,
            counts=_BLOCKS[name],
            width=width,
            strides=level_strides,
            norm=nn.BatchNorm2d if norm == "batch" else group_norm,
            pool=stem_stride == 4,
            shortcut_first=True,
        )
        self.name, self.frozen = name, frozen
        self.channels: dict[str, int] = dict(zip(LEVELS, self.stage_channels, strict=True))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        if frozen:
            self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features of all levels by name.

        Args:
            images: (B, 3, H, W), RGB in [0, 1].
        """
        return self.deep(self.shallow(images))

    def shallow(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Levels "layer2" and "layer3" only (the reuse gate looks at these)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = ((images - self.mean) / self.std).to(self.conv1.weight.dtype)
            return dict(zip(LEVELS, self.stages(self.stem(self.conv1(x)), stop=2), strict=False))

    def deep(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All levels from the shallow ones."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return {**features, **dict(zip(LEVELS[2:], self.stages(features["layer3"], start=2), strict=True))}

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode if frozen."""
        return super().train(mode and not self.frozen)


def group_norm(channels: int) -> nn.Module:
    """Normalization over groups of channels: 8, or fewer where that does not divide them."""
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)
