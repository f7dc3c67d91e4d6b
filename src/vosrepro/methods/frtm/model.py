"""The network of the target-model family: a backbone and a segmentation network.

Target models themselves are no part of it: they are optimized for each object of each video, and in
training for each sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from vosrepro.base.errors import CheckpointError
from vosrepro.methods.common.resnet import imagenet_state
from vosrepro.methods.frtm.backbone import Backbone
from vosrepro.methods.frtm.refiner import Refiner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: (frame features of each target level, frame number 1..T-1) -> score maps, each (B, 1, h, w).
    Scorer = Callable[[dict[str, torch.Tensor], int], list[torch.Tensor]]


class TargetNetwork(nn.Module):
    """Base of the three methods: the backbone, its ImageNet weights, and which levels are scored.

    Args:
        backbone: see `Backbone`.
        width: see `Backbone`.
        stem_stride: see `Backbone`.
        level_strides: see `Backbone`.
        norm: see `Backbone`.
        frozen: the backbone is never trained, as published.
        pretrained: start the backbone from ImageNet weights. Where these cannot be had, the network can
            be built and loaded, but not used before other weights were loaded.
    """

    #: Backbone levels with a target model, in the order of their score maps.
    target_levels: tuple[str, ...] = ("layer4",)

    def __init__(
        self,
        *,
        backbone: str = "resnet18",
        width: int = 64,
        stem_stride: Literal[2, 4] = 4,
        level_strides: Sequence[int] = (1, 2, 2, 2),
        norm: Literal["batch", "group"] = "batch",
        frozen: bool = True,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(
            backbone,
            width=width,
            stem_stride=stem_stride,
            level_strides=level_strides,
            norm=norm,
            frozen=frozen,
        )
        self._missing: CheckpointError | None = None
        if pretrained:
            try:
                self.backbone.load_state_dict(imagenet_state(backbone))
            except CheckpointError as error:
                self._missing = error
        self.register_load_state_dict_post_hook(_loaded)

    def check_ready(self) -> None:
        """Refuse to work with a backbone that should have ImageNet weights and has random ones.

        Raises:
            CheckpointError: saying where the file belongs.
        """
        if self._missing is not None:
            raise self._missing

    def view_features(self, views: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features of the target levels for many images (N, 3, H, W), without gradients."""
        with torch.no_grad():
            features = self.backbone(views)
        return {level: features[level] for level in self.target_levels}


class FRTM(TargetNetwork):
    """FRTM's network.

    Args:
        channels: width of the segmentation network, 64 in the published ones.
        smooth: see `vosrepro.methods.frtm.refiner.Upsampler`.
        channels_last: memory layout of the convolutions; the same values, faster on small networks and GPUs.
        logit_bias: first bias of the last convolution; None draws it, as published. Short trainings end with
            features that say "background" and none that say "object", whose logit is then this bias alone:
            it must start clearly above zero.
        backbone_options: see `TargetNetwork`.
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        smooth: bool = True,
        channels_last: bool = False,
        logit_bias: float | None = None,
        **backbone_options: Any,
    ) -> None:
        super().__init__(**backbone_options)
        self.refiner = self._make_refiner(channels, smooth)
        if logit_bias is not None:
            nn.init.constant_(self.refiner.project.conv2.bias, logit_bias)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _make_refiner(self, channels: int, smooth: bool) -> Any:
        return Refiner(self.backbone.channels, channels=channels, smooth=smooth)

    def forward(self, frames: torch.Tensor, scorer: Scorer, *, together: bool = False) -> torch.Tensor:
        """Logits (B, T - 1, H, W) of the later frames of clips with one object each.

        Args:
            frames: (B, T, 3, H, W), RGB in [0, 1].
            scorer: gives the scores of a frame; called without gradients.
            together: all later frames in one batch, which also pools the statistics of batch
                normalization; upstream takes one frame after the other.
        """
        self.check_ready()
        size = frames.shape[-2:]
        later = range(1, frames.shape[1])
        if not together:
            return torch.cat([self._logits(frames[:, t], [t], scorer, size) for t in later], dim=1)
        stacked = frames[:, 1:].transpose(0, 1).flatten(0, 1)  # frame by frame
        logits = self._logits(stacked, list(later), scorer, size)
        return logits.unflatten(0, (len(later), -1)).squeeze(2).transpose(0, 1)

    def _logits(self, images: torch.Tensor, numbers: list[int], scorer: Scorer, size: torch.Size) -> torch.Tensor:
        features = self.backbone(images)
        with torch.no_grad():
            parts = {level: features[level].chunk(len(numbers)) for level in self.target_levels}
            maps = [
                scorer({level: part[i] for level, part in parts.items()}, number) for i, number in enumerate(numbers)
            ]
            scores = [torch.cat(level) for level in zip(*maps, strict=True)]
        return self.refiner(features, scores, size)


def _loaded(module: nn.Module, _: object) -> None:
    assert isinstance(module, TargetNetwork)
    module._missing = None
