"""FRTM online: target models are optimized on the first frame, applied and updated on all others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.methods.common.masks import first_objects, late_masks, one_hot
from vosrepro.methods.frtm.augment import augment_first_frame
from vosrepro.methods.frtm.merging import merged_labels
from vosrepro.methods.frtm.target import TargetModels, TargetSettings, initial_target

if TYPE_CHECKING:
    from vosrepro.methods.frtm.model import FRTM

#: Iterations of the "fast" setting.
FAST_INIT, FAST_UPDATE = (5, 10, 10, 10), 5


class FRTMSegmenter:
    """Segments one video; all objects at once.

    Args:
        model: the network, in evaluation mode.
        code: "main" gave the DAVIS numbers; "ytvos" gave those of YouTube-VOS: conjugate gradients start
            anew at each step with the Fletcher-Reeves rule, the background is filled with grey, the
            last upsampling is bicubic and labels are merged once.
        fast: fewer iterations.
        ignore_fast: upstream's evaluation accepts --fast and does not pass it on.
        channels: of the projection.
        views: of the first frame, the original included.
        memory: samples per object.
        update_every: tracked frames between updates.
        rate: memory learning rate.
        protect_annotated_frame: never evict it from the memory; upstream does after about 90 frames.
        double_merge: what a winner with less than half of the probability becomes; None: as `code`.
        seed: of the target models and views, for each object anew; other seeds are repetitions.
        meta_label_order: write the k-th object to appear with the k-th id of meta.json, as upstream's cleaned
            code does; the runner needs it.
        unseeded_first_target: upstream's very first object starts from unseeded weights.
        dtype: of the optimizer.
        backend: see `TargetSettings`.
        target: further overrides of `TargetSettings`.
        record: keep the values of the objective.

    Source: andr345/frtm-vos: model/tracker.py, evaluate.py, ytvos_validation/.
    """

    #: Settings in which the method differs from `TargetSettings`' defaults.
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        model: FRTM,
        *,
        code: Literal["main", "ytvos"] = "main",
        fast: bool = False,
        ignore_fast: bool = False,
        channels: int | None = None,
        views: int = 5,
        memory: int = 80,
        update_every: int = 8,
        rate: float = 0.1,
        protect_annotated_frame: bool = False,
        double_merge: bool | None = None,
        seed: int = 0,
        meta_label_order: bool = False,
        unseeded_first_target: bool = False,
        dtype: Literal["float32", "float64"] = "float32",
        backend: Literal["folded", "autograd"] = "folded",
        target: dict[str, Any] | None = None,
        record: bool = False,
    ) -> None:
        if code not in ("main", "ytvos"):
            raise ConfigError(f"code is '{code}': choose 'main' or 'ytvos'")
        model.check_ready()
        self.model = model
        self._direct = code == "ytvos"
        self._fill: Literal["telea", "grey"] = "grey" if code == "ytvos" else "telea"
        self._twice = code == "main" if double_merge is None else double_merge
        self._views, self._seed = views, seed
        self._unseeded = unseeded_first_target
        self.labels_in_meta_order = meta_label_order
        settings = TargetSettings(
            capacity=memory,
            every=update_every,
            rate=rate,
            dtype=dtype,
            backend=backend,
            protect_first=protect_annotated_frame,
        )
        changes = dict(self.defaults)
        if code == "ytvos":
            changes |= {"forget": 0.0, "fletcher_reeves": True}
        if fast and not ignore_fast:
            changes |= {"init_iterations": FAST_INIT, "update_iterations": FAST_UPDATE}
        if channels is not None:
            changes["channels"] = channels
        self.settings = made_settings(settings, {**changes, **(target or {})})
        levels = model.target_levels
        self.targets = {level: TargetModels(self.settings, record=record) for level in levels}
        self._size: torch.Size | None = None
        self.objects = 0

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Optimize the target models of the first objects.

        Raises:
            DataError: if mask and frame do not fit, or the mask is empty.
        """
        objects = first_objects(frame, mask)
        self._size = frame.shape[-2:]
        self._add(frame, one_hot(mask, range(1, objects + 1)))

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Probabilities (N + 1, H, W); target models of `new` objects are optimized here.

        Raises:
            DataError: if the frame has another size than the first.
        """
        if self._size is None:
            raise RuntimeError("init must be called before step")
        if frame.shape[-2:] != self._size:
            raise DataError(
                f"a frame has {frame.shape[-2]} x {frame.shape[-1]} pixels after a first one of "
                f"{self._size[0]} x {self._size[1]} (height x width): resize all frames to one size"
            )
        old = self.objects
        buffer = self._probabilities(frame)
        starts = None if new is None else late_masks(frame, new, present=old)
        if starts is not None:
            buffer = torch.cat([buffer * (1 - starts.amax(0)), starts])
        probabilities, soft = merged_labels(buffer, twice=self._twice)
        self._update(soft[:old])
        if starts is not None:
            self._add(frame, starts)
        return probabilities

    def correct(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Remember a frame with its given masks, and re-train the target models at once."""
        if self._size is None:
            raise RuntimeError("init must be called before correct")
        old, objects = self.objects, max(self.objects, int(mask.max()))
        masks = one_hot(mask, range(1, objects + 1))
        self._observe(frame, masks[:old])
        for target in self.targets.values():
            target.update(masks[:old], now=True)
        if objects > old:
            self._add(frame, masks[old:])

    # ------------------------------------------------------------------------- the method's parts

    def _observe(self, frame: torch.Tensor, masks: torch.Tensor) -> None:  # noqa: ARG002, of those who keep more
        """See a frame whose masks (O, H, W) of all objects so far are given."""
        features = self.model.backbone(frame[None])
        for level, target in self.targets.items():
            target.score(features[level])

    def _probabilities(self, frame: torch.Tensor) -> torch.Tensor:
        """(O, H, W) of the objects so far."""
        assert self._size is not None
        features = self.model.backbone(frame[None])
        scores = [self.targets[level].score(features[level]) for level in self.targets]
        logits = self.model.refiner(features, scores, self._size, direct=self._direct)
        return torch.sigmoid(logits[:, 0].to(frame.dtype))

    def _update(self, soft: torch.Tensor) -> None:
        for target in self.targets.values():
            target.update(soft)

    def _add(self, frame: torch.Tensor, masks: torch.Tensor) -> None:
        """Augment and optimize for masks (n, H, W)."""
        image = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        views, labels = [], []
        for mask in masks.byte().cpu().numpy():
            rng = np.random.RandomState(self._seed)  # the published views need the legacy generator
            made = augment_first_frame(image, mask, views=self._views, rng=rng, fill=self._fill)
            views.append(torch.from_numpy(made[0]).permute(0, 3, 1, 2))
            labels.append(torch.from_numpy(made[1]))
        self.add_views(torch.stack(views), torch.stack(labels))

    def add_views(self, views: torch.Tensor, labels: torch.Tensor) -> None:
        """Optimize target models of new objects from given views.

        Args:
            views: uint8 (n, K, 3, H, W).
            labels: uint8 (n, K, H, W), 0 or 1.
        """
        device = next(self.model.parameters()).device
        images = views.to(device).to(self.model.backbone.mean.dtype) / 255
        per_object = [self.model.view_features(image) for image in images]
        for level, target in self.targets.items():
            features = torch.stack([f[level] for f in per_object])
            target.add(features, labels.to(device), self._initial(level, len(views)))
        self.objects += len(views)

    def _initial(self, level: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        inputs = self.model.backbone.channels[level]
        drawn = []
        for number in range(self.objects, self.objects + count):
            generator = torch.Generator().manual_seed(self._seed)
            if self._unseeded and number == 0:
                generator.seed()
            drawn.append(initial_target(inputs, self.settings.channels, generator))
        return drawn


def made_settings(settings: TargetSettings, changes: dict[str, Any]) -> TargetSettings:
    """Settings with overrides as they come from a parameter file.

    Raises:
        ConfigError: if a setting does not exist.
    """
    fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    try:
        return replace(settings, **fixed)
    except TypeError as error:
        raise ConfigError(f"the target models have no such setting ({error}): see TargetSettings") from error
