"""Where the frames of one video and the masks of its objects come from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from vosrepro.datasets import Video, read_annotation, read_frame

if TYPE_CHECKING:
    from pathlib import Path

#: Decoded frames that wait for the device.
_AHEAD = 16


@runtime_checkable
class VideoSource(Protocol):
    """A video for `runner.segment_video`."""

    @property
    def name(self) -> str:
        """For messages and tables."""
        ...

    @property
    def frame_names(self) -> Sequence[str]:
        """One name for each frame, in temporal order."""
        ...

    @property
    def starts(self) -> Mapping[int, str]:
        """Object id -> name of the frame on which its mask is given."""
        ...

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3) RGB; indices are asked for in ascending order, each once."""
        ...

    def labels(self, frame: str) -> np.ndarray:
        """uint8 (H, W) of object ids, for a frame on which an object starts."""
        ...

    def where(self, frame: str) -> Path | str:
        """What to call the mask of a frame in a message."""
        ...


class VideoFiles:
    """A video of a data set."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self.name = video.name
        self.frame_names: Sequence[str] = [path.stem for path in video.frames]
        self.starts: Mapping[int, str] = video.starts

    def image(self, index: int) -> np.ndarray:
        """See `VideoSource.image`."""
        return read_frame(self._video.frames[index])

    def labels(self, frame: str) -> np.ndarray:
        """See `VideoSource.labels`."""
        return read_annotation(self._video, frame)

    def where(self, frame: str) -> Path | str:
        """See `VideoSource.where`."""
        return self._video.annotations[frame]


def read_ahead(source: VideoSource, indices: range, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """Frames as uint8 tensors (H, W, 3) on the host, with their indices.

    For CUDA a thread decodes up to 16 frames ahead into page-locked memory, from where copies overlap with
    computing; for the CPU each frame is decoded when it is asked for.
    """
    if device.type != "cuda":
        for index in indices:
            yield index, torch.from_numpy(source.image(index))
        return

    def read(index: int) -> torch.Tensor:
        return torch.from_numpy(source.image(index)).pin_memory()

    waiting: deque[tuple[int, Future[torch.Tensor]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for index in indices:
                waiting.append((index, pool.submit(read, index)))
                if len(waiting) > _AHEAD:
                    ready, frame = waiting.popleft()
                    yield ready, frame.result()
            while waiting:
                ready, frame = waiting.popleft()
                yield ready, frame.result()
        finally:
            pool.shutdown(cancel_futures=True)
