"""Features of a frame at several strides: a small network, ResNet-50-v2 or torchvision's ResNet-50, and an FPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.resnet import IMAGENET_MEAN, IMAGENET_STD
from vosrepro.methods.parts.resnet import ResNet50v2, glorot

BackboneName = Literal["small", "resnet50v2", "resnet50"]


class SmallNet(nn.Module):
    """Four groups of two convolutions with BN and ReLU at strides 2, 4, 8, 16."""

    strides = (2, 4, 8, 16)

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 64)) -> None:
        super().__init__()
        self.channels = tuple(widths)
        inputs = 3
        for level, width in enumerate(widths):
            self.add_module(f"layer{level + 1}", _Group(inputs, width))
            inputs = width

    def normalized(self, frames: torch.Tensor) -> torch.Tensor:
        """RGB in [0, 1] to about zero mean and unit spread."""
        return (frames - 0.45) * 4

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Normalized images (B, 3, H, W) -> four maps."""
        found = []
        for level in range(4):
            x = self.get_submodule(f"layer{level + 1}")(x)
            found.append(x)
        return found


class _Group(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(x)))


class ResNet50v1(nn.Module):
    """torchvision's post-activation ResNet-50 under its own key names; the start without ImageNet at hand.

    Not `common.resnet`, whose weights are drawn otherwise: what the rest of the network draws would change with it.

    Args:
        weights: a name of torchvision's weights ("IMAGENET1K_V1"), or None for random ones.
    """

    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        from torchvision.models import resnet50

        body = resnet50(weights=weights)
        for name, child in body.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, child)

    def normalized(self, frames: torch.Tensor) -> torch.Tensor:
        """ImageNet's usual mean and spread."""
        mean, std = (frames.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (frames - mean) / std

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Normalized images -> C2..C5."""
        parts = dict(self.named_children())
        x = parts["maxpool"](parts["relu"](parts["bn1"](parts["conv1"](x))))
        found = []
        for level in range(1, 5):
            x = parts[f"layer{level}"](x)
            found.append(x)
        return found


def make_backbone(
    name: BackboneName, *, widths: Sequence[int] = (16, 32, 64, 64), weights: str | None = None
) -> SmallNet | ResNet50v2 | ResNet50v1:
    """A backbone by name.

    Raises:
        ConfigError: if there is none of this name.
    """
    if name == "small":
        return SmallNet(widths)
    if name == "resnet50v2":
        return ResNet50v2()
    if name == "resnet50":
        return ResNet50v1(weights)
    raise ConfigError(f"backbone '{name}' must be small, resnet50v2 or resnet50")


class FPN(nn.Module):
    """Feature pyramid: 1x1 laterals, nearest upsampling, 3x3 outputs, as torchvision's.

    Source: Lin et al., CVPR 2017. Deviation from the seed's variant: it upsampled bilinearly, fed raw sums of
    pre-activation groups, and had no 3x3 convolution on the top level.

    Args:
        channels: of the maps, finest first.
        width: D, of every output.
        normalize: BN and ReLU before the laterals, for a pre-activation backbone (`fpn_norm`).
    """

    def __init__(self, channels: Sequence[int], width: int, *, normalize: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels) if normalize else None
        self.inner = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.outer = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        glorot(self.inner)
        glorot(self.outer)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps of several strides, finest first -> as many maps of `width` channels."""
        if self.norms is not None:
            maps = [F.relu(norm(x)) for norm, x in zip(self.norms, maps, strict=True)]
        lateral = [layer(x) for layer, x in zip(self.inner, maps, strict=True)]
        for i in range(len(lateral) - 1, 0, -1):
            size = lateral[i - 1].shape[-2:]
            lateral[i - 1] = lateral[i - 1] + F.interpolate(lateral[i], size, mode="nearest")
        return [layer(x) for layer, x in zip(self.outer, lateral, strict=True)]
