"""One training step of the segmentation network: target models are optimized per sample and then fixed.

Nothing of a target model is differentiated, so they need only the start frame, and can be kept in a cache.

Source: andr345/frtm-vos: model/training_model.py, train.py.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.frtm.augment import augment_first_frame
from vosrepro.methods.frtm.cache import TargetCache
from vosrepro.methods.frtm.segmenter import made_settings
from vosrepro.methods.frtm.target import TargetModels, TargetSettings, initial_target

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.base.types import Batch
    from vosrepro.methods.frtm.model import Scorer, TargetNetwork

#: Settings of the target models in training, as published; never updated online.
TRAINING = TargetSettings(channels=32, projection=1e-5, filters=1e-4, hinge=None, forget=0.9**75, capacity=20)
_VISIBLE = 0.5


def train_step(
    model: nn.Module,
    batch: Batch,
    *,
    iteration: int,
    views: int = 15,
    frames_together: bool = False,
    dice_weight: float = 0.0,
    target: dict[str, Any] | None = None,
    target_cache: str | None = None,
) -> dict[str, torch.Tensor]:
    """Binary cross entropy of the later frames of clips, each object by itself.

    Args:
        model: the network or its DDP wrapper; called exactly once.
        batch: see `vosrepro.base.types`; the first frame of a clip is the annotated one.
        iteration: step within the stage; unused.
        views: of the start frame, the original included.
        frames_together: see `vosrepro.methods.frtm.model.FRTM.forward`.
        dice_weight: of a soft Dice loss, ours; 0 as published. It keeps networks that start from random
            weights from the all-background minimum.
        target: overrides of `TRAINING`.
        target_cache: folder of finished target models, needs a frozen backbone.

    Returns:
        "loss" (sum over the later frames of the mean over pixels and samples) and "iou".
    """
    del iteration
    clips, scorer = prepared(model, batch, views=views, target=target, folder=target_cache)
    logits = model(clips.frames, scorer, together=frames_together)
    truth = clips.masks[:, 1:]
    loss = segmentation_loss(logits, truth, dice_weight=dice_weight)
    return {"loss": loss, "iou": mean_foreground_iou(logits, truth)}


def segmentation_loss(logits: torch.Tensor, truth: torch.Tensor, *, dice_weight: float = 0.0) -> torch.Tensor:
    """Sum over frames of the mean binary cross entropy, and a soft Dice loss where wanted.

    Args:
        logits: (B, T - 1, H, W).
        truth: as logits, in [0, 1].
        dice_weight: see `train_step`.
    """
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((0, 2, 3)).sum()
    if dice_weight:
        p = torch.sigmoid(logits)
        shared, total = (p * truth).sum((2, 3)), (p + truth).sum((2, 3))
        loss = loss + dice_weight * (1 - (2 * shared + 1) / (total + 1)).mean(0).sum()
    return loss


class ObjectClips:
    """Clips of one object each.

    Attributes:
        frames: (B, T, 3, H, W).
        masks: (B, T, H, W) in [0, 1].
    """

    def __init__(self, frames: torch.Tensor, masks: torch.Tensor) -> None:
        self.frames, self.masks = frames, masks


def object_clips(batch: Batch) -> ObjectClips:
    """Split clips of several objects; missing objects are left out."""
    masks = batch["masks"].transpose(1, 2)  # (B, K, T, H, W)
    chosen = batch["selector"] > 0
    frames = batch["frames"][:, None].expand(-1, masks.shape[1], -1, -1, -1, -1)
    if masks.shape[1] == 1:
        return ObjectClips(batch["frames"], masks[:, 0])  # the selector is always set for the first object
    return ObjectClips(frames[chosen], masks[chosen])


def prepared(model: nn.Module, batch: Batch, **options: Any) -> tuple[ObjectClips, Scorer]:
    """Clips of one object each and the scores of their target models; options as `target_scorer`'s."""
    clips = object_clips(batch)
    return clips, target_scorer(plain_network(model), clips, **options)


