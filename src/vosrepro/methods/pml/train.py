"""One training step: triplets of frames of one video, a few hundred anchors each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import Batch
from vosrepro.methods.pml.cells import Geometry, cell_labels
from vosrepro.methods.pml.loss import sample_anchors, triplet_loss, usable_labels


def train_step(
    model: nn.Module,
    batch: Batch,
    *,
    iteration: int,
    margin: float = 0.7,
    anchors: int = 256,
    classes: Literal["binary", "objects"] = "binary",
    anchor_frame: Literal["random", "first"] = "random",
    geometry: Geometry = "aligned",
    cell_px: int = 8,
) -> dict[str, torch.Tensor]:
    """The metric loss of a batch of triplets.

    Args:
        model: PML, possibly wrapped.
        batch: "frames" (B, T, 3, H, W) and "labels" (B, T, H, W) with T >= 3; "times" (B, T), the 0-based
            frame numbers in their videos, where the model has a time coordinate.
        iteration: unused; every step is alike.
        margin: alpha.
        anchors: per label and triplet, drawn with replacement from torch's global generator.
        classes: "binary" joins all objects (DAVIS 2016, the publications); "objects" tells them apart.
        anchor_frame: which frame of the clip the anchors come from; "random" makes the order of the
            frames meaningless, as in the seed's sampler.
        geometry: where the cells' labels are read, as at inference.
        cell_px: of the model.

    Returns:
        "loss": mean over the triplets, to which one that lacks a label contributes 0; "iou":
        intersection over union of the foreground anchors and those whose nearest cell is foreground;
        "skipped": share of skipped triplets.

    Source: sydney0zq/PML: train.py, net/loss.py.
    """
    del iteration
    frames, labels = batch["frames"], batch["labels"]
    clips, length = frames.shape[:2]
    if length < 3:
        raise ConfigError(f"PML trains on triplets, but a clip has {length} frames: set clips.frames to 3")
    times = batch.get("times")
    embedded = model(frames.flatten(0, 1), None if times is None else times.flatten())
    size = embedded.shape[2:]
    cells = embedded.unflatten(0, (clips, length)).flatten(3).transpose(2, 3)  # (B, T, N, C)
    small = cell_labels(labels, tuple(size), geometry=geometry, cell_px=cell_px).flatten(2)
    if classes == "binary":
        small = (small > 0).long()
    losses, hits = [], torch.zeros(3, device=frames.device)
    for clip in range(clips):
        first = int(torch.randint(length, ())) if anchor_frame == "random" else 0
        rest = [t for t in range(length) if t != first]
        pool, pool_labels = cells[clip, rest].flatten(0, 1), small[clip, rest].flatten()
        wanted = usable_labels(small[clip, first], pool_labels)
        if not wanted:
            continue
        chosen = sample_anchors(small[clip, first], wanted, anchors)
        loss, _, right = triplet_loss(cells[clip, first], small[clip, first], pool, pool_labels, chosen, margin=margin)
        losses.append(loss)
        hits += _hits(chosen, small[clip, first], right)
    total = torch.stack(losses).sum() if losses else embedded.sum() * 0
    return {
        "loss": total / clips,
        "iou": hits[0] / hits.sum().clamp_min(1),
        "skipped": torch.tensor(1 - len(losses) / clips, device=frames.device),
    }


def _hits(chosen: Mapping[int, torch.Tensor], labels: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Counts of true, false and missed foreground among the anchors."""
    foreground = labels[torch.cat(list(chosen.values()))] > 0
    true = (foreground & right).sum()
    return torch.stack([true, (~foreground & ~right).sum(), foreground.sum() - true]).float()
