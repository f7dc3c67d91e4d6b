"""Features of frames ahead: the half of the work that knows nothing of objects, many frames at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vosrepro.methods.stm.network import QueryFeatures

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class FeatureQueue:
    """Query features of a known video, computed in blocks when the first frame of a block is needed."""

    def __init__(self, frames: torch.Tensor, *, first: int = 0, size: int) -> None:
        """Keep the frames (T, 3, H, W) from position `first` on; at most `size` are encoded at once."""
        self._frames = frames
        self._first = first
        self._size = size
        self._begin = 0
        self._block: QueryFeatures | None = None

    def features(self, index: int, encode: Callable[[torch.Tensor], QueryFeatures]) -> QueryFeatures:
        """Features of one frame, with a batch dimension of 1.

        Args:
            index: position in the video; frames are asked for in order.
            encode: maps (B, 3, H, W) to features of B frames.
        """
        last = self._first + len(self._frames) - 1
        if not self._first <= index <= last:
            raise IndexError(f"frame {index} was not in the preview of {self._first} to {last}")
        if self._block is None or not self._begin <= index < self._begin + len(self._block.key):
            self._block = None  # free the old block before the next is made
            self._begin = index
            at = index - self._first
            self._block = encode(self._frames[at : at + self._size])
        at = index - self._begin
        return QueryFeatures(*(x[at : at + 1] for x in self._block))
