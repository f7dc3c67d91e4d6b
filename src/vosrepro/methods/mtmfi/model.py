"""Two target models per object, and a segmentation network that attends to their scores.

Source: gbc-sid/MTMFI-VOS: model/seg_network.py, model/seg_network_bise.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.refiner import CAB, ORDER, RRB, TSE, LevelRefiner, Refiner, Upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping

FusionHead = Literal["initial", "bise", "bise-large"]
_SCORES = 2


class TFFM(TSE):
    """Target feature fusion: `TSE` whose features and scores are weighted by channel attention first."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(inputs, channels, scores=_SCORES)
        wide = channels + _SCORES
        self.att = nn.Sequential(nn.Conv2d(wide, wide, 1), nn.ReLU(), nn.Conv2d(wide, wide, 1, bias=False))

    def _mixed(self, reduced: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        h = torch.cat([reduced.expand(len(scores), -1, -1, -1), scores], 1)
        h = h + h * torch.sigmoid(self.att(F.adaptive_avg_pool2d(h, 1)))
        return self.transform(h)


class FIRefiner(LevelRefiner):
    """Segmentation network with feature integration in every level.

    Args:
        inputs: channels of each backbone level.
        channels: width.
        large: also refine before the channel attention. No published result is known to use it.
        smooth: see `vosrepro.methods.frtm.refiner.Upsampler`.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        channels: int = 64,
        large: bool = False,
        smooth: bool = True,
    ) -> None:
        super().__init__()
        self._large = large
        self.TFFM = nn.ModuleDict({L: TFFM(inputs[L], channels) for L in ORDER})
        self.CAB = nn.ModuleDict({L: CAB(channels) for L in ORDER})
        if large:
            self.RRB1 = nn.ModuleDict({L: RRB(channels, channels) for L in ORDER})
            self.RRB2 = nn.ModuleDict({L: RRB(channels, channels) for L in ORDER})
        else:
            self.RRB = nn.ModuleDict({L: RRB(channels, channels) for L in ORDER})
        self.project = Upsampler(channels, smooth=smooth)

    def level(self, name: str, features: torch.Tensor, maps: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
        """See `LevelRefiner.level`."""
        h, deeper = self.TFFM[name](features, maps, x)
        if self._large:
            return self.RRB2[name](self.CAB[name](deeper, self.RRB1[name](h)))
        return self.RRB[name](self.CAB[name](deeper, h))


class MTMFI(FRTM):
    """The network: target models on "layer3" and "layer4".

    Args:
        head: "initial" (multi-level target models only), "bise" (with feature integration), or "bise-large".
        channels: width of the segmentation network.
        options: see `vosrepro.methods.frtm.model.FRTM`.

    Raises:
        ConfigError: if there is no such head.
    """

    target_levels = ("layer3", "layer4")

    def __init__(self, *, head: FusionHead = "initial", channels: int = 64, **options: Any) -> None:
        if head not in ("initial", "bise", "bise-large"):
            raise ConfigError(f"there is no head '{head}': choose initial, bise or bise-large")
        self.head: FusionHead = head
        super().__init__(channels=channels, **options)

    def _make_refiner(self, channels: int, smooth: bool) -> Any:
        inputs = self.backbone.channels
        if self.head == "initial":
            return Refiner(inputs, channels=channels, scores=_SCORES, smooth=smooth)
        large = self.head == "bise-large"
        return FIRefiner(inputs, channels=channels, large=large, smooth=smooth)
