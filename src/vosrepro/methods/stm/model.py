"""Mask-Propagation's space-time memory network, at any width and depth."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.resnet import IMAGENET_MEAN, IMAGENET_STD
from vosrepro.methods.stm.encoders import Block, EncoderNorm, ResNetEncoder
from vosrepro.methods.stm.network import QueryFeatures, SpaceTimeNetwork, side_by_side


class KeyValue(nn.Module):
    """Two 3x3 projections of the coarsest features."""

    def __init__(self, c_in: int, key_dim: int, value_dim: int) -> None:
        """Build both projections."""
        super().__init__()
        self.key_proj = nn.Conv2d(c_in, key_dim, 3, padding=1)
        self.val_proj = nn.Conv2d(c_in, value_dim, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, c_in, h, w) -> key (B, C_k, h, w) and value (B, C_v, h, w)."""
        return self.key_proj(x), self.val_proj(x)


class ResBlock(nn.Module):
    """Pre-activation residual block; its shortcut sees the input before the ReLU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build from `c_in` to `c_out` channels."""
        super().__init__()
        self.downsample = nn.Conv2d(c_in, c_out, 3, padding=1) if c_in != c_out else None
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        return y + (x if self.downsample is None else self.downsample(x))


class UpsampleBlock(nn.Module):
    """Brings the object's features to the resolution of the frame's and adds both."""

    def __init__(self, c_skip: int, c_up: int, c_out: int) -> None:
        """Build for skip features of `c_skip` and coarse features of `c_up` channels."""
        super().__init__()
        self.skip_conv1 = nn.Conv2d(c_skip, c_up, 3, padding=1)
        self.skip_conv2 = ResBlock(c_up, c_up)
        self.out_conv = ResBlock(c_up, c_out)

    def skip(self, x: torch.Tensor) -> torch.Tensor:
        """The frame's part: (B, c_skip, H, W) -> (B, c_up, H, W)."""
        return self.skip_conv2(self.skip_conv1(x))

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The object's part: skip (B, c_up, 2H, 2W), x (B, c_up, H, W) -> (B, c_out, 2H, 2W)."""
        if x.shape[-2:] != skip.shape[-2:]:
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.out_conv(skip + x)


class Decoder(nn.Module):
    """From read-out and query value to one logit per pixel."""

    def __init__(self, c_in: int, c_middle: int, c_fine: int, dim: int) -> None:
        """Build.

        Args:
            c_in: read-out plus query value channels.
            c_middle: channels of the frame's features at twice the resolution.
            c_fine: the same at four times the resolution.
            dim: width of the finest level.
        """
        super().__init__()
        self.compress = ResBlock(c_in, 2 * dim)
        self.up_16_8 = UpsampleBlock(c_middle, 2 * dim, dim)
        self.up_8_4 = UpsampleBlock(c_fine, dim, dim)
        self.pred = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, skip_middle: torch.Tensor, skip_fine: torch.Tensor) -> torch.Tensor:
        """(B, c_in, h, w) and skips of `UpsampleBlock.skip` -> logits (B, H, W)."""
        x = self.compress(x)
        x = self.up_16_8(skip_middle, x)
        x = self.up_8_4(skip_fine, x)
        x = self.pred(F.relu(x))
        return F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)[:, 0]


