"""Random samples and videos in the shapes of the mini study, as `train_step` and segmenters take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vosrepro.study.params import ClipParams


def clip_batch(clips: ClipParams, batch: int = 2) -> dict[str, torch.Tensor]:
    """A batch of clips (or of single images) of at most 64 pixels; of several objects the second sample lacks one."""
    height, width = (min(64, n) for n in clips.size_px)
    generator = torch.Generator().manual_seed(2)
    if clips.kind == "image":
        return {
            "frames": torch.rand(batch, 1, 3, height, width, generator=generator),
            "classes": torch.arange(batch),
        }
    objects = clips.objects
    labels = torch.randint(0, objects + 1, (batch, clips.frames, 4, 4), generator=generator)
    labels = labels.repeat_interleave(height // 4, 2).repeat_interleave(width // 4, 3)
    ids = torch.arange(1, objects + 1)[:, None, None]
    selector = torch.ones(batch, objects)
    if objects > 1:
        selector[1, -1] = 0
        labels[1][labels[1] == objects] = 0
    return {
        "frames": torch.rand(batch, clips.frames, 3, height, width, generator=generator),
        "masks": (labels[:, :, None] == ids).float(),
        "labels": labels,
        "selector": selector,
        "times": torch.arange(clips.frames).expand(batch, -1),
        "lengths": torch.full((batch,), clips.frames),
    }


def smooth_video(size: tuple[int, int], frames: int = 3) -> torch.Tensor:
    """float32 (frames, 3, H, W) in 0..1."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(frames, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(small, size, mode="bilinear").clamp(0, 1)


def first_mask(size: tuple[int, int], objects: int) -> torch.Tensor:
    """uint8 (H, W): that many boxes."""
    mask = torch.zeros(size, dtype=torch.uint8)
    for i in range(objects):
        mask[8 + 18 * i : 22 + 18 * i, 10 + 14 * i : 40 + 10 * i] = i + 1
    return mask


def settings(params: Any, size: str, variant: str) -> dict[str, Any]:
    """Inference settings of a variant at a size."""
    return {**params.variants[variant], **params.sizes[size].variants.get(variant, {})}
