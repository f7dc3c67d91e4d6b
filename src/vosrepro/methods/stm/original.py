"""The first space-time memory network (STM, ICCV 2019), for its released weights: 558 keys."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.methods.common.resnet import IMAGENET_MEAN, IMAGENET_STD
from vosrepro.methods.stm.encoders import ResNetEncoder
from vosrepro.methods.stm.network import QueryFeatures, SpaceTimeNetwork, side_by_side

_KEY_DIM, _VALUE_DIM, _DIM = 128, 512, 256


class FrameEncoder(ResNetEncoder):
    """ResNet-50 to its third stage; normalizes its input, so that padding is black."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__(
            3,
            width=64,
            blocks=(3, 4, 6),
            stages=("res2", "res3", "res4"),
            bias=False,
            norm="frozen_bn",
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """RGB (B, 3, H, W) in [0, 1] -> features of the three stages."""
        return self.after_conv1(self.conv1((x - self.mean) / self.std))


class MaskEncoder(FrameEncoder):
    """The same with two more first convolutions, for the object's mask and for the others'."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.conv1_m = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.conv1_o = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def encode(self, x: torch.Tensor, mask: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Coarsest features of frames (B, 3, H, W) with masks (B, 1, H, W)."""
        image = self.conv1((x - self.mean) / self.std)
        return self.after_conv1(image + self.conv1_m(mask) + self.conv1_o(others))[2]


class OriginalKeyValue(nn.Module):
    """Two 3x3 projections of the coarsest features."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.Key = nn.Conv2d(1024, _KEY_DIM, 3, padding=1)
        self.Value = nn.Conv2d(1024, _VALUE_DIM, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1024, h, w) -> key and value maps."""
        return self.Key(x), self.Value(x)


class OriginalResBlock(nn.Module):
    """Pre-activation residual block at the decoder's width."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(_DIM, _DIM, 3, padding=1)
        self.conv2 = nn.Conv2d(_DIM, _DIM, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class OriginalRefine(nn.Module):
    """Doubles the resolution and adds the frame's features."""

    def __init__(self, c_skip: int) -> None:
        """Build for skip features of this many channels."""
        super().__init__()
        self.convFS = nn.Conv2d(c_skip, _DIM, 3, padding=1)
        self.ResFS = OriginalResBlock()
        self.ResMM = OriginalResBlock()

    def skip(self, x: torch.Tensor) -> torch.Tensor:
        """The frame's part."""
        return self.ResFS(self.convFS(x))

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The object's part."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.ResMM(skip + x)


class OriginalDecoder(nn.Module):
    """From read-out and query value to two channels per pixel."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.convFM = nn.Conv2d(2 * _VALUE_DIM, _DIM, 3, padding=1)
        self.ResMM = OriginalResBlock()
        self.RF3 = OriginalRefine(512)
        self.RF2 = OriginalRefine(256)
        self.pred2 = nn.Conv2d(_DIM, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, skip_middle: torch.Tensor, skip_fine: torch.Tensor) -> torch.Tensor:
        """Logits (B, H, W): object minus background, whose sigmoid is the softmax of both."""
        x = self.ResMM(self.convFM(x))
        x = self.RF2(skip_fine, self.RF3(skip_middle, x))
        x = self.pred2(F.relu(x))
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        return x[:, 1] - x[:, 0]


class OriginalSTM(SpaceTimeNetwork):
    """The network of Oh et al.; module names are those of its released weights.

    Source: Oh et al., ICCV 2019; facts of seoungwugoh/STM: model.py.
    Deviation: aggregation runs over the objects that exist, not over eleven channels of which the rest
        have odds of 1e-7.
    """

    aggregates_first = False
    keeps_border = False

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.Encoder_M = MaskEncoder()
        self.Encoder_Q = FrameEncoder()
        self.KV_M_r4 = OriginalKeyValue()
        self.KV_Q_r4 = OriginalKeyValue()
        self.Decoder = OriginalDecoder()

    def normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """The identity: the encoders normalize, after padding."""
        return frames

    def encode_query(self, frames: torch.Tensor) -> QueryFeatures:
        """See `SpaceTimeNetwork`."""
        fine, middle, coarse = self.Encoder_Q(frames)
        key, value = self.KV_Q_r4(coarse)
        return QueryFeatures(
            key=key.flatten(2).transpose(1, 2),
            value=value,
            skip_middle=self.Decoder.RF3.skip(middle),
            skip_fine=self.Decoder.RF2.skip(fine),
        )

    def encode_memory(self, frames: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `SpaceTimeNetwork`."""
        others = (masks.sum(dim=1, keepdim=True) - masks).clamp(0, 1)
        frames = frames.repeat_interleave(masks.shape[1], dim=0)
        features = self.Encoder_M.encode(frames, masks.flatten(0, 1)[:, None], others.flatten(0, 1)[:, None])
        key, value = self.KV_M_r4(features)
        key = key.flatten(2).transpose(1, 2) / math.sqrt(_KEY_DIM)
        return key, value.flatten(2).transpose(1, 2)

    def decode(self, readout: torch.Tensor, query: QueryFeatures) -> torch.Tensor:
        """See `SpaceTimeNetwork`."""
        return self.Decoder(*side_by_side(readout, query))