class STM(SpaceTimeNetwork):
    """Space-time memory network; at its default arguments, MiVOS' propagation network (597 keys).

    Attributes:
        key_dim: C_k.
        multi_object: whether the memory encoder sees the other objects' masks (5 input channels).

    Source: Cheng et al., CVPR 2021; hkchengrex/Mask-Propagation: model/network.py.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        *,
        objects: int = 2,
        width: int = 64,
        blocks: tuple[int, int, int] = (3, 4, 6),
        key_dim: int = 128,
        value_dim: int = 512,
        decoder_dim: int = 256,
        norm: EncoderNorm = "frozen_bn",
        block: Block = "bottleneck",
        memory_stride: int = 16,
        channels_last: bool = False,
    ) -> None:
        """Build with random weights.

        Args:
            objects: 1 for the single-object network of stage 0, else the mask of the others is an input.
            width: channels of the encoders' stems; 64 is ResNet-50's.
            blocks: residual blocks in the encoders' three stages.
            key_dim: channels of keys.
            value_dim: channels of values.
            decoder_dim: channels of the finest decoder level.
            norm: see `encoders.norm_layer`.
            block: residual blocks of the encoders.
            memory_stride: pixels per memory cell, 16 (published) or 8 (no stride in the third stages).
            channels_last: keep weights, and so feature maps, with channels innermost (faster for
                narrow networks on the CPU and for half precision on the GPU).
        """
        super().__init__()
        if memory_stride not in (8, 16):
            raise ConfigError(f"memory_stride must be 8 or 16, not {memory_stride}")
        self.stride = memory_stride
        self.key_dim = key_dim
        self.multi_object = objects > 1
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

        def encoder(c_in: int, first: str, *, bias: bool) -> ResNetEncoder:
            return ResNetEncoder(
                c_in,
                width=width,
                blocks=(blocks[0], blocks[1], blocks[2]),
                stages=(first, "layer2", "layer3"),
                bias=bias,
                norm=norm,
                block=block,
                last_stride=memory_stride // 8,
            )

        self.mask_rgb_encoder = encoder(5 if self.multi_object else 4, "layer1", bias=True)
        self.rgb_encoder = encoder(3, "res2", bias=False)
        fine, middle, coarse = self.rgb_encoder.stage_channels
        self.kv_m_f16 = KeyValue(coarse, key_dim, value_dim)
        self.kv_q_f16 = KeyValue(coarse, key_dim, value_dim)
        self.decoder = Decoder(2 * value_dim, middle, fine, decoder_dim)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """RGB (..., 3, H, W) in [0, 1] -> the network's input; pad with zeros *after* this."""
        return (frames - self.mean) / self.std

    def encode_query(self, frames: torch.Tensor) -> QueryFeatures:
        """Everything of a frame that does not depend on an object.

        Args:
            frames: (B, 3, H, W), normalized and padded.
        """
        fine, middle, coarse = self.rgb_encoder(frames)
        key, value = self.kv_q_f16(coarse)
        return QueryFeatures(
            key=key.flatten(2).transpose(1, 2),
            value=value,
            skip_middle=self.decoder.up_16_8.skip(middle),
            skip_fine=self.decoder.up_8_4.skip(fine),
        )

    def encode_memory(self, frames: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a frame with the masks of its objects.

        Args:
            frames: (B, 3, H, W), normalized and padded.
            masks: (B, K, H, W) probabilities; each object's others are the sum of the rest. A
                single-object network sees each object alone.

        Returns:
            key (B * K, h * w, C_k), scaled by 1/sqrt(C_k), and value (B * K, h * w, C_v).
        """
        objects = masks.shape[1]
        inputs = [frames[:, None].expand(-1, objects, -1, -1, -1), masks[:, :, None]]
        if self.multi_object:
            inputs.append((masks.sum(dim=1, keepdim=True) - masks)[:, :, None])
        x = torch.cat(inputs, dim=2).flatten(0, 1)
        key, value = self.kv_m_f16(self.mask_rgb_encoder(x)[2])
        key = key.flatten(2).transpose(1, 2) / math.sqrt(self.key_dim)
        return key, value.flatten(2).transpose(1, 2)

    def decode(self, readout: torch.Tensor, query: QueryFeatures) -> torch.Tensor:
        """Logits of all objects.

        Args:
            readout: (B * K, h * w, C_v), objects of one frame side by side.
            query: features of the B frames.

        Returns:
            (B * K, H, W) at padded full resolution.
        """
        x, middle, fine = side_by_side(readout, query)
        return self.decoder(x, middle, fine)
