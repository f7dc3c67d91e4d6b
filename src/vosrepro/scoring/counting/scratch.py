"""Buffers that live as long as the process: fresh large arrays would cost a page fault per 4 KiB."""

from __future__ import annotations

import math

import numpy as np


class Scratch:
    """Named buffers that only grow; contents are whatever was left there."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def words(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A uint64 array of this shape in the buffer of this name, not cleared."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(max(size, 1024) * 5 // 4, "<u8")
        return buffer[:size].reshape(shape)


def keep_freed_memory() -> None:
    """Make the C allocator keep freed blocks of a few hundred kilobytes instead of returning them.

    glibc raises its thresholds when a large block is freed; elsewhere this does nothing. Inflating
    hundreds of frames into fresh buffers otherwise spends a third of the time in page faults.
    """
    block = bytes(1 << 23)
    del block
