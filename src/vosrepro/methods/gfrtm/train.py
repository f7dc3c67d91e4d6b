"""Training of the gate and all that it needs, on clips of several frames.

Source: HYOJINPARK/Reuse_VOS: model/training_model.py; Park et al., CVPR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from vosrepro.methods.frtm import train as base
from vosrepro.methods.frtm.refiner import ORDER, resize

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.base.types import Batch
    from vosrepro.methods.frtm.model import Scorer
    from vosrepro.methods.gfrtm.model import GFRTM

_DEEP, _FINE = ORDER[:2], ORDER[2:]


class GateOutput(NamedTuple):
    """What the losses need, frames 1..T-1.

    Attributes:
        logits: (B, T - 1, H, W).
        change: scalar, error of the predicted score changes, summed over frames.
        probabilities: (B, T - 1, 2): reuse, compute.
        iou: (B, T - 1), of each label with the label of the last computed frame.
    """

    logits: torch.Tensor
    change: torch.Tensor
    probabilities: torch.Tensor
    iou: torch.Tensor


def train_step(
    model: nn.Module,
    batch: Batch,
    *,
    iteration: int,
    gate: bool = True,
    m1: float = 1.0,
    m2: float = 0.0,
    margin_steps: int = 1,
    clamp_reuse_target: bool = False,
    fix_prevx: bool = False,
    slack_px: int = 0,
    views: int = 15,
    frames_together: bool = False,
    dice_weight: float = 0.0,
    target: dict[str, Any] | None = None,
    target_cache: str | None = None,
) -> dict[str, torch.Tensor]:
    """Segmentation, score-change and gate losses of the later frames of clips.

    Args:
        model: the network or its DDP wrapper; called exactly once.
        batch: see `vosrepro.base.types`.
        iteration: step within the stage.
        gate: False trains the base network only (FRTM's step).
        m1: lower bound of the wanted reuse probability, growing over `margin_steps`.
        m2: errors of the gate up to this are free.
        margin_steps: upstream's "marginEp" in steps.
        clamp_reuse_target: let m1 act. Upstream throws the clamped value away, so m1 has no effect there;
            with m1 = 1 the gate would learn to reuse always.
        fix_prevx: update the stored feature where the gate *computes*, as inference does. Upstream does the
            opposite.
        slack_px: how far apart two masks may be and still count as overlapping, see `gate_clip`.
        views: see `vosrepro.methods.frtm.train.train_step`, as the rest.
        frames_together: without the gate only.
        dice_weight: see there.
        target: overrides of the target models' settings.
        target_cache: folder of finished target models.

    Returns:
        "loss", its parts, "iou" of the masks, "reuse" (share of reused frames).
    """
    if not gate:
        values = base.train_step(
            model,
            batch,
            iteration=iteration,
            views=views,
            frames_together=frames_together,
            dice_weight=dice_weight,
            target=target,
            target_cache=target_cache,
        )
        return values
    clips, scorer = base.prepared(model, batch, views=views, target=target, folder=target_cache)
    out: GateOutput = model(clips.frames, scorer, masks=clips.masks, fix_prevx=fix_prevx, slack_px=slack_px)
    truth = clips.masks[:, 1:]
    segmentation = base.segmentation_loss(out.logits, truth, dice_weight=dice_weight)
    wanted = out.iou
    if clamp_reuse_target:
        wanted = wanted.clamp(min=m1 * min(1.0, iteration / margin_steps))
    goal = torch.stack([wanted, 1 - wanted], 2)
    error = F.relu((out.probabilities - goal).abs() - m2).square()
    gating = error.mean((0, 2)).sum()
    return {
        "loss": segmentation + out.change + gating,
        "loss_segmentation": segmentation.detach(),
        "loss_change": out.change.detach(),
        "loss_gate": gating.detach(),
        "iou": base.mean_foreground_iou(out.logits, truth),
        "reuse": (out.probabilities[..., 0] > out.probabilities[..., 1]).float().mean(),
    }


def gate_clip(
    network: GFRTM,
    frames: torch.Tensor,
    scorer: Scorer,
    masks: torch.Tensor,
    *,
    fix_prevx: bool,
    slack_px: int,
) -> GateOutput:
    """Walk through clips with a hard gate per sample and frame (straight-through gradient).

    Args:
        network: unwrapped.
        frames: (B, T, 3, H, W).
        scorer: target models of the samples.
        masks: (B, T, H, W).
        fix_prevx: see `train_step`.
        slack_px: pixels of either mask that have the other one within so many pixels in x and y count as
            shared; 0 is the published overlap. Small frames need it: their objects move by a larger share
            of their size from frame to frame, so that no threshold would ever be reached.
    """
    size = frames.shape[-2:]
    before = network.backbone(frames[:, 0])
    template = network.template(before["layer3"], resize(masks[:, :1], before["layer3"].shape[-2:]))
    small = before["layer4"].shape[-2:]
    kept = resize(masks[:, :1], small)  # S, the last computed score
    stored = network.refiner.levels(_DEEP, before, scorer({"layer4": before["layer4"]}, 0), None)
    label = masks[:, 0]
    logits, probabilities, ious = [], [], []
    change = frames.new_zeros(())
    for t in range(1, frames.shape[1]):
        features = network.backbone(frames[:, t])
        gate = network.gate(features["layer3"], kept, template)
        soft = gate.probabilities
        reuse = soft[:, 0] > soft[:, 1]
        through = (reuse.float() + soft[:, 0] - soft[:, 0].detach())[:, None, None, None]
        pick = reuse[:, None, None, None]
        delta = network.Convert_Diff(gate.match)
        change = change + F.mse_loss(delta, resize(masks[:, t : t + 1], small) - kept)
        score = scorer({"layer4": features["layer4"]}, t)[0]
        mixed = torch.where(pick, kept, score)
        final = torch.where(pick, kept + delta, score)
        for level in ("layer4", "layer5"):
            features[level] = torch.where(pick, before[level], features[level])
        fresh = network.refiner.levels(_DEEP, features, [mixed], None)
        moved = network.refiner.Diff_process(stored, delta)
        x = through * moved + (1 - through) * fresh
        x = network.refiner.levels(_FINE, features, [final], x)
        logits.append(network.refiner.project(x, size)[:, 0])
        probabilities.append(soft)
        ious.append(_iou(masks[:, t], label, slack_px))
        keep = through if fix_prevx else 1 - through
        stored = stored * keep + fresh * (1 - keep)
        kept, before = mixed, features
        label = torch.where(reuse[:, None, None], label, masks[:, t])
    return GateOutput(torch.stack(logits, 1), change, torch.stack(probabilities, 1), torch.stack(ious, 1))


def _iou(a: torch.Tensor, b: torch.Tensor, slack_px: int) -> torch.Tensor:
    """(B,) intersection over union of masks; 0 where both are empty."""
    a, b = (a > 0.5).float(), (b > 0.5).float()
    either = torch.maximum(a, b)
    near = [F.max_pool2d(x, 2 * slack_px + 1, 1, slack_px) for x in (a, b)]
    both = either * near[0] * near[1]
    return both.sum((-2, -1)) / either.sum((-2, -1)).clamp(min=1)
