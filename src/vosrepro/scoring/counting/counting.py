"""The counting core: seven integers per object and frame, from which every score follows.

Source: davisvideochallenge/davis2017-evaluation: davis2017/metrics.py (definitions only).
"""

from __future__ import annotations

import numpy as np

from vosrepro.scoring.counting.disc import radius
from vosrepro.scoring.counting.matching import HALO_LIMIT, BoundaryMatcher, match_plain
from vosrepro.scoring.counting.packing import WORD, Box, Packed
from vosrepro.scoring.counting.scratch import Scratch

#: Columns of a row of counts: pixels of G and P, G, P, B(G), B(P), B(G) near B(P), B(P) near B(G).
COUNTS = ("inter", "gt", "pred", "gt_boundary", "pred_boundary", "gt_match", "pred_match")
_SUMMED = [1, 2, 0, 3, 4]  # columns in the order of the segments that `_tally` queues
_TALLY_WORDS = 1 << 16


class Counter:
    """Counts pairs of frames of any size; holds scratch memory, so one instance per thread.

    `add` fills the array that it is given at the latest by the next `flush`.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._matchers: dict[int, BoundaryMatcher] = {}
        self._bytes = np.empty(_TALLY_WORDS, np.uint8)
        self._used = 0
        self._starts: list[int] = []
        self._rows: list[np.ndarray] = []

    def add(self, truth: Packed, prediction: Packed, counts: np.ndarray) -> None:
        """Count one frame.

        Args:
            truth: planes of the annotation.
            prediction: planes of the result: same size, same ids in the same order.
            counts: zeros, int64 (objects, 7), to be filled; columns as in `COUNTS`.
        """
        assert truth.ids == prediction.ids
        reach = radius(truth.height, truth.width)
        for k, (a, b) in enumerate(zip(truth.boxes, prediction.boxes, strict=True)):
            box = _union(a, b)
            if box is None:
                continue
            masks = self._masks(truth, prediction, k, box)
            buffer = self._boundary(masks, box, truth.height, truth.width)
            boundary = buffer[:-1].reshape(2, masks.shape[1] - 1, masks.shape[2])
            self._tally(masks, boundary, counts[k])
            if a is None or b is None:
                continue
            if reach > HALO_LIMIT:
                counts[k, 5:] = match_plain(boundary[0], boundary[1], reach)
            else:
                self._matcher(reach).add(buffer, boundary.shape, counts[k, 5:])

    def flush(self) -> None:
        """Complete all arrays given to `add` so far."""
        for matcher in self._matchers.values():
            matcher.flush()
        if self._rows:
            sums = np.add.reduceat(self._bytes[: self._used], self._starts, dtype=np.uint32)
            for row, five in zip(self._rows, sums.reshape(-1, len(_SUMMED)), strict=True):
                row[_SUMMED] = five
        self._used = 0
        self._starts, self._rows = [], []

    def _matcher(self, reach: int) -> BoundaryMatcher:
        if reach not in self._matchers:
            self._matchers[reach] = BoundaryMatcher(reach, Scratch())
        return self._matchers[reach]

    def _masks(self, truth: Packed, prediction: Packed, k: int, box: Box) -> np.ndarray:
        """One object's two planes in the box, uint64 (2, rows + 1, words + 1).

        Each row begins with an empty word; below the last row is an empty one.
        """
        top, bottom, left, right = box
        masks = self._scratch.words("masks", (2, bottom - top + 1, right - left + 1))
        masks[...] = 0
        for packed, mask in ((truth, masks[0]), (prediction, masks[1])):
            own = packed.boxes[k]
            if own is not None:
                first, last, begin, end = own
                mask[first - top : last - top, begin - left + 1 : end - left + 1] = packed.bits[
                    k,
                    first - packed.top : last - packed.top,
                    begin - packed.left : end - packed.left,
                ]
        return masks

    def _boundary(self, masks: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
        """Boundary maps, uint64 (2, rows, words + 1), flat and with an empty word behind.

        A pixel is on where it differs from its right, lower or lower-right neighbor; the last row and
        column are repeated outwards. With D the difference to the right and V the difference
        downwards, that is D[y] | V[y] | D[y + 1]. The first word of a row holds the column left of
        the box as its last bit.
        """
        _, rows, pitch = masks.shape
        if box[1] == height:
            masks[:, -1] = masks[:, -2]
        flat = masks.reshape(-1)
        right = self._scratch.words("right", flat.shape)
        carry = self._scratch.words("carry", flat.shape)
        np.left_shift(flat, 63, out=carry)
        np.right_shift(flat, 1, out=right)
        np.bitwise_or(right[:-1], carry[1:], out=right[:-1])
        np.bitwise_xor(right, flat, out=right)
        if 64 * box[3] >= width:  # the last column has no right neighbor
            last = right.reshape(masks.shape)[:, :, (width - 1) // 64 - box[2] + 1]
            last &= np.uint64(~(1 << (width - 1) % 64) & (2**64 - 1))
        size = 2 * (rows - 1) * pitch
        buffer = self._scratch.words("boundary", (size + 1,))
        buffer[size] = 0
        boundary = buffer[:size].reshape(2, rows - 1, pitch)
        right = right.reshape(masks.shape)
        np.bitwise_xor(masks[:, :-1], masks[:, 1:], out=boundary)
        np.bitwise_or(boundary, right[:, :-1], out=boundary)
        np.bitwise_or(boundary, right[:, 1:], out=boundary)
        if box[2] == 0:  # there is no column left of the image
            boundary[:, :, 0] = 0
        if box[1] == height:
            masks[:, -1] = 0
        return buffer

    def _tally(self, masks: np.ndarray, boundary: np.ndarray, row: np.ndarray) -> None:
        """Queue the bits of both masks, of what they share, and of both boundaries for summing."""
        one, edge = masks.size // 2, boundary.size // 2
        size = 3 * one + 2 * edge
        if self._used + size > self._bytes.size:
            self.flush()
            if size > self._bytes.size:
                self._bytes = np.empty(size, np.uint8)
        at = self._used
        flat = masks.reshape(-1)
        both = self._scratch.words("carry", (one,))
        np.bitwise_and(flat[:one], flat[one:], out=both)
        np.bitwise_count(flat, out=self._bytes[at : at + 2 * one])
        np.bitwise_count(both, out=self._bytes[at + 2 * one : at + 3 * one])
        np.bitwise_count(boundary.reshape(-1), out=self._bytes[at + 3 * one : at + size])
        self._starts += (at, at + one, at + 2 * one, at + 3 * one, at + 3 * one + edge)
        self._rows.append(row)
        self._used += size


def _union(a: Box | None, b: Box | None) -> Box | None:
    """The box around both, with one more row above."""
    if a is None or b is None:
        a = b = a or b
        if a is None or b is None:
            return None
    return max(min(a[0], b[0]) - 1, 0), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])


assert WORD.itemsize == 8
