"""FRTM with a gate that decides whether the last computed frame can be reused.

Source: HYOJINPARK/Reuse_VOS: model/; Park et al., CVPR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.refiner import RRB, Refiner
from vosrepro.methods.gfrtm.train import GateOutput, gate_clip

if TYPE_CHECKING:
    from vosrepro.methods.frtm.model import Scorer

_PER_GROUP = 4  # input channels of a group in all grouped convolutions
_SLOPE = 0.2


class Gate(NamedTuple):
    """What the gate saw and said, per object.

    Attributes:
        match: (O, d, h, w) at the size of "layer3".
        logits: (O, 2): reuse, compute.
    """

    match: torch.Tensor
    logits: torch.Tensor

    @property
    def probabilities(self) -> torch.Tensor:
        """(O, 2): reuse, compute."""
        return torch.softmax(self.logits, 1)


class Generator(nn.Module):
    """Template of an object from a frame with its mask."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.conv_key = _branch(inputs, dim, activation_last=False)
        self.conv_val = _branch(inputs, dim, activation_last=False)

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(O, d, d), rows are value channels; softmax over the keys.

        Args:
            features: (1 or O, C, h, w) of "layer3".
            masks: (O, 1, h, w).
        """
        z = torch.cat([features.expand(len(masks), -1, -1, -1), masks], 1)
        key, value = self.conv_key(z).flatten(2), self.conv_val(z).flatten(2)
        return torch.softmax(value @ key.mT / key.shape[2] ** 0.5, 2)


class TemplateMatcher(nn.Module):
    """Where and how a frame differs from the template."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.conv_key = _branch(inputs, dim, activation_last=True)
        self.conv_feat = _branch(inputs, dim, activation_last=True)
        self.blend = nn.Sequential(_grouped(2 * dim), nn.Conv2d(2 * dim, dim, 1), nn.ReLU())

    def forward(self, features: torch.Tensor, scores: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
        """(O, d, h, w).

        Args:
            features: (1 or O, C, h, w) of "layer3".
            scores: (O, 1, h', w'), the last computed scores.
            template: (O, d, d).
        """
        size = features.shape[-2:]
        scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        z = torch.cat([features.expand(len(scores), -1, -1, -1), scores], 1)
        key = self.conv_key(z)
        similar = (template @ key.flatten(2)).unflatten(2, size)
        return self.blend(torch.cat([self.conv_feat(z), similar], 1))


class TemplateMatching(nn.Module):
    """Generator and matcher, under upstream's names."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.Tmatching = TemplateMatcher(inputs, dim)
        self.Tgenerate = Generator(inputs, dim)


class Dilated(nn.Module):
    """Three dilated convolutions side by side, blended."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d

    def __init__(self, channels: int) -> None:
        super().__init__()
        third = channels * 3 // 4
        for dilation in (1, 2, 3):
            conv = nn.Conv2d(channels + 1, third, 3, padding=dilation, dilation=dilation)
            setattr(self, f"conv{dilation}", conv)
        self.convBlend = nn.Conv2d(3 * third, channels, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(O, channels + 1, h, w) -> (O, channels, h, w)."""
        return self.convBlend(torch.cat([self.conv1(x), self.conv2(x), self.conv3(x)], 1))


class Translator(nn.Module):
    """Moves the stored feature of the last computed frame by a score change."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_multi = Dilated(channels)
        self.postRBB = RRB(channels, channels)

    def forward(self, stored: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """(O, channels, h, w) and (O, 1, h, w) -> (O, channels, h, w)."""
        return self.postRBB(self.conv_multi(torch.cat([stored, delta], 1)))


class GatedRefiner(Refiner):
    """FRTM's segmentation network and the translator."""

    def __init__(self, inputs: dict[str, int], *, channels: int = 64, smooth: bool = True) -> None:
        super().__init__(inputs, channels=channels, smooth=smooth)
        self.Diff_process = Translator(channels)


class GFRTM(FRTM):
    """The network.

    Args:
        channels: width of the segmentation network.
        gate_dim: channels of keys, values and matches; 64 as published.
        gate_bias: first bias of the gate's logits (reuse, compute); as published it computes at first.
        train_gate: False leaves everything that FRTM lacks without gradients.
        train_base: False freezes what FRTM has, so that the gate's stage cannot harm the computed frames.
        options: see `vosrepro.methods.frtm.model.FRTM`.
    """

    refiner: GatedRefiner

    def __init__(
        self,
        *,
        channels: int = 64,
        gate_dim: int = 64,
        gate_bias: tuple[float, float] = (0.1, 2.0),
        train_gate: bool = True,
        train_base: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(channels=channels, **options)
        self._train_base = train_base
        if not train_base:
            for part in self._base():
                part.requires_grad_(False)
        self.Tmatching = TemplateMatching(self.backbone.channels["layer3"] + 1, gate_dim)
        self.convGS = nn.Sequential(
            nn.AdaptiveMaxPool2d(7),
            nn.Conv2d(gate_dim, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.AdaptiveMaxPool2d(3),
            nn.Conv2d(16, 2, 3, stride=2),
        )
        self.Convert_Diff = nn.Conv2d(gate_dim, 1, 3, stride=2, padding=1)
        last = self.convGS[4]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias.copy_(torch.tensor(gate_bias))
        if not train_gate:
            for part in (self.Tmatching, self.convGS, self.Convert_Diff, self.refiner.Diff_process):
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> GFRTM:
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        if not self._train_base:
            for part in self._base():
                part.eval()
        return self

    def _base(self) -> list[nn.Module]:
        children = dict(self.refiner.named_children())
        return [self.backbone, *(v for k, v in children.items() if k != "Diff_process")]

    def _make_refiner(self, channels: int, smooth: bool) -> Any:
        return GatedRefiner(self.backbone.channels, channels=channels, smooth=smooth)

    def forward(
        self,
        frames: torch.Tensor,
        scorer: Scorer,
        *,
        together: bool = False,
        masks: torch.Tensor | None = None,
        fix_prevx: bool = False,
        slack_px: int = 0,
    ) -> torch.Tensor | GateOutput:
        """FRTM's forward pass, or with `masks` (B, T, H, W) a walk with the gate."""
        self.check_ready()
        if masks is not None:
            return gate_clip(self, frames, scorer, masks, fix_prevx=fix_prevx, slack_px=slack_px)
        return super().forward(frames, scorer, together=together)

    def template(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """See `Generator.forward`."""
        return self.Tmatching.Tgenerate(features, masks)

    def gate(self, features: torch.Tensor, scores: torch.Tensor, template: torch.Tensor) -> Gate:
        """See `TemplateMatcher.forward`."""
        match = self.Tmatching.Tmatching(features, scores, template)
        return Gate(match, self.convGS(match).flatten(1))


def _grouped(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 5, padding=2, groups=channels // _PER_GROUP)


def _branch(inputs: int, dim: int, *, activation_last: bool) -> nn.Sequential:
    point, spread, relu = nn.Conv2d(inputs, dim, 1), _grouped(dim), nn.LeakyReLU(_SLOPE)
    return nn.Sequential(point, spread, relu) if activation_last else nn.Sequential(point, relu, spread)