def target_scorer(
    network: TargetNetwork,
    clips: ObjectClips,
    *,
    views: int,
    target: dict[str, Any] | None = None,
    folder: str | None = None,
) -> Scorer:
    """Optimize target models on the start frames; the function that applies them to other frames.

    Views are drawn from a generator seeded by the content of the start frame, so that a model does not depend
    on the step, the rank, or whether it came from the cache. An object that is not visible in its start
    frame scores 0 everywhere.

    Raises:
        ConfigError: if a cache is asked for while the backbone is trained.
    """
    settings = made_settings(TRAINING, target or {})
    if folder is not None and not network.backbone.frozen:
        raise ConfigError("target_cache needs a frozen backbone: remove it or set frozen: true")
    device = clips.frames.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        models = _optimized(network, clips, views, settings, folder)

    def score(features: dict[str, torch.Tensor], _: int) -> list[torch.Tensor]:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return [models[level].score(features[level].float()) for level in models]

    return score


def mean_foreground_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean over frames and samples of the intersection over union, 1 where both are empty."""
    with torch.no_grad():
        predicted, wanted = logits > 0, truth > _VISIBLE
        both = (predicted & wanted).sum((-2, -1))
        either = (predicted | wanted).sum((-2, -1))
        return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both / 1)).mean()


def plain_network(model: nn.Module) -> Any:
    """The network inside a DistributedDataParallel wrapper."""
    return getattr(model, "module", model)


def _optimized(
    network: TargetNetwork, clips: ObjectClips, views: int, settings: TargetSettings, folder: str | None
) -> dict[str, TargetModels]:
    frames = (clips.frames[:, 0].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    masks = (clips.masks[:, 0] > _VISIBLE).byte().cpu().numpy()
    sizes = {k: v.shape[-2:] for k, v in network.view_features(clips.frames[:1, 0]).items()}
    levels = list(network.target_levels)
    finished: list[dict[str, tuple[torch.Tensor, torch.Tensor]] | None] = [None] * len(frames)
    cache = TargetCache(folder, network.backbone, views, settings) if folder else None
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        if not mask.any():
            finished[index] = {level: _silent(network, level, settings) for level in levels}
        elif cache is not None:
            finished[index] = cache.read(frame, mask)
    missing = [index for index, found in enumerate(finished) if found is None]
    if missing:
        made = _solve(network, frames[missing], masks[missing], views, settings)
        for place, index in enumerate(missing):
            entry = {level: made[level][place] for level in levels}
            finished[index] = entry
            if cache is not None:
                cache.write(frames[index], masks[index], entry)
    models = {}
    for level in levels:
        pairs = [found[level] for found in finished if found is not None]
        models[level] = TargetModels(settings)
        stacked = [torch.stack(part).to(clips.frames.device) for part in zip(*pairs, strict=True)]
        models[level].load(stacked[0], stacked[1], sizes[level])
    return models


def _solve(
    network: TargetNetwork,
    frames: np.ndarray,
    masks: np.ndarray,
    views: int,
    settings: TargetSettings,
) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    device = network.backbone.conv1.weight.device
    made = [
        augment_first_frame(frame, mask, views=views, rng=np.random.RandomState(content_seed(frame, mask)))
        for frame, mask in zip(frames, masks, strict=True)
    ]
    labels = torch.from_numpy(np.stack([m for _, m in made])).to(device)
    images = torch.from_numpy(np.stack([i for i, _ in made])).to(device)
    images = images.permute(0, 1, 4, 2, 3).float() / 255
    features = [network.view_features(image) for image in images]
    solved = {}
    for level in network.target_levels:
        models = TargetModels(replace(settings, capacity=max(settings.capacity, views)))
        inputs = network.backbone.channels[level]
        generator = torch.Generator()
        initial = [initial_target(inputs, settings.channels, generator.manual_seed(0)) for _ in frames]
        models.add(torch.stack([f[level] for f in features]), labels, initial)
        solved[level] = list(zip(*models.weights(), strict=True))
    return solved


def content_seed(frame: np.ndarray, mask: np.ndarray) -> int:
    """A seed that follows from a start frame and its mask."""
    return zlib.crc32(np.ascontiguousarray(mask).tobytes(), zlib.crc32(frame.tobytes()))


def _silent(network: TargetNetwork, level: str, settings: TargetSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """A target model that scores 0 everywhere."""
    c, like = settings.channels, network.backbone.conv1.weight
    project = like.new_zeros(c, network.backbone.channels[level], 1, 1)
    return project, like.new_zeros(1, c, 3, 3)
