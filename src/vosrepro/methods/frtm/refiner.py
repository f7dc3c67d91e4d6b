"""The segmentation network: from scores at low resolution to a mask at image size, shared by all objects.

Module names are upstream's, so that released weights load by name. Works for any number of objects at
once; what does not depend on the object is computed once per frame.

Source: andr345/frtm-vos: model/seg_network.py; Robinson et al., CVPR 2020, Sec. 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.methods.frtm.backbone import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Deep to shallow.
ORDER = LEVELS[::-1]


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear, pixel centers not aligned to corners; nothing if the size fits."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class TSE(nn.Module):
    """Target segmentation encoder of one level: reduced features and scores, mixed.

    Args:
        inputs: channels of the backbone level.
        channels: of the output.
        scores: score maps per object.
    """

    def __init__(self, inputs: int, channels: int, *, scores: int) -> None:
        super().__init__()
        wide = channels + scores
        self.reduce = nn.Sequential(nn.Conv2d(inputs, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        self.transform = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 3, padding=1),
            nn.ReLU(),
        )

    def forward(
        self, features: torch.Tensor, scores: torch.Tensor, deeper: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and the deeper features for the channel attention.

        Args:
            features: (1 or O, inputs, h, w).
            scores: (O, scores, h, w), at this level's size.
            deeper: output of the deeper level, None at the deepest.
        """
        reduced = self.reduce(features)
        if deeper is None:
            deeper = F.adaptive_avg_pool2d(reduced, 1)
        return self._mixed(reduced, scores), deeper

    def _mixed(self, reduced: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # A convolution of (features, scores) is the sum of two; features are the same for all objects.
        first = self.transform[0]
        assert isinstance(first, nn.Conv2d)
        count = reduced.shape[1]
        shared = F.conv2d(reduced, first.weight[:, :count], first.bias, padding=1)
        return self.transform[1:](shared + F.conv2d(scores, first.weight[:, count:], padding=1))


class CAB(nn.Module):
    """Channel attention: the deeper level decides which channels of the shallower count."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convreluconv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, deeper: torch.Tensor, shallower: torch.Tensor) -> torch.Tensor:
        """(1 or O, channels, h', w') and (O, channels, h, w) -> (O, channels, h, w)."""
        pooled = [F.adaptive_avg_pool2d(x, 1) for x in (shallower, deeper)]
        pooled[1] = pooled[1].expand_as(pooled[0])
        attention = torch.sigmoid(self.convreluconv(torch.cat(pooled, 1)))
        return shallower * attention + resize(deeper, shallower.shape[-2:])


class RRB(nn.Module):
    """Refinement residual block."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(inputs, channels, 1)
        self.bblock = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(O, inputs, h, w) -> (O, channels, h, w)."""
        x = self.conv1x1(x)
        return F.relu(x + self.bblock(x))


class Upsampler(nn.Module):
    """From features at the shallowest level to a logit at image size.

    Args:
        channels: of the features.
        smooth: bicubic interpolation as published; else bilinear (ours, several times faster on CPUs).
    """

    def __init__(self, channels: int, *, smooth: bool = True) -> None:
        super().__init__()
        self._mode = "bicubic" if smooth else "bilinear"
        self.conv1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(channels // 2, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, size: Sequence[int], *, direct: bool = False) -> torch.Tensor:
        """(O, channels, h, w) -> (O, 1, H, W).

        Args:
            x: features at stride 4 (or 2, for the networks of small frames).
            size: H and W.
            direct: bicubic straight to the size in the second step (YouTube-VOS code) instead of twofold
                and then bilinear.
        """
        x = F.relu(self.conv1(self._double(x)))
        if direct:
            x = F.interpolate(x, tuple(size), mode=self._mode, align_corners=False)
        elif 2 * x.shape[-1] <= size[1] + 4:  # else already at image size
            x = self._double(x)
        return self.conv2(resize(x, size))

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode=self._mode, align_corners=False)


class LevelRefiner(nn.Module):
    """A segmentation network that goes from the deepest backbone level to the finest, then up to the image."""

    project: Upsampler

    def level(self, name: str, features: torch.Tensor, maps: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
        """One level.

        Args:
            name: of the level.
            features: (1 or O, C, h, w).
            maps: scores (O, S, h, w).
            x: output of the level before, or None.
        """
        raise NotImplementedError

    def forward(
        self,
        features: Mapping[str, torch.Tensor],
        scores: Sequence[torch.Tensor],
        size: Sequence[int],
        *,
        direct: bool = False,
    ) -> torch.Tensor:
        """Logits (O, 1, H, W).

        Args:
            features: backbone levels, each (1 or O, C, h, w).
            scores: score maps, each (O, 1, h, w) at any size.
            size: H and W.
            direct: see `Upsampler.forward`.
        """
        x = self.levels(ORDER, features, scores, None)
        return self.project(x, size, direct=direct)

    def levels(
        self,
        names: Sequence[str],
        features: Mapping[str, torch.Tensor],
        scores: Sequence[torch.Tensor],
        x: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run some consecutive levels, from `x`, the output of the level before (None: the deepest)."""
        for level in names:
            size = features[level].shape[-2:]
            maps = torch.cat([resize(s, size) for s in scores], 1)
            x = self.level(level, features[level], maps, x)
        assert x is not None
        return x


class Refiner(LevelRefiner):
    """FRTM's segmentation network.

    Args:
        inputs: channels of each backbone level.
        channels: width of the network, 64 in the published ones.
        scores: score maps per object: 1, or 2 for multi-level target models.
        smooth: see `Upsampler`.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        channels: int = 64,
        scores: int = 1,
        smooth: bool = True,
    ) -> None:
        super().__init__()
        self.TSE = nn.ModuleDict({L: TSE(inputs[L], channels, scores=scores) for L in ORDER})
        self.RRB1 = nn.ModuleDict({L: RRB(channels, channels) for L in ORDER})
        self.CAB = nn.ModuleDict({L: CAB(channels) for L in ORDER})
        self.RRB2 = nn.ModuleDict({L: RRB(channels, channels) for L in ORDER})
        self.project = Upsampler(channels, smooth=smooth)

    def level(self, name: str, features: torch.Tensor, maps: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
        """See `LevelRefiner.level`."""
        h, deeper = self.TSE[name](features, maps, x)
        return self.RRB2[name](self.CAB[name](deeper, self.RRB1[name](h)))
