"""The tracked parts of all objects as flat tensors, and the rules of failure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True)
class FailureParams:
    """When a part is no longer believed, and when new ones are taken.

    Attributes:
        suspend_below: confidence under which a part is suspended.
        resume_from: confidence from which a suspended part is believed again, twice in a row.
        least_cover: a part whose mask covers less of its region is suspended.
        spread: displacements farther than this many median deviations plus a side from the median are not
            believed.
        enabled: False keeps every part forever, as the seed did.
    """

    suspend_below: float = 0.3
    resume_from: float = 0.5
    least_cover: float = 0.05
    spread: float = 3.0
    enabled: bool = True


@dataclass(frozen=True)
class Parts:
    """P parts of all objects; the first part of each object is part 0, the whole object.

    Attributes:
        owner: int64 (P), object index from 0.
        whole: bool (P), part 0 of its object.
        place: float32 (P, 3): center x, center y, side.
        first_side: (P), at birth.
        level: int64 (P), pyramid level of template and search region.
        late: bool (P), born by a refresh: counts less.
        active: bool (P).
        streak: int64 (P), frames in a row in which a suspended part was confident.
        score: (P), confidence in the last frame.
        template: (P, D, T, T).
        reference: (P, D, M, M).
        reference_mask: (P, M, M).
    """

    owner: torch.Tensor
    whole: torch.Tensor
    place: torch.Tensor
    first_side: torch.Tensor
    level: torch.Tensor
    late: torch.Tensor
    active: torch.Tensor
    streak: torch.Tensor
    score: torch.Tensor
    template: torch.Tensor
    reference: torch.Tensor
    reference_mask: torch.Tensor

    def __len__(self) -> int:
        return len(self.owner)

    def kept(self, chosen: torch.Tensor) -> Parts:
        """Only some parts (bool (P))."""
        return Parts(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def joined(self, others: Parts) -> Parts:
        """These parts and others after them."""
        pairs = ((getattr(self, f.name), getattr(others, f.name)) for f in fields(self))
        return Parts(**{f.name: torch.cat(pair) for f, pair in zip(fields(self), pairs, strict=True)})

    def moved(self, **changes: torch.Tensor) -> Parts:
        """A copy with other values."""
        return replace(self, **changes)


def judge_parts(
    parts: Parts,
    proposed: torch.Tensor,
    confidence: torch.Tensor,
    cover: torch.Tensor,
    size: tuple[int, int],
    params: FailureParams,
) -> Parts:
    """Move parts, suspend those that are not believed, and carry these along with the others.

    Args:
        parts: before the frame.
        proposed: (P, 3), where the tracker sees them.
        confidence: (P).
        cover: (P), share of each region that its mask covers.
        size: height and width of the frame.
        params: thresholds.
    """
    if not params.enabled:
        return parts.moved(place=proposed, score=confidence)
    height, width = size
    limit = proposed.new_tensor([width, height])
    center = proposed[:, :2]
    gone = ((center < 0) | (center >= limit)).any(1)
    motion = proposed[:, :2] - parts.place[:, :2]
    growth = (proposed[:, 2] / parts.place[:, 2]).log()
    active, streak = parts.active.clone(), parts.streak.clone()
    place = proposed.clone()
    doubtful = (confidence < params.suspend_below) | gone | (cover < params.least_cover)
    for owner in range(int(parts.owner.max()) + 1):
        mine = parts.owner == owner
        trusted = mine & active & ~doubtful & ~parts.whole
        if int(trusted.sum()) >= 3:
            middle = motion[trusted].median(0).values
            distance = (motion - middle).norm(dim=1)
            spread = distance[trusted].median()
            stray = mine & ~parts.whole & (distance > params.spread * spread + place[:, 2])
            doubtful |= stray
            trusted &= ~stray
        suspended = mine & doubtful
        waiting = mine & ~active & ~doubtful & (confidence >= params.resume_from)
        streak[mine] = torch.where(waiting[mine], streak[mine] + 1, 0)
        back = waiting & (streak >= 2)
        active = (active & ~suspended) | back
        lost = mine & ~active
        guides = trusted & active
        if not bool(guides.any()):
            guides = mine & active & parts.whole  # the whole object alone
        if bool(guides.any()):
            shift = motion[guides].median(0).values
            factor = growth[guides].median().exp()
            place[lost, :2] = parts.place[lost, :2] + shift
            place[lost, 2] = parts.place[lost, 2] * factor
        else:
            place[lost] = parts.place[lost]
    return parts.moved(place=place, active=active, streak=streak, score=confidence)
