"""One training step of each stage: classification, tracking pairs, mask propagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import Batch
from vosrepro.methods.common.classification import background
from vosrepro.methods.parts.boxes import cell_px, squares
from vosrepro.methods.parts.combine import blend_parts, combine_parts
from vosrepro.methods.parts.learning.mask_loss import mask_loss
from vosrepro.methods.parts.learning.own_guess import guess_earlier
from vosrepro.methods.parts.learning.pairs import (
    Warp,
    follow_boxes,
    pick_parts,
    roughen,
    synthetic_frames,
    tight_boxes,
)
from vosrepro.methods.parts.matching import (
    LabelWeights,
    cell_weights,
    matching_loss,
    positive_cells,
)
from vosrepro.methods.parts.model import MASK_SIDES, Masked, PartsNet
from vosrepro.methods.parts.regions import roi_align


def train_step(model: nn.Module, batch: Batch, *, iteration: int, **loss: Any) -> dict[str, torch.Tensor]:
    """The loss of a batch, by the network's task.

    Args:
        model: PartsNet, possibly wrapped.
        batch: of `images` (stage 0) or video clips, as the training loop makes them.
        iteration: within the stage.
        loss: arguments of `classify`, `track` or `segment`.
    """
    network = _bare(model)
    if network.task == "classify":
        return classify(model, batch, **loss)
    if network.task == "track":
        return track(model, batch, **loss)
    return segment(model, batch, iteration=iteration, **loss)


def _bare(model: nn.Module) -> PartsNet:
    network = model if isinstance(model, PartsNet) else model.module
    assert isinstance(network, PartsNet)
    return network


def classify(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> dict[str, torch.Tensor]:
    """Cross-entropy of images.

    Args:
        model: PartsNet with the task "classify".
        batch: "frames" (B, 1, 3, H, W) in [0, 1] and "classes" int64 (B), 0-based; -1 for an image that
            could not be decoded.
        label_smoothing: 0 in the published recipe.

    Returns:
        "loss"; "top1" and "top5", shares of the images that count; "corrupt", share of those that do not.
    """
    if "classes" not in batch:
        raise ConfigError("stage 0 learns classes: give it clips of the kind 'image'")
    logits = model(batch["frames"][:, 0])
    classes, known = batch["classes"], batch["classes"] >= 0
    classes = torch.where(known, classes + background(_bare(model).classes), classes)
    count = known.sum().clamp_min(1)
    losses = F.cross_entropy(logits, classes, label_smoothing=label_smoothing, ignore_index=-1, reduction="sum")
    best = logits.detach().topk(min(5, logits.shape[1]), dim=1).indices == classes[:, None]
    return {
        "loss": losses / count,
        "top1": best[:, 0].sum() / count,
        "top5": best.any(1).sum() / count,
        "corrupt": 1 - known.float().mean(),
    }


# ---------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class _Clip:
    """Frames 0, t-1 and t of B samples with parts and where they go.

    Attributes:
        frames: (B, 3, 3, H, W).
        masks: (B, 3, H, W) in [0, 1].
        parts: (B, 3, n, 3), in each of the frames.
        valid: bool (B, n), parts to learn masks from.
        exact: bool (B, n), parts whose place is known exactly.
    """

    frames: torch.Tensor
    masks: torch.Tensor
    parts: torch.Tensor
    valid: torch.Tensor
    exact: torch.Tensor


def _clip(batch: Batch, *, parts: int, side_px: tuple[float, float], foreign: float) -> _Clip:
    """Real clips in the even places of a batch, synthetic ones in the odd places."""
    frames, masks = batch["frames"], batch["masks"][:, :, 0]
    if frames.shape[1] == 2:
        frames, masks = frames[:, [0, 1, 1]], masks[:, [0, 1, 1]]
    elif frames.shape[1] != 3:
        raise ConfigError(f"parts train on clips of 2 or 3 frames, not {frames.shape[1]}")
    first, valid = pick_parts(masks[:, 0], count=parts, side_px=side_px)
    boxes = [tight_boxes(masks[:, t]) for t in range(3)]
    places = [first] + [follow_boxes(first, boxes[0][0], b) for b, _ in boxes[1:]]
    seen = boxes[1][1] & boxes[2][1]
    exact = torch.zeros_like(valid)
    exact[:, 0] = True
    odd = torch.arange(len(frames), device=frames.device) % 2 == 1
    made = _synthetic(frames[:, 0], masks[:, 0], first, foreign=foreign)
    frames = torch.where(odd[:, None, None, None, None], made[0], frames)
    masks = torch.where(odd[:, None, None, None], made[1], masks)
    parts_at = torch.where(odd[:, None, None, None], made[2], torch.stack(places, dim=1))
    exact = exact | odd[:, None]
    seen = seen | odd
    height, width = masks.shape[-2:]
    limit = torch.tensor([width, height], device=masks.device)
    center = parts_at[:, 1:, :, :2]
    visible = ((center >= 0) & (center < limit)).all(3).all(1)
    valid = valid & seen[:, None] & visible
    return _Clip(frames, masks, parts_at, valid, valid & exact)


def _synthetic(
    frame: torch.Tensor, mask: torch.Tensor, parts: torch.Tensor, *, foreign: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, masks and parts at 0, t-1 and t made from the first frame."""
    size = (mask.shape[1], mask.shape[2])
    full = Warp.draw(len(frame), size, device=frame.device)
    elsewhere = torch.rand(len(frame), device=frame.device) < foreign
    frames, masks, places = [frame], [mask], [parts]
    for warp in (full.partly(0.6), full):
        image, soft = synthetic_frames(frame, mask, warp, frame.roll(1, 0), elsewhere)
        frames.append(image)
        masks.append(soft)
        moved = torch.cat([warp.points(parts[..., :2]), parts[..., 2:] * warp.scale[:, None, None]], 2)
        boxes, found = tight_boxes(soft)
        whole = torch.cat(
            [(boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp_min(8)], 1
        )
        moved[:, 0] = torch.where(found[:, None], whole, moved[:, 0])
        places.append(moved)
    return torch.stack(frames, 1), torch.stack(masks, 1), torch.stack(places, 1)


def _search(network: PartsNet, place: torch.Tensor, *, jitter_cells: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Search regions near true places, and the targets in cells of the response.

    Args:
        network: its T and X.
        place: (B, n, 3), true parts in the present frame.
        jitter_cells: largest displacement of the region's center in cells.

    Returns:
        (B, n, 3) and targets (B * n, 2) as (row, column).
    """
    spread = torch.rand_like(place) * 2 - 1
    side = place[..., 2:] * (1 + 0.2 * spread[..., 2:])
    cell = cell_px(side, template=network.template)
    center = place[..., :2] + spread[..., :2] * jitter_cells * cell
    middle = (network.search - network.template) / 2
    target = (place[..., :2] - center) / cell + middle
    return torch.cat([center, side], dim=2), target.flip(2).flatten(0, 1)


def _track_loss(
    scores: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    *,
    radius: float,
    weights: LabelWeights,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of counted parts (N), and their mean distance from peak to target in cells."""
    size = scores.shape[-1]
    flat = scores.flatten(0, 1).float()
    positive = positive_cells(target, size=size, radius=radius)
    center = target.round().long().clamp(0, size - 1)
    losses = matching_loss(flat, positive, cell_weights(positive, kind=weights, center=center))
    on = counted.flatten().float()
    total = on.sum().clamp_min(1)
    best = flat.detach().flatten(1).argmax(1)
    peak = torch.stack([best // size, best % size], dim=1)
    error = (peak - target).square().sum(1).sqrt()
    return (losses * on).sum() / total, (error * on).sum() / total


def track(
    model: nn.Module,
    batch: Batch,
    *,
    parts: int = 4,
    side_px: tuple[float, float] = (12.0, 30.0),
    radius: float = 1.5,
    jitter_cells: float = 2.5,
    weights: LabelWeights = "balanced",
    foreign: float = 0.5,
) -> dict[str, torch.Tensor]:
    """Stage 1: find parts again in another frame.

    Args:
        model: PartsNet with the task "track".
        batch: clips of two frames, one object.
        parts: beside part 0, per sample.
        side_px: range of part sides.
        radius: of positives around the true place, in cells.
        jitter_cells: see `_search`.
        weights: of the label map, see `matching.cell_weights`; "thesis" has the seed's defect.
        foreign: share of synthetic samples on another ground.

    Returns:
        "loss"; "error_cells": mean distance of the best cell from the target; "iou" is the share of parts
        found within one cell.
    """
    network = _bare(model)
    with torch.no_grad():
        clip = _clip(batch, parts=parts, side_px=side_px, foreign=foreign)
        reference, place = clip.parts[:, 0], clip.parts[:, 2]
        search, target = _search(network, place, jitter_cells=jitter_cells)
    scores = model(clip.frames[:, [0, 2]], template=reference, search=search)
    loss, error = _track_loss(scores, target, clip.exact, radius=radius, weights=weights)
    return {"loss": loss, "error_cells": error}


def segment(
    model: nn.Module,
    batch: Batch,
    *,
    iteration: int = 0,
    parts: int = 4,
    side_px: tuple[float, float] = (12.0, 30.0),
    radius: float = 1.5,
    jitter_cells: float = 2.5,
    weights: LabelWeights = "balanced",
    foreign: float = 0.5,
    track_weight: float = 1.0,
    frame_weight: float = 1.0,
    place_jitter_cells: float = 0.3,
    share_object: float = 0.4,
    own: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Stage 2: tracking, masks of parts, and their combination.

    Args:
        model: PartsNet with the task "segment".
        batch: clips of three frames: reference, t-1 and t.
        iteration: unused.
        parts, side_px, radius, jitter_cells, weights, foreign: as in `track`.
        track_weight: of the tracking loss.
        frame_weight: of the loss of the combined map.
        place_jitter_cells: error of the places at which masks are learned.
        share_object: rho.
        own: share of samples whose earlier mask is the network's own guess instead of a roughened truth.

    Returns:
        "loss" and its parts; "iou" of the parts' masks, "copied" the same of the earlier masks.
    """
    del iteration
    network = _bare(model)
    with torch.no_grad():
        clip = _clip(batch, parts=parts, side_px=side_px, foreign=foreign)
        reference, before, place = clip.parts.unbind(1)
        search, target = _search(network, place, jitter_cells=jitter_cells)
        before = _shaken(network, before, place_jitter_cells)
        now = _shaken(network, place, place_jitter_cells)
        earlier_mask = roughen(clip.masks[:, 1])
        if own > 0:
            guess = guess_earlier(
                network,
                clip.frames[:, :2],
                reference,
                before,
                clip.masks[:, 0],
                share_object=share_object,
            )
            use = torch.rand(len(guess), device=guess.device) < own
            earlier_mask = torch.where(use[:, None, None], guess, earlier_mask)
    scores, masked = model(
        clip.frames[:, [0, 2]],
        template=reference,
        search=search,
        earlier=before,
        now=now,
        reference_mask=clip.masks[:, 0],
        earlier_mask=earlier_mask,
    )
    found, error = _track_loss(scores, target, clip.exact, radius=radius, weights=weights)
    masks, iou = _roi_loss(network, masked, now, clip)
    frame = _frame_loss(masked, now, scores, clip, share=share_object)
    loss = track_weight * found + masks + frame_weight * frame
    return {
        "loss": loss,
        "track": found.detach(),
        "roi": masks.detach(),
        "frame": frame.detach(),
        "error_cells": error,
        "iou": iou,
    }


def _shaken(network: PartsNet, place: torch.Tensor, cells: float) -> torch.Tensor:
    spread = torch.rand_like(place) * 2 - 1
    cell = cell_px(place[..., 2:], template=network.template)
    center = place[..., :2] + spread[..., :2] * cells * cell
    return torch.cat([center, place[..., 2:] * (1 + 0.08 * spread[..., 2:])], dim=2)


def _regions(now: torch.Tensor) -> torch.Tensor:
    flat = now.flatten(0, 1)
    return squares(flat[:, :2], flat[:, 2] * MASK_SIDES)


def _roi_loss(network: PartsNet, masked: Masked, now: torch.Tensor, clip: _Clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean mask loss of valid parts and the mean intersection over union."""
    batch, count = now.shape[:2]
    boxes = _regions(now)
    image = torch.arange(batch, device=now.device).repeat_interleave(count)
    whole = torch.arange(batch * count, device=now.device) % count == 0
    truth = clip.masks[:, 2, None]
    losses, ious = [], []
    for logits, on, scale in ((masked.whole, whole, 4), (masked.parts, ~whole, 2)):
        cells = scale * network.mask_cells
        target = roi_align(truth, boxes[on], image[on], cells=cells, stride=1)[:, 0]
        target = (target >= 0.5).float()
        valid = clip.valid.flatten()[on].float()
        losses.append(mask_loss(logits.float(), target) * valid)
        guess = (logits.detach() > 0).float()
        shared = (guess * target).sum(dim=(1, 2))
        joined = (guess + target).clamp_max(1).sum(dim=(1, 2)).clamp_min(1)
        ious.append(shared / joined * valid)
    total = clip.valid.sum().clamp_min(1)
    return torch.cat(losses).sum() / total, torch.cat(ious).sum() / total


def _frame_loss(masked: Masked, now: torch.Tensor, scores: torch.Tensor, clip: _Clip, *, share: float) -> torch.Tensor:
    """Cross-entropy of the combined map on whole frames; teaches the similarity weights."""
    batch, count = now.shape[:2]
    size = (clip.masks.shape[2], clip.masks.shape[3])
    boxes = _regions(now).unflatten(0, (batch, count))
    confidence = scores.detach().flatten(2).amax(2).sigmoid().float()
    weight = masked.weight.unflatten(0, (batch, count)).float() * confidence * clip.valid
    values = masked.parts.sigmoid().float().unflatten(0, (batch, count - 1))
    whole = masked.whole.sigmoid().float()
    losses = []
    for b in range(batch):
        one = torch.ones(1, device=now.device)
        base, _ = combine_parts(whole[b : b + 1], one, boxes[b, :1], size)
        part, covered = combine_parts(values[b], weight[b, 1:], boxes[b, 1:], size)
        soft = blend_parts(base, part, covered, share=share).clamp(1e-4, 1 - 1e-4)
        target = (clip.masks[b, 2] >= 0.5).float()
        cross = -(target * soft.log() + (1 - target) * (1 - soft).log())  # allowed under autocast
        losses.append(cross.mean() * clip.valid[b, 0])
    return torch.stack(losses).sum() / clip.valid[:, 0].sum().clamp_min(1)
