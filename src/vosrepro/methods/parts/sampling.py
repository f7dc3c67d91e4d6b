"""Which parts an object is cut into: candidates, suppression, greedy cover. Deterministic, NumPy only."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

from vosrepro.methods.parts.boxes import object_square, side_table, tight_box

SamplerName = Literal["cover", "thesis"]

_LEAST_AREA_PX, _LEAST_SIDE_PX = 64, 8
_LEAST_FRACTION = 0.35
_MAX_IOU = 0.6
_COVERED = 0.98
_THESIS_PARTS = 300


def part_generator(name: str, seed: int) -> np.random.Generator:
    """The random stream of an object's parts; `name` says which object."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"{name}/{seed}".encode())))


def sample_parts(
    mask: np.ndarray,
    *,
    limit: int,
    candidates: int,
    rng: np.random.Generator,
    sampler: SamplerName = "cover",
) -> np.ndarray:
    """Cut an object into square parts.

    Args:
        mask: bool (H, W), not empty.
        limit: parts beside part 0.
        candidates: boxes drawn by the sampler "cover".
        rng: the only source of randomness.
        sampler: "cover", or "thesis" for the seed's rule.

    Returns:
        float64 (1 + P, 3): center x, center y, side. Row 0 is the whole object; it is the only one if the
        object is smaller than 64 pixels or narrower than 8.
    """
    whole = object_square(mask)
    box = tight_box(mask)
    assert whole is not None
    assert box is not None
    shorter = min(box[2] - box[0], box[3] - box[1])
    if limit == 0 or int(mask.sum()) < _LEAST_AREA_PX or shorter < _LEAST_SIDE_PX:
        return np.array([whole])
    if sampler == "thesis":
        boxes = _thesis_boxes(mask, box, shorter, rng)[: min(limit, _THESIS_PARTS)]
    else:
        drawn = _draw(mask, shorter, candidates, rng)
        kept, fraction = usable(mask, drawn)
        boxes, fraction = drawn[kept], fraction[kept]
        order = suppress(boxes, fraction, max_iou=_MAX_IOU)
        boxes = boxes[order][cover_object(mask, boxes[order], fraction[order], limit=limit)]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = (boxes[:, 2] - boxes[:, 0]).astype(np.float64)
    return np.concatenate([[whole], np.column_stack([centers, sides])])


def _draw(mask: np.ndarray, shorter: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes [c - h, c + h + 1) around uniform mask pixels, with uniform sides of the table; int64 (N, 4)."""
    _, low, high = side_table(shorter, image_short_side_px=min(mask.shape))
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows), size=count)
    half = rng.integers(low, high + 1, size=count) // 2
    return _boxes_at(columns[chosen], rows[chosen], half)


def _boxes_at(x: np.ndarray, y: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([x - half, y - half, x + half + 1, y + half + 1], axis=1)


def usable(
    mask: np.ndarray, boxes: np.ndarray, *, least_fraction: float = _LEAST_FRACTION
) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes lie inside of the image with enough of the object in them, and their fractions.

    Source: WangYuTum/MasterThesis2, branch parts_track (x1 <= W - 1, as written there).
    """
    fraction = foreground_fraction(mask, boxes)
    return inside_image(mask.shape, boxes) & (fraction >= least_fraction), fraction


def inside_image(size: tuple[int, ...], boxes: np.ndarray) -> np.ndarray:
    """Whether boxes (N, 4) lie in an image of `size` (H, W), by the seed's rule."""
    height, width = size
    x0, y0, x1, y1 = boxes.T
    return (x0 >= 0) & (y0 >= 0) & (x1 <= width - 1) & (y1 <= height - 1)


def foreground_fraction(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of mask pixels in each box (N, 4); pixels outside of the image count as background."""
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = mask.astype(np.int64).cumsum(0).cumsum(1)
    x0, x1 = (np.clip(boxes[:, i], 0, width) for i in (0, 2))
    y0, y1 = (np.clip(boxes[:, i], 0, height) for i in (1, 3))
    found = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return found / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def suppress(boxes: np.ndarray, scores: np.ndarray, *, max_iou: float) -> np.ndarray:
    """Greedy suppression by descending score (ties: lower index); a box stays if IoU <= `max_iou` with all kept.

    Returns:
        Indices of the kept boxes in the order of selection.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in order:
        shared = _shared(boxes[i], boxes[kept])
        if np.all(shared <= max_iou * (areas[i] + areas[kept] - shared)):
            kept.append(int(i))
    return np.array(kept, np.int64)


def cover_object(mask: np.ndarray, boxes: np.ndarray, fraction: np.ndarray, *, limit: int) -> np.ndarray:
    """Pick boxes that cover the object: the next has the most (newly covered pixels x fraction).

    Stops at 98 % coverage; free places are filled with the other boxes in their order.

    Returns:
        Indices, at most `limit`, in the order of selection.
    """
    left = mask.copy()
    wanted = (1 - _COVERED) * mask.sum()
    chosen: list[int] = []
    while len(chosen) < min(limit, len(boxes)) and left.sum() > wanted:
        gain = foreground_fraction(left, boxes) * _areas(boxes) * fraction
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen.append(best)
        x0, y0, x1, y1 = boxes[best]
        left[max(y0, 0) : y1, max(x0, 0) : x1] = False
    rest = [i for i in range(len(boxes)) if i not in set(chosen)]
    return np.array((chosen + rest)[:limit], np.int64)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _shared(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return width.clip(0) * height.clip(0)


# ------------------------------------------------------------------------------------ the seed's rule


def thesis_suppress(boxes: np.ndarray, *, max_overlap: float) -> np.ndarray:
    """The seed's suppression: by bottom edge, from below, overlap = intersection / area of the *other* box.

    Returns:
        Indices of the kept boxes in the order of selection.
    """
    order = list(np.argsort(boxes[:, 3], kind="stable"))
    areas = _areas(boxes)
    kept = []
    while order:
        i = order.pop()
        kept.append(int(i))
        if order:
            overlap = _shared(boxes[i], boxes[order]) / areas[order]
            order = [j for j, share in zip(order, overlap, strict=True) if share <= max_overlap]
    return np.array(kept, np.int64)


def _thesis_boxes(
    mask: np.ndarray, box: tuple[int, int, int, int], shorter: int, rng: np.random.Generator
) -> np.ndarray:
    """Block-wise draws, suppressed per block and then globally until at most 300 remain.

    Source: WangYuTum/MasterThesis2, branch parts_track. Objects smaller than a block yield nothing; strips
    right and below of the last whole block are not sampled.
    """
    block, low, high = side_table(shorter, image_short_side_px=min(mask.shape))
    found = [np.zeros((0, 4), np.int64)]
    for top in range(box[1], box[3] - block + 1, block):
        for left in range(box[0], box[2] - block + 1, block):
            rows, columns = np.nonzero(mask[top : top + block, left : left + block])
            if not len(rows):
                continue
            count = block * block // 4
            chosen = rng.integers(len(rows), size=count)
            half = rng.integers(low, high + 1, size=count) // 2
            boxes = _boxes_at(columns[chosen] + left, rows[chosen] + top, half)
            boxes = boxes[usable(mask, boxes)[0]]
            if len(boxes) >= 10:
                boxes = boxes[thesis_suppress(boxes, max_overlap=0.95)]
            found.append(boxes)
    boxes, threshold = np.concatenate(found), 0.97
    while len(boxes) > _THESIS_PARTS:
        boxes = boxes[thesis_suppress(boxes, max_overlap=threshold)]
        threshold -= 0.02
    return boxes
