"""ResNet features of all levels, with torchvision's key names so that its weights load as they are.

Level names follow the upstream's count: "layer2" (stride 4) is torchvision's `layer1`, ..., "layer5" (stride
32) is `layer4`. The narrow networks of the mini study are the same code with fewer channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Shallow to deep.
LEVELS = ("layer2", "layer3", "layer4", "layer5")

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}

Norm = "Callable[[int], nn.Module]"


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, *, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = norm(planes)
        self.downsample = _shortcut(inputs, planes, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which carries the stride) and 1 x 1 convolutions around a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, *, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, 4 planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class Backbone(nn.Module):
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
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

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
        super().__init__()
        if name not in _BLOCKS:
            raise ConfigError(f"there is no backbone '{name}': known are {', '.join(_BLOCKS)}")
        make = nn.BatchNorm2d if norm == "batch" else group_norm
        self.name, self.frozen = name, frozen
        self._pool = stem_stride == 4
        block = Bottleneck if name == "resnet101" else BasicBlock
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = make(width)
        inputs = width
        self.channels: dict[str, int] = {}
        for number, count in enumerate(_BLOCKS[name]):
            planes = width * 2**number
            blocks = []
            for index in range(count):
                stride = level_strides[number] if index == 0 else 1
                blocks.append(block(inputs, planes, stride=stride, norm=make))
                inputs = planes * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
            self.channels[LEVELS[number]] = inputs
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
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
            x = F.relu(self.bn1(self.conv1(x)))
            x = F.max_pool2d(x, 3, 2, 1) if self._pool else x
            x = self.layer1(x)
            return {"layer2": x, "layer3": self.layer2(x)}

    def deep(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All levels from the shallow ones."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.layer3(features["layer3"])
            return {**features, "layer4": x, "layer5": self.layer4(x)}

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode if frozen."""
        return super().train(mode and not self.frozen)


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """Torchvision's ImageNet weights (V1) without the classifier.

    Raises:
        CheckpointError: if the file is neither in torch's hub folder nor can be fetched.
    """
    from torchvision.models import get_weight

    label = {"resnet18": "ResNet18_Weights", "resnet101": "ResNet101_Weights"}.get(name)
    if label is None:
        raise CheckpointError(f"there are no ImageNet weights of '{name}': use pretrained: false")
    weights = get_weight(f"{label}.IMAGENET1K_V1")
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise CheckpointError(
            f"the ImageNet weights of {name} are missing ({error}): put {weights.url.split('/')[-1]} "
            f"from {weights.url} into {folder}"
        ) from error
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _shortcut(inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


def group_norm(channels: int) -> nn.Module:
    """Normalization over groups of channels: 8, or fewer where that does not divide them."""
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)
