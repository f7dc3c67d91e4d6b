"""From label maps to bit planes: one plane of 64-bit words per object, cropped to where labels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from vosrepro.scoring.counting.png import LabelImage, Malformed

VOID = 255
WORD = np.dtype("<u8")
#: First row, row after the last, first word, word after the last.
Box: TypeAlias = tuple[int, int, int, int]
_REVERSED = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint8)


class Packed(NamedTuple):
    """Bit planes of one frame.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        top: first row of the crop.
        left: first word of the crop: column 64 * left.
        ids: object id of each plane.
        bits: uint64 (planes, crop rows, crop words), least significant bit leftmost; 0 beyond the image.
        boxes: where each plane has bits, in rows and words of the image; None for an empty plane.
    """

    height: int
    width: int
    top: int
    left: int
    ids: tuple[int, ...]
    bits: np.ndarray
    boxes: tuple[Box | None, ...]

    def plane(self, object_id: int) -> np.ndarray:
        """One object's mask as bool (H, W)."""
        mask = np.zeros((self.height, self.width), bool)
        if object_id not in self.ids or not self.bits.size:
            return mask
        octets = np.ascontiguousarray(self.bits[self.ids.index(object_id)]).view(np.uint8)
        columns = min(octets.shape[1] * 8, self.width - 64 * self.left)
        rows = np.unpackbits(octets, axis=1, count=columns, bitorder="little")
        region = mask[self.top : self.top + len(rows), 64 * self.left :]
        region[:, :columns] = rows
        return mask


def packed(height: int, width: int, top: int, left: int, ids: tuple[int, ...], bits: np.ndarray) -> Packed:
    """Planes with their boxes."""
    if not bits.size:
        return Packed(height, width, 0, 0, ids, bits, (None,) * len(ids))
    rows = np.bitwise_or.reduce(bits, axis=2)
    words = np.bitwise_or.reduce(bits, axis=1)
    boxes: list[Box | None] = []
    for k in range(len(ids)):
        used = rows[k].nonzero()[0]
        if not used.size:
            boxes.append(None)
            continue
        across = words[k].nonzero()[0]
        boxes.append(
            (
                top + int(used[0]),
                top + int(used[-1]) + 1,
                left + int(across[0]),
                left + int(across[-1]) + 1,
            )
        )
    return Packed(height, width, top, left, ids, bits, tuple(boxes))


def pack_binary(image: LabelImage, *, ignore: int | None = None) -> Packed:
    """Object 1 is where the label is not 0 (nor `ignore`)."""
    if image.values is not None and ignore is not None and image.maximum() == ignore:
        values = np.where(image.values == ignore, np.uint8(0), image.values)
        image = LabelImage(image.height, image.width, values)
    return _single(image, (1,), *_labelled(image, _maximum(image)))


def check_two_values(image: LabelImage) -> None:
    """Refuse a binary mask whose values are neither {0, 1} nor {0, 255}.

    Raises:
        Malformed: naming a value.
    """
    if image.values is None or image.maximum() <= 1:
        return
    signed = image.values.view(np.int8)
    if signed.max() > 0 or signed.min() < -1:
        bad = sorted(set(np.unique(image.values).tolist()) - {0, 1, 255} or {1, 255})
        raise Malformed(
            f"it is not a binary mask (it holds {', '.join(map(str, bad[:5]))}): "
            "use 0 and 1, 0 and 255, or a 1-bit file"
        )


def pack_objects(image: LabelImage, ids: Sequence[int]) -> tuple[Packed, bool]:
    """One plane per id.

    Returns:
        The planes, and whether the image holds non-zero labels besides `ids`.
    """
    ids = tuple(ids)
    maximum = _maximum(image)
    top, left, labelled = _labelled(image, maximum)
    if ids == (1,) and maximum <= 1:
        return _single(image, ids, top, left, labelled), False
    planes = np.zeros((len(ids), *labelled.shape), WORD)
    if not labelled.size:
        return packed(image.height, image.width, 0, 0, ids, planes), False
    if image.values is None:
        if 1 in ids:
            planes[ids.index(1)] = labelled
        return packed(image.height, image.width, top, left, ids, planes), 1 not in ids
    complete = bool(ids) and ids == tuple(range(1, len(ids) + 1)) and maximum <= ids[-1]
    region = image.values[top : top + labelled.shape[0], 64 * left : 64 * (left + labelled.shape[1])]
    octets = planes.view(np.uint8)[:, :, : -(-region.shape[1] // 8)]
    for k in range(len(ids) - complete):  # of a complete list, the last is what remains
        if ids[k] <= maximum:
            octets[k] = np.packbits(region == ids[k], axis=1, bitorder="little")
    others = np.bitwise_or.reduce(planes, axis=0)
    if complete:
        np.bitwise_xor(labelled, others, out=planes[-1])
    extra = not complete and not np.array_equal(others, labelled)
    return packed(image.height, image.width, top, left, ids, planes), extra


def labels_in(image: LabelImage) -> list[int]:
    """All labels but 0, ascending."""
    if image.maximum() <= 1:
        return [1] if image.maximum() else []
    counts = np.bincount(image.array().ravel(), minlength=256)
    return [int(v) for v in counts.nonzero()[0] if v]


def _maximum(image: LabelImage) -> int:
    """The largest label, or 1 for 1-bit files."""
    return 1 if image.values is None else image.maximum()


def _labelled(image: LabelImage, maximum: int) -> tuple[int, int, np.ndarray]:
    """Non-zero labels, cropped: first row, first word, uint64 (rows, words)."""
    if image.values is None:
        assert image.bits is not None
        top, bottom = _used_rows(image.bits)
        octets = _REVERSED[image.bits[top:bottom]]
        if image.width % 8:
            octets[:, -1] &= np.uint8((1 << image.width % 8) - 1)
    else:
        # Searching for each label is fastest for few of them; 0/255 masks have two.
        few = image.raw is not None and maximum < 8
        top, bottom = image.rows(maximum) if few else _used_rows(image.values)
        octets = np.packbits(image.values[top:bottom], axis=1, bitorder="little")
    used = np.bitwise_or.reduce(octets, axis=0).nonzero()[0]
    if not used.size:
        return 0, 0, np.zeros((0, 0), WORD)
    left, right = int(used[0]) // 8, int(used[-1]) // 8 + 1
    cut = octets[:, 8 * left : 8 * right]
    words = np.zeros((len(octets), right - left), WORD)
    words.view(np.uint8)[:, : cut.shape[1]] = cut
    return top, left, words


def _single(image: LabelImage, ids: tuple[int, ...], top: int, left: int, labelled: np.ndarray) -> Packed:
    """The only plane; its crop is its box."""
    rows, words = labelled.shape
    box = (top, top + rows, left, left + words) if labelled.size else None
    return Packed(image.height, image.width, top, left, ids, labelled[None], (box,))


def _used_rows(values: np.ndarray) -> tuple[int, int]:
    """First row that is not 0 and the one after the last; (0, 0) if there is none."""
    used = np.bitwise_or.reduce(values, axis=1).nonzero()[0]
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
