"""Learning rates of the published recipes as functions of the step or epoch, to check params/ against.

Source: WangYuTum/MasterThesis2 (ImageNet branches, master, guide_mask).
"""

from __future__ import annotations

STEPS_PER_EPOCH = 1281167 // 256 + 1


def linear_rate(batch: int, *, base: float = 0.256, base_batch: int = 512) -> float:
    """The linear scaling rule: 0.128 for a batch of 256."""
    return base * batch / base_batch


def imagenet_rate(step: int, *, batch: int, steps_per_epoch: int = STEPS_PER_EPOCH) -> float:
    """Rate at a step: a tenth after epochs 30, 60, 80, 90; the boundary step keeps the old value."""
    drops = sum(step > epoch * steps_per_epoch for epoch in (30, 60, 80, 90))
    return linear_rate(batch) * 0.1**drops


def tracker_rate(epoch: int) -> float:
    """Box tracker: 1e-3, from epoch 5 on 5e-3, halved at 15, 25, 35, 45."""
    if epoch < 5:
        return 1e-3
    return 5e-3 * 0.5 ** sum(epoch >= at for at in (15, 25, 35, 45))


def guide_mask_rate(epoch: int) -> float:
    """Joint score and mask head: 1e-3, from epoch 10 on 5e-3, halved at 15, 25, 35, 45."""
    if epoch < 10:
        return 1e-3
    return 5e-3 * 0.5 ** sum(epoch >= at for at in (15, 25, 35, 45))
