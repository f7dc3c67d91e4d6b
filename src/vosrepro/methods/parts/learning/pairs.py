"""Training pairs: parts drawn on a frame, where they are in another one, and synthetic frames with known motion.

Everything is batched on the device of the frames and draws from torch's global generator, which training
seeds for every step. Places are (x, y) in pixels; parts are (center x, center y, side).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

_CANDIDATES = 48
_LEAST_FRACTION = 0.35


def tight_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tight boxes (B, 4) of masks (B, H, W) > 0.5, and whether there is anything in them, bool (B).

    An empty mask has the whole frame as its box.
    """
    inside = masks > 0.5
    rows, columns = inside.any(2).float(), inside.any(1).float()
    x0, x1 = _span(columns)
    y0, y1 = _span(rows)
    found = inside.flatten(1).any(1)
    full = torch.tensor([0, 0, masks.shape[2], masks.shape[1]], device=masks.device)
    boxes = torch.stack([x0, y0, x1, y1], dim=1)
    return torch.where(found[:, None], boxes, full).float(), found


def _span(line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return line.argmax(1), line.shape[1] - line.flip(1).argmax(1)


def whole_squares(boxes: torch.Tensor) -> torch.Tensor:
    """Part 0 of tight boxes (B, 4): (B, 3)."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True)
    return torch.cat([center, side.clamp_min(8)], dim=1)


def pick_parts(masks: torch.Tensor, *, count: int, side_px: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Part 0 and `count` random parts of each object.

    Args:
        masks: (B, H, W), foreground > 0.5.
        count: parts beside part 0.
        side_px: smallest and largest side; limited to 0.8 of the object's shorter side.

    Returns:
        Parts (B, 1 + count, 3) and which of them are usable, bool (B, 1 + count).
    """
    batch, height, width = masks.shape
    boxes, found = tight_boxes(masks)
    whole = whole_squares(boxes)
    shorter = (boxes[:, 2:] - boxes[:, :2]).amin(1, keepdim=True)
    high = (0.8 * shorter).clamp(side_px[0], side_px[1])
    weights = (masks > 0.5).flatten(1).float() + 1e-9
    place = torch.multinomial(weights, _CANDIDATES, replacement=True)
    center = torch.stack([place % width + 0.5, place // width + 0.5], dim=2)
    side = side_px[0] + torch.rand(batch, _CANDIDATES, device=masks.device) * (high - side_px[0])
    lower, upper = center - side[..., None] / 2, center + side[..., None] / 2
    limit = torch.tensor([width, height], device=masks.device)
    inside = (lower >= 0).all(2) & (upper <= limit).all(2)
    share = _fractions(masks > 0.5, lower.round().long(), upper.round().long())
    good = inside & (share >= _LEAST_FRACTION) & found[:, None]
    chosen = torch.multinomial(good.float() + 1e-6, count)
    drawn = torch.cat([center, side[..., None]], dim=2)
    parts = drawn.gather(1, chosen[..., None].expand(-1, -1, 3))
    valid = torch.cat([found[:, None], good.gather(1, chosen)], dim=1)
    return torch.cat([whole[:, None], parts], dim=1), valid


def _fractions(inside: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Share of foreground in boxes; (B, H, W), (B, N, 2), (B, N, 2) -> (B, N)."""
    height, width = inside.shape[1:]
    total = F.pad(inside.float().cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
    x0, x1 = lower[..., 0].clamp(0, width), upper[..., 0].clamp(0, width)
    y0, y1 = lower[..., 1].clamp(0, height), upper[..., 1].clamp(0, height)

    def at(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return total.gather(1, y * (width + 1) + x)

    area = ((x1 - x0) * (y1 - y0)).clamp_min(1)
    return (at(y1, x1) - at(y0, x1) - at(y1, x0) + at(y0, x0)) / area


def follow_boxes(parts: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Where parts (B, n, 3) are when the object's tight box moves from `before` to `after` (B, 4).

    The affine map of the boxes: real videos have no truth for the correspondence of parts.
    """
    ratio = (after[:, 2:] - after[:, :2]) / (before[:, 2:] - before[:, :2]).clamp_min(1)
    middle, target = ((b[:, :2] + b[:, 2:])[:, None] / 2 for b in (before, after))
    center = target + (parts[..., :2] - middle) * ratio[:, None]
    side = parts[..., 2:] * ratio.prod(1).sqrt()[:, None, None]
    moved = torch.cat([center, side], dim=2)
    moved[:, 0] = whole_squares(after)
    return moved


@dataclass(frozen=True)
class Warp:
    """A smooth map of frames: turn, scale and shift, and a bending field.

    Attributes:
        matrix: (B, 2, 2), from input to output offsets from the center.
        shift: (B, 2) in pixels.
        scale: (B).
        bend: (B, 2, H, W) in pixels, at output places.
    """

    matrix: torch.Tensor
    shift: torch.Tensor
    scale: torch.Tensor
    bend: torch.Tensor

    @classmethod
    def draw(cls, batch: int, size: tuple[int, int], *, device: torch.device) -> Warp:
        """Turn within 15 degrees, scale 0.85 to 1.15, shift 10 %, bend 3 % of the shorter side."""
        spread = torch.rand(batch, 4, device=device) * 2 - 1
        scale = 1 + 0.15 * spread[:, 1]
        shift = 0.1 * spread[:, 2:] * torch.tensor([size[1], size[0]], device=device)
        coarse = (torch.rand(batch, 2, 4, 4, device=device) * 2 - 1) * 0.03 * min(size)
        bend = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
        return cls(_turn(spread[:, 0] * math.radians(15), scale), shift, scale, bend)

    def partly(self, share: float) -> Warp:
        """A similar map with `share` of shift, bend, and change of scale and angle."""
        angle = torch.atan2(self.matrix[:, 1, 0], self.matrix[:, 0, 0]) * share
        scale = 1 + (self.scale - 1) * share
        return Warp(_turn(angle, scale), self.shift * share, scale, self.bend * share)

    def images(self, x: torch.Tensor) -> torch.Tensor:
        """Warp (B, C, H, W) bilinearly; outside is 0."""
        height, width = x.shape[-2:]
        rows = torch.arange(height, device=x.device, dtype=x.dtype) + 0.5
        columns = torch.arange(width, device=x.device, dtype=x.dtype) + 0.5
        out = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=2).reshape(1, -1, 2)
        source = self._source(out.expand(len(x), -1, -1), self.bend.flatten(2).transpose(1, 2))
        limit = torch.tensor([width, height], device=x.device, dtype=x.dtype)
        grid = (2 * source / limit - 1).reshape(len(x), height, width, 2)
        return F.grid_sample(x, grid, align_corners=False)

    def points(self, places: torch.Tensor) -> torch.Tensor:
        """Where input places (B, n, 2) come to lie, by fixed-point iteration on the bending field."""
        found = self._target(places, torch.zeros_like(places))
        for _ in range(6):
            found = self._target(places, self._bend_at(found))
        return found

    def _middle(self) -> torch.Tensor:
        height, width = self.bend.shape[-2:]
        return torch.tensor([width / 2, height / 2], device=self.bend.device)

    def _source(self, out: torch.Tensor, bend: torch.Tensor) -> torch.Tensor:
        middle = self._middle()
        back = torch.linalg.inv(self.matrix)
        return (out - middle - self.shift[:, None]) @ back.transpose(1, 2) + middle + bend

    def _target(self, source: torch.Tensor, bend: torch.Tensor) -> torch.Tensor:
        middle = self._middle()
        moved = (source - bend - middle) @ self.matrix.transpose(1, 2)
        return moved + middle + self.shift[:, None]

    def _bend_at(self, places: torch.Tensor) -> torch.Tensor:
        height, width = self.bend.shape[-2:]
        grid = 2 * places / torch.tensor([width, height], device=places.device) - 1
        sampled = F.grid_sample(self.bend, grid[:, None], padding_mode="border", align_corners=False)
        return sampled[:, :, 0].transpose(1, 2)


def _turn(angle: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    c, s = angle.cos() * scale, angle.sin() * scale
    return torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)


def synthetic_frames(
    frame: torch.Tensor, mask: torch.Tensor, warp: Warp, ground: torch.Tensor, foreign: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A frame and mask after a warp; where `foreign`, the object lies on another ground.

    Args:
        frame: (B, 3, H, W).
        mask: (B, H, W) in [0, 1].
        warp: of B frames.
        ground: (B, 3, H, W).
        foreign: bool (B).
    """
    moved = warp.images(torch.cat([frame, mask[:, None]], dim=1))
    image, soft = moved[:, :3], moved[:, 3:]
    pasted = soft * image + (1 - soft) * ground
    return torch.where(foreign[:, None, None, None], pasted, image), moved[:, 3]


def roughen(masks: torch.Tensor) -> torch.Tensor:
    """Half of the masks (B, H, W) shifted by up to 2 pixels and made one pixel larger or smaller."""
    batch = len(masks)
    grown = F.max_pool2d(masks[:, None], 3, 1, 1)[:, 0]
    shrunk = -F.max_pool2d(-masks[:, None], 3, 1, 1)[:, 0]
    choice = torch.rand(batch, device=masks.device)[:, None, None]
    changed = torch.where(choice < 0.33, grown, torch.where(choice < 0.67, shrunk, masks))
    shift = (torch.rand(2) * 5 - 2.5).round().int().tolist()
    changed = torch.roll(changed, shift, dims=(1, 2))
    keep = torch.rand(batch, device=masks.device)[:, None, None] < 0.5
    return torch.where(keep, masks, changed)
