"""The truncated ResNets of the space-time memory networks, at any width and depth."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Norm = Literal["frozen_bn", "batch", "group"]
Block = Literal["bottleneck", "basic"]

#: Channels normalized together. Source: Wu and He, ECCV 2018, Tab. 3 (16 channels a group are best).
_GROUP_CHANNELS = 16


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that always uses its stored statistics; scale and shift stay trainable.

    Source: hkchengrex/Mask-Propagation: model/model.py (the network is in eval mode in all stages).
    """

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:  # noqa: ARG002, torch gives it
        """Ignore the mode: there is only one."""
        return super().train(False)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A normalization of this many channels.

    "frozen_bn" is what the published networks use, and needs pre-trained statistics; "batch" and "group"
    are for networks that start from random weights.
    """
    if norm == "frozen_bn":
        layer = FrozenBatchNorm2d(channels)
        return layer.train(False)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, max(1, channels // _GROUP_CHANNELS)), channels)


class Bottleneck(nn.Module):
    """ResNet bottleneck with the stride on its 3x3 convolution (torchvision's "v1.5")."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int, *, bias: bool, norm: Norm) -> None:
        """Build from `c_in` to `4 * planes` channels."""
        super().__init__()
        c_out = planes * self.expansion
        self.conv1 = nn.Conv2d(c_in, planes, 1, bias=bias)
        self.bn1 = norm_layer(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=bias)
        self.bn2 = norm_layer(norm, planes)
        self.conv3 = nn.Conv2d(planes, c_out, 1, bias=bias)
        self.bn3 = norm_layer(norm, c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(c_in, c_out, stride, bias=bias, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) -> (B, 4 * planes, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """ResNet block of two 3x3 convolutions, for the small networks."""

    expansion = 1

    def __init__(self, c_in: int, planes: int, stride: int, *, bias: bool, norm: Norm) -> None:
        """Build from `c_in` to `planes` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, planes, 3, stride, 1, bias=bias)
        self.bn1 = norm_layer(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=bias)
        self.bn2 = norm_layer(norm, planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(c_in, planes, stride, bias=bias, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) -> (B, planes, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetEncoder(nn.Module):
    """A ResNet up to its third stage, returning the features of all three.

    Attributes:
        channels: of the three outputs.
        stages: names of the three stages in the state dict.
    """

    def __init__(
        self,
        c_in: int,
        *,
        width: int,
        blocks: tuple[int, int, int],
        stages: tuple[str, str, str],
        bias: bool,
        norm: Norm,
        block: Block = "bottleneck",
        last_stride: int = 2,
    ) -> None:
        """Build the network.

        Args:
            c_in: input channels (3 for frames; masks follow).
            width: channels of the stem and planes of the first stage (64 in ResNet-50).
            blocks: blocks per stage (3, 4, 6 in ResNet-50).
            stages: names of the stages.
            bias: whether convolutions have a bias.
            norm: see `norm_layer`.
            block: kind of the residual blocks.
            last_stride: stride of the third stage: outputs at strides 4, 8, 16, or 4, 8, 8 if it is 1.
        """
        super().__init__()
        kind = {"bottleneck": Bottleneck, "basic": BasicBlock}[block]
        self.conv1 = nn.Conv2d(c_in, width, 7, 2, 3, bias=bias)
        self.bn1 = norm_layer(norm, width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = stages
        self.channels = tuple(width * kind.expansion * 2**i for i in range(3))
        c_last = width
        for i, (name, count) in enumerate(zip(stages, blocks, strict=True)):
            stage = nn.Sequential()
            for b in range(count):
                stride = (1, 2, last_stride)[i] if b == 0 else 1
                stage.append(kind(c_last, width * 2**i, stride, bias=bias, norm=norm))
                c_last = self.channels[i]
            self.add_module(name, stage)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, c_in, H, W) -> features of the stages, finest first."""
        return self.after_conv1(self.conv1(x))

    def after_conv1(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All but the first convolution: (B, width, H / 2, W / 2) -> features of the stages."""
        x = self.maxpool(self.relu(self.bn1(x)))
        fine = getattr(self, self.stages[0])(x)
        middle = getattr(self, self.stages[1])(fine)
        return fine, middle, getattr(self, self.stages[2])(middle)


def _shortcut(c_in: int, c_out: int, stride: int, *, bias: bool, norm: Norm) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=bias), norm_layer(norm, c_out))
