"""Counting boundary pixels that have a counterpart within the disc, for many objects at a time.

The bits of an object's boundary are cut into strips of 64-bit words: the inner bytes of a word are its
own, the outer ones repeat its neighbors, so that shifts up to the radius need no carry. Strips of all
objects and frames stand one behind the other in one flat array, separated by empty rows: a dilation is
then a handful of whole-array operations, whatever the number of objects.
"""

from __future__ import annotations

import numpy as np

from vosrepro.scoring.counting.disc import dilation_plan
from vosrepro.scoring.counting.packing import WORD
from vosrepro.scoring.counting.scratch import Scratch

BATCH_WORDS = 6144  # words of one side after which the strips are matched; fits the second-level cache
HALO_LIMIT = 24  # largest radius for halo words: 3 bytes on either side of 2


class BoundaryMatcher:
    """Collects boundaries of pairs and counts their matches in batches.

    Results are written into the arrays given to `add`, at the latest by `flush`.
    """

    def __init__(self, radius: int, scratch: Scratch) -> None:
        if not 0 < radius <= HALO_LIMIT:
            raise ValueError(f"halo words reach 1 to {HALO_LIMIT} pixels, not {radius}")
        self.radius = radius
        self._halo = (radius + 7) // 8
        self._payload = 8 - 2 * self._halo
        self._mask = np.uint64(((1 << 8 * self._payload) - 1) << 8 * self._halo)
        self._plan = dilation_plan(radius)
        self._scratch = scratch
        self._capacity = 0
        self._sides = np.empty((2, 0), WORD)
        self._begin()

    def add(self, boundary: np.ndarray, shape: tuple[int, ...], out: np.ndarray) -> None:
        """Queue one object.

        Args:
            boundary: flat uint64 of truth, then prediction, each (rows, words + 1); the first word of a
                row is empty but for its last bit, and an empty word is behind the last row. May be
                reused by the caller at once.
            shape: (2, rows, words + 1).
            out: int array (2,) that will receive the matched true and the matched predicted pixels.
        """
        _, rows, pitch = shape
        strips = -(-(8 * (pitch - 1) + 1) // self._payload)  # from the last byte of the first word
        height = rows + self.radius
        size = strips * height
        if self._used + size > self._capacity:
            self.flush()
            if self._used + size > self._capacity:
                self._capacity = max(BATCH_WORDS, size) + 2 * self.radius
                self._sides = self._scratch.words("sides", (2, self._capacity))
                self._begin()
        strided = np.ndarray(
            (2, strips, rows),
            WORD,
            boundary,
            7 - self._halo,
            (8 * rows * pitch, self._payload, 8 * pitch),
        )
        target = self._sides[:, self._used : self._used + size].reshape(2, strips, height)
        target[:, :, :rows] = strided
        target[:, :, rows:] = 0
        self._outs.append(out)
        self._starts.append(self._used)
        self._used += size

    def flush(self) -> None:
        """Match all that is queued."""
        if not self._outs:
            return
        near = self._dilate()
        sides = self._sides[:, : self._used]
        matched = self._scratch.words("widened", (2, self._used))
        np.bitwise_and(near[::-1], sides, out=matched)
        np.bitwise_and(matched, self._mask, out=matched)
        counts = self._scratch.words("counts", (self._used,)).view(np.uint8)[: 2 * self._used]
        counts = counts.reshape(2, self._used)
        np.bitwise_count(matched, out=counts)
        sums = np.add.reduceat(counts, self._starts, axis=1, dtype=np.uint32)
        for out, pair in zip(self._outs, sums.T, strict=True):
            out[:] = pair
        self._begin()

    def _begin(self) -> None:
        self._outs: list[np.ndarray] = []
        self._starts: list[int] = []
        self._used = self.radius  # a margin of empty rows before the first strip
        self._sides[:, : self.radius] = 0

    def _dilate(self) -> np.ndarray:
        """Both sides dilated by the disc: uint64 (2, used); halo bytes and margins are garbage."""
        used = self._used
        wide = self._scratch.words("wide", (2, used))
        wide[...] = self._sides[:, :used]
        wide = wide.reshape(-1)
        temporary = self._scratch.words("widened", (2 * used,))
        other = self._scratch.words("other", (2 * used,))
        near = self._scratch.words("near", (2 * used,))
        near[...] = 0
        for step in self._plan:
            for shift in step.shifts:
                np.left_shift(wide, shift, out=temporary)
                np.right_shift(wide, shift, out=other)
                np.bitwise_or(wide, temporary, out=wide)
                np.bitwise_or(wide, other, out=wide)
            for dy in step.rows:
                _or_shifted(near, wide, dy)
        return near.reshape(2, used)


def _or_shifted(near: np.ndarray, wide: np.ndarray, dy: int) -> None:
    """near[y] |= wide[y - dy] | wide[y + dy] along a flat array."""
    if dy == 0:
        np.bitwise_or(near, wide, out=near)
        return
    np.bitwise_or(near[dy:], wide[:-dy], out=near[dy:])
    np.bitwise_or(near[:-dy], wide[dy:], out=near[:-dy])


def match_plain(truth: np.ndarray, prediction: np.ndarray, radius: int) -> tuple[int, int]:
    """The two match counts of one object for any radius, with carries between words; slower.

    Args:
        truth: uint64 (rows, words) of the true boundary; shifts may leave at either end.
        prediction: the same for the prediction.
        radius: of the disc, in pixels.

    Returns:
        Matched true and matched predicted boundary pixels.
    """
    rows = len(truth)
    near = []
    for source in (truth, prediction):
        wide = source.copy()
        reached = np.zeros_like(source)
        for step in dilation_plan(radius):
            for shift in step.shifts:
                wide = wide | _shifted(wide, shift) | _shifted(wide, -shift)
            for dy in step.rows:
                if dy < rows:
                    reached[dy:] |= wide[: rows - dy]
                    reached[: rows - dy] |= wide[dy:]
        near.append(reached)
    true_near_prediction = np.bitwise_count(truth & near[1]).sum(dtype=np.int64)
    predicted_near_truth = np.bitwise_count(prediction & near[0]).sum(dtype=np.int64)
    return int(true_near_prediction), int(predicted_near_truth)


def _shifted(words: np.ndarray, shift: int) -> np.ndarray:
    """Bits of each row moved by `shift` columns to the right (negative: to the left)."""
    whole, rest = divmod(abs(shift), 64)
    out = np.zeros_like(words)
    count = words.shape[1]
    if whole >= count:
        return out
    if shift > 0:
        out[:, whole:] = words[:, : count - whole] << np.uint64(rest)
        if rest and whole + 1 < count:
            out[:, whole + 1 :] |= words[:, : count - whole - 1] >> np.uint64(64 - rest)
    else:
        out[:, : count - whole] = words[:, whole:] >> np.uint64(rest)
        if rest and whole + 1 < count:
            out[:, : count - whole - 1] |= words[:, whole + 1 :] << np.uint64(64 - rest)
    return out
