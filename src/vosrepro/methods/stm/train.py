"""The loss of one training step: bootstrapped cross entropy over the predicted frames of a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.base.types import Batch


def train_step(
    model: nn.Module,
    batch: Batch,
    *,
    iteration: int,
    bootstrap_start: int = 20_000,
    bootstrap_end: int = 70_000,
    bootstrap_fraction: float = 0.15,
    dice_weight: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Run a clip through the network and compute its loss.

    Args:
        model: an `STM`, or one wrapped for distributed training; called exactly once.
        batch: "frames" float32 (B, T, 3, H, W) in [0, 1]; "masks" float32 (B, T, K, H, W); "labels"
            int64 (B, T, H, W) in 0..K; "selector" float32 (B, K).
        iteration: step within the stage.
        bootstrap_start: plain cross entropy before this step.
        bootstrap_end: after it, only the hardest `bootstrap_fraction` of the pixels count.
        bootstrap_fraction: see above.
        dice_weight: weight of a soft Dice term; 0 in the published training.

    Returns:
        "loss" (sum over the predicted frames of the mean over samples), and for the log "iou" of the
        thresholded foreground and "bootstrap", the fraction of pixels that count.
    """
    logits = model(batch["frames"], batch["masks"], batch["selector"])
    labels = batch["labels"][:, 1:]
    fraction = kept_fraction(iteration, start=bootstrap_start, end=bootstrap_end, fraction=bootstrap_fraction)
    loss = torch.stack(frame_losses(logits, labels, batch["selector"], fraction=fraction)).sum()
    if dice_weight:
        loss = loss + dice_weight * dice_loss(logits, labels, batch["selector"])
    with torch.no_grad():
        iou = foreground_iou(logits, labels)
    return {"loss": loss, "iou": iou, "bootstrap": torch.tensor(fraction)}


def kept_fraction(iteration: int, *, start: int, end: int, fraction: float) -> float:
    """Fraction of the pixels that count at a step: 1, then falling linearly from `start` to `end`.

    Source: hkchengrex/Mask-Propagation: model/losses.py.
    """
    if iteration < start:
        return 1.0
    if iteration > end:
        return fraction
    return fraction + (1 - fraction) * (end - iteration) / (end - start)


def frame_losses(
    logits: torch.Tensor, labels: torch.Tensor, selector: torch.Tensor, *, fraction: float
) -> list[torch.Tensor]:
    """Bootstrapped cross entropy of each predicted frame, mean over the batch.

    Args:
        logits: (B, T, K+1, H, W) aggregated logits.
        labels: int64 (B, T, H, W).
        selector: (B, K); classes of missing objects take no part.
        fraction: share of the pixels, the hardest of each sample, that count.
    """
    absent = F.pad(selector == 0, (1, 0))[:, None, :, None, None]
    logits = logits.masked_fill(absent, torch.finfo(logits.dtype).min)
    pixels = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").flatten(2)
    if fraction < 1:
        count = max(1, int(fraction * pixels.shape[2]))
        pixels = torch.topk(pixels, count, dim=2, sorted=False).values
    return list(pixels.mean(dim=(0, 2)))


def dice_loss(
    logits: torch.Tensor, labels: torch.Tensor, selector: torch.Tensor, *, smooth: float = 1.0
) -> torch.Tensor:
    """One minus the soft Dice coefficient: mean over a sample's objects, then over the batch, summed over frames.

    Not part of any published stage: it keeps a randomly initialized network from the
    all-background minimum that cross entropy alone falls into.
    """
    probabilities = torch.softmax(logits, dim=2)[:, :, 1:].flatten(3)
    ids = torch.arange(1, logits.shape[2], device=labels.device)
    truth = (labels[:, :, None] == ids[:, None, None]).flatten(3).to(logits.dtype)
    shared = (probabilities * truth).sum(3)
    total = probabilities.sum(3) + truth.sum(3)
    loss = 1 - (2 * shared + smooth) / (total + smooth)  # (B, T, K)
    weights = selector / selector.sum(dim=1, keepdim=True).clamp(min=1)
    return (loss * weights[:, None]).sum(dim=2).mean(dim=0).sum()


def foreground_iou(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Intersection over union of "not background", over the whole batch, smoothed by one pixel."""
    predicted = logits[:, :, 1:].amax(dim=2) > logits[:, :, 0]
    truth = labels > 0
    return ((predicted & truth).sum() + 1) / ((predicted | truth).sum() + 1)
