"""The encoders of the space-time memory networks: ResNets up to their third stage, and how these normalize."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import nn

from vosrepro.methods.common.resnet import BasicBlock, Bottleneck, ResNet

EncoderNorm = Literal["frozen_bn", "batch", "group"]
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


def norm_layer(norm: EncoderNorm, channels: int) -> nn.Module:
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


class ResNetEncoder(ResNet):
    """A ResNet up to its third stage, returning the features of all three.

    Args:
        c_in: input channels (3 for frames; masks follow).
        width: channels of the stem and planes of the first stage (64 in ResNet-50).
        blocks: blocks per stage (3, 4, 6 in ResNet-50).
        stages: names of the stages in the state dict.
        bias: whether convolutions have a bias.
        norm: see `norm_layer`.
        block: kind of the residual blocks.
        last_stride: stride of the third stage: outputs at strides 4, 8, 16, or 4, 8, 8 if it is 1.
    """

    def __init__(
        self,
        c_in: int,
        *,
        width: int,
        blocks: tuple[int, int, int],
        stages: tuple[str, str, str],
        bias: bool,
        norm: EncoderNorm,
        block: Block = "bottleneck",
        last_stride: int = 2,
    ) -> None:
        super().__init__(
            c_in,
            block={"bottleneck": Bottleneck, "basic": BasicBlock}[block],
            counts=blocks,
            width=width,
            strides=(1, 2, last_stride),
            names=stages,
            norm=partial(norm_layer, norm),
            bias=bias,
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, c_in, H, W) -> features of the stages, finest first."""
        return self.after_conv1(self.conv1(x))

    def after_conv1(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All but the first convolution: (B, width, H / 2, W / 2) -> features of the stages."""
        fine, middle, coarse = self.stages(self.stem(x))
        return fine, middle, coarse
