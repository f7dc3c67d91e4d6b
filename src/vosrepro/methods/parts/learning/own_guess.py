"""The network's own guess of an earlier mask, so that stage 2 learns from its own errors."""

from __future__ import annotations

import torch

from vosrepro.methods.parts.boxes import squares
from vosrepro.methods.parts.combine import blend_parts, combine_parts
from vosrepro.methods.parts.model import MASK_SIDES, PartsNet, halves


@torch.no_grad()
def guess_earlier(
    net: PartsNet,
    frames: torch.Tensor,
    template: torch.Tensor,
    earlier: torch.Tensor,
    reference_mask: torch.Tensor,
    *,
    share_object: float,
) -> torch.Tensor:
    """What the network itself would say at t-1, from the reference alone: soft maps (B, H, W).

    Running statistics are used and none are changed.

    Args:
        net: in training mode or not; left as it is.
        frames: (B, 2, 3, H, W): reference and t-1.
        template: (B, n, 3) parts in the reference, part 0 first.
        earlier: (B, n, 3) their places at t-1.
        reference_mask: (B, H, W).
        share_object: rho.
    """
    training = net.training
    net.eval()
    pyramid = net.adjusted(net.pyramid(frames.transpose(0, 1).flatten(0, 1)), "m")
    first, second = halves(pyramid, len(frames))
    batch, count = template.shape[:2]
    image = torch.arange(batch, device=template.device).repeat_interleave(count)
    whole = torch.arange(batch * count, device=template.device) % count == 0
    flat, place = template.flatten(0, 1), earlier.flatten(0, 1)
    masked = net.propagate(
        net.mask_regions(second, place, image),
        net.mask_regions(first, flat, image),
        net.masks_of(reference_mask, flat, image, cells=net.mask_cells),
        net.earlier_masks(reference_mask, flat, image, whole),
        whole,
    )
    net.train(training)
    size = (reference_mask.shape[1], reference_mask.shape[2])
    boxes = squares(earlier.flatten(0, 1)[:, :2], place[:, 2] * MASK_SIDES)
    boxes = boxes.unflatten(0, (batch, count))
    weight = masked.weight.float().unflatten(0, (batch, count))
    values = masked.parts.float().sigmoid().unflatten(0, (batch, count - 1))
    wholes = masked.whole.float().sigmoid()
    found = []
    for b in range(batch):
        base, _ = combine_parts(wholes[b : b + 1], weight.new_ones(1), boxes[b, :1], size)
        parts, covered = combine_parts(values[b], weight[b, 1:], boxes[b, 1:], size)
        found.append(blend_parts(base, parts, covered, share=share_object))
    soft = torch.stack(found)
    return soft**2 / (soft**2 + (1 - soft) ** 2)  # what merging makes of a single object
