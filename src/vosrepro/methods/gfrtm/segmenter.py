"""G-FRTM online: per object and frame, reuse the last computed frame or compute anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.frtm.refiner import ORDER
from vosrepro.methods.frtm.segmenter import FRTMSegmenter

if TYPE_CHECKING:
    from vosrepro.methods.gfrtm.model import GFRTM, Gate

_DEEP, _FINE = ORDER[:2], ORDER[2:]


class GFRTMSegmenter(FRTMSegmenter):
    """Segments one video; computing and reusing objects are batched apart.

    Args:
        model: the network.
        tau: an object is reused where the probability of "reuse" exceeds it; 1 never reuses.
        options: see `FRTMSegmenter`; `fast` is on by default, as in upstream's evaluation.

    Attributes:
        reused: per frame, which objects were reused.
        record_gate: if set, `gates` keeps match and logits of each frame.

    Raises:
        ConfigError: if tau is not in (0, 1].

    Source: HYOJINPARK/Reuse_VOS: model/tracker.py, evaluate.py.
    """

    def __init__(
        self,
        model: GFRTM,
        *,
        tau: float = 0.7,
        fast: bool = True,
        record_gate: bool = False,
        **options: Any,
    ) -> None:
        if not 0 < tau <= 1:
            raise ConfigError(f"the gate's threshold tau is {tau}: choose 0 < tau <= 1")
        super().__init__(model, fast=fast, **options)
        self.network: GFRTM = model
        self.tau = tau
        self.reused: list[list[bool]] = []
        self.gates: list[Gate] = []
        self._record_gate = record_gate
        self.templates = torch.empty(0)  # (O, d, d)
        self.scores = torch.empty(0)  # (O, 1, h, w), last computed
        self.stored = torch.empty(0)  # (O, channels, h, w), deep levels of the last computed frame
        self._computed: list[int] = []

    @property
    def reuse_rate(self) -> float:
        """Share of the tracked (frame, object) pairs that were reused.

        Deviation: upstream's figure also counts an object's start frame as reused.
        """
        counts = self.counts
        return counts["reused"] / max(1, counts["tracked"])

    @property
    def counts(self) -> dict[str, int]:
        """Tracked (frame, object) pairs and those of them that were reused."""
        flat = [r for frame in self.reused for r in frame]
        return {"tracked": len(flat), "reused": sum(flat)}

    def _add(self, frame: torch.Tensor, masks: torch.Tensor) -> None:
        super()._add(frame, masks)
        self.start_gate(frame, masks)

    def start_gate(self, frame: torch.Tensor, masks: torch.Tensor) -> None:
        """Templates, first scores and stored features of the newest objects, from masks (n, H, W)."""
        features = self.model.backbone(frame[None])
        masks = masks[:, None].to(features["layer3"].dtype)
        template = self.network.template(
            features["layer3"], F.interpolate(masks, features["layer3"].shape[-2:], mode="nearest")
        )
        rows = list(range(self.objects - len(masks), self.objects))
        score = self.targets["layer4"].score(features["layer4"], rows)  # counts as a tracked frame
        stored = self.network.refiner.levels(_DEEP, features, [score], None)
        previous = F.interpolate(masks, score.shape[-2:], mode="nearest")
        if rows[0] == 0:
            self.templates, self.scores, self.stored = template, previous, stored
        else:
            self.templates = torch.cat([self.templates, template])
            self.scores = torch.cat([self.scores, previous])
            self.stored = torch.cat([self.stored, stored])

    def _observe(self, frame: torch.Tensor, masks: torch.Tensor) -> None:
        features = self.model.backbone(frame[None])
        score = self.targets["layer4"].score(features["layer4"])
        self.stored = self.network.refiner.levels(_DEEP, features, [score], None)
        self.scores = F.interpolate(masks[:, None].to(score.dtype), score.shape[-2:], mode="nearest")

    def _probabilities(self, frame: torch.Tensor) -> torch.Tensor:
        assert self._size is not None
        features = self.model.backbone.shallow(frame[None])
        gate = self.network.gate(features["layer3"], self.scores, self.templates)
        reuse = self._decide(gate)  # the one wait for the device per frame
        self.reused.append(reuse)
        if self._record_gate:
            self.gates.append(gate)
        self._computed = [i for i, r in enumerate(reuse) if not r]
        reusing = [i for i, r in enumerate(reuse) if r]
        scores = torch.empty_like(self.scores)
        x = torch.empty_like(self.stored)
        if self._computed:
            features = self.model.backbone.deep(features)
            score = self.targets["layer4"].score(features["layer4"], self._computed)
            fresh = self.network.refiner.levels(_DEEP, features, [score], None)
            self.scores[self._computed] = scores[self._computed] = score
            self.stored[self._computed] = x[self._computed] = fresh
        if reusing:
            delta = self.network.Convert_Diff(gate.match[reusing])
            scores[reusing] = self.scores[reusing] + delta
            x[reusing] = self.network.refiner.Diff_process(self.stored[reusing], delta)
        x = self.network.refiner.levels(_FINE, features, [scores], x)
        logits = self.network.refiner.project(x, self._size, direct=self._direct)
        return torch.sigmoid(logits[:, 0].to(frame.dtype))

    def _update(self, soft: torch.Tensor) -> None:
        if self._computed:
            self.targets["layer4"].update(soft[self._computed], self._computed)

    def _decide(self, gate: Gate) -> list[bool]:
        """Which objects are reused."""
        return (gate.probabilities[:, 0] > self.tau).tolist()
