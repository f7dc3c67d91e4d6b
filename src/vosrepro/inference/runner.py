"""Segment one video with any method: the loop that owns everything but the mathematics.

The method sees frames in [0, 1] at the evaluation size and labels 1..N in order of appearance; the
caller gets label maps at the file's size with the file's ids.

On a GPU a thread decodes frames ahead into page-locked memory while the device works, and a method with
`preview` is shown the next frames in blocks. On a CPU both would only compete with the method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional as F

from vosrepro.base.errors import DataError
from vosrepro.base.types import Correctable, MetaOrdered, Previewing, Skipping
from vosrepro.inference.clock import FrameClock, FrameTime
from vosrepro.inference.sources import VideoFiles, VideoSource, read_ahead
from vosrepro.methods.common.masks import most_likely, one_hot
from vosrepro.methods.common.resizing import resize_frame, resize_labels, short_side_size

if TYPE_CHECKING:
    from vosrepro.base.types import Segmenter
    from vosrepro.datasets import Video

Call = Literal["init", "correct", "step"]
#: Frames whose labels wait on a GPU before one copy to the host; on a CPU each comes at once.
_BLOCK = 32
#: Frames that a method with `preview` is shown at once, on CUDA.
_PREVIEW = 8


@dataclass(frozen=True)
class Result:
    """Labels of one frame.

    Attributes:
        labels: uint8 (H, W) at the size of the image file, ids as in the data set.
    """

    frame: str
    labels: np.ndarray
    time: FrameTime


class Objects:
    """The two-way map between a data set's ids and the labels 1..N in order of appearance."""

    def __init__(self, order: Sequence[int] | None = None, written: Sequence[int] | None = None) -> None:
        """See `segment_video`; `written` replaces the ids that labels 1, 2, ... are restored to."""
        self.ids: list[int] = []
        self._written = written
        self._rank = {identity: place for place, identity in enumerate(order or ())}

    def add(self, labels: np.ndarray, starting: set[int]) -> np.ndarray:
        """Labels of the objects that start on a frame, as consecutive numbers after the known ones.

        Args:
            labels: uint8 (H, W) in the data set's ids.
            starting: ids whose mask is given on this frame; all others are suppressed.
        """
        known = set(self.ids)
        present = [i for i in np.unique(labels).tolist() if i in starting and i not in known]
        present.sort(key=lambda identity: (self._rank.get(identity, len(self._rank)), identity))
        table = np.zeros(256, np.uint8)
        for identity in present:
            self.ids.append(identity)
            table[identity] = len(self.ids)
        return table[labels]

    def number(self, labels: np.ndarray) -> np.ndarray:
        """Labels of a frame on which the mask of every object is given; unknown ones begin."""
        begun = self.add(labels, set(np.unique(labels).tolist()) - {0})
        table = np.zeros(256, np.uint8)
        table[self.ids] = np.arange(1, len(self.ids) + 1)
        return np.where(begun > 0, begun, table[labels])

    def restore(self, labels: np.ndarray) -> np.ndarray:
        """Labels 0..N as the data set's ids."""
        table = np.zeros(256, np.uint8)
        known = self.ids if self._written is None else self._written[: len(self.ids)]
        table[1 : len(known) + 1] = known
        return table[labels]


@torch.inference_mode()
def segment_video(  # noqa: PLR0913, options by name
    new_segmenter: Callable[[], Segmenter],
    video: Video | VideoSource,
    *,
    device: torch.device,
    short_side_px: int | None = None,
    frames: int | None = None,
    order: Sequence[int] | None = None,
    preview: bool | None = None,
    block: int | None = None,
    keep_given: bool = True,
    corrected: Collection[str] = (),
) -> Iterator[Result]:
    """Segment a video frame by frame, from the first annotated frame to the end.

    Args:
        new_segmenter: makes the method's online part; called once. What it may have beside `init` and `step`
            are the traits in `vosrepro.base.types`.
        video: frames, and the masks of objects where they begin, as files or from any other source.
        short_side_px: evaluation size (None: the size of the files). Frames are resized with
            bicubic interpolation without antialiasing, masks with nearest, probabilities back with
            bilinear interpolation.
        frames: stop after this many frames (warm-up).
        order: ids of the objects in the order in which those of one frame are numbered (None: ascending).
        preview: whether a method that can is shown frames ahead; None: on CUDA.
        block: frames whose labels wait on the device before one copy to the host; None: 32 on CUDA, else 1.
        keep_given: whether the result shows an object's given mask where it begins; else what the method makes of
            the mask at the evaluation size, brought back to the size of the files.
        corrected: frames after the first whose labels are all given; the method must be `Correctable`.

    Yields:
        One result for each frame.

    Deviation: upstream evaluations do not keep given masks (hkchengrex/Mask-Propagation: eval_youtube.py); the
        contours differ where the evaluation size is not that of the files.

    Raises:
        DataError: if there is no first mask, it is empty, or its size differs from the image's, or the
            frames' sizes differ.
    """
    source = video if isinstance(video, VideoSource) else VideoFiles(video)
    names = source.frame_names
    begins, first = _beginnings(source)
    stop = len(names) if frames is None else min(len(names), first + frames)
    segmenter = new_segmenter()
    faulty = isinstance(segmenter, MetaOrdered) and segmenter.labels_in_meta_order
    objects = Objects(order, written=tuple(source.starts) if faulty else None)
    idle = isinstance(segmenter, Skipping) and source.name in segmenter.skipped_videos
    clock = FrameClock(device)
    pending: list[tuple[str, str, int, torch.Tensor]] = []
    size: tuple[int, ...] | None = None
    ahead = _Ahead(segmenter, device, short_side_px, wanted=device.type == "cuda" if preview is None else preview)
    block = block or (_BLOCK if device.type == "cuda" else 1)
    for index, image in ahead.shown(read_ahead(source, range(first, stop), device)):
        name = names[index]
        size = size or image.shape
        if image.shape != size:
            raise DataError(
                f"frame {name} of {source.name} is {image.shape[1]}x{image.shape[0]} pixels but the "
                f"frames before it are {size[1]}x{size[0]}: all frames of a video need one size"
            )
        call: Call = "init" if index == first else "correct" if name in corrected else "step"
        starting = None if call == "correct" else begins.get(name, set())
        given = _given(source, name, starting, objects, image.shape[:2])
        clock.start()
        ahead.preview(index)
        labels = (
            _unsegmented(image, given, device)
            if idle
            else _advance(segmenter, image, given, call, device, short_side_px, keep_given)
        )
        clock.stop()
        pending.append((name, "init" if call == "init" else "step", len(objects.ids), labels))
        if len(pending) == block or index == stop - 1:
            yield from _flush(source.name, pending, clock, objects)
            pending = []


def _beginnings(source: VideoSource) -> tuple[dict[str, set[int]], int]:
    """Which objects begin on which frame, and the place of the first such frame."""
    begins: dict[str, set[int]] = {}
    for identity, name in source.starts.items():
        begins.setdefault(name, set()).add(identity)
    for place, name in enumerate(source.frame_names):
        if name in begins:
            return begins, place
    raise DataError(f"video {source.name} has no annotated first frame: nothing can be tracked")


class _Ahead:
    """Shows the next frames to a method that can use them."""

    def __init__(
        self,
        segmenter: Segmenter,
        device: torch.device,
        short_side_px: int | None,
        *,
        wanted: bool,
    ) -> None:
        self._show = segmenter.preview if wanted and isinstance(segmenter, Previewing) else None
        self._device = device
        self._side = short_side_px
        self._blocks: dict[int, list[torch.Tensor]] = {}

    def shown(self, frames: Iterator[tuple[int, torch.Tensor]]) -> Iterator[tuple[int, torch.Tensor]]:
        """The same frames, but read a block ahead if the method wants a preview."""
        if self._show is None:
            yield from frames
            return
        while block := list(itertools.islice(frames, _PREVIEW)):
            self._blocks[block[0][0]] = [image for _, image in block]
            yield from block

    def preview(self, index: int) -> None:
        """Upload and show the block that begins with this frame, if one does."""
        block = self._blocks.pop(index, None)
        if block is not None and len({image.shape for image in block}) == 1:
            assert self._show is not None
            self._show(torch.stack([upload(image, self._device, self._side) for image in block]))


def _given(
    source: VideoSource, name: str, starting: set[int] | None, objects: Objects, size: tuple[int, ...]
) -> np.ndarray | None:
    """Masks of the objects that start on a frame, None if none does; where that is not known, of all objects."""
    if starting is not None and not starting:
        return None
    labels = source.labels(name)
    if labels.shape != size:
        raise DataError(
            f"{source.where(name)} is {labels.shape[1]}x{labels.shape[0]} pixels but its image "
            f"is {size[1]}x{size[0]}: restore the original files of {source.name}"
        )
    if starting is None:
        return objects.number(labels)
    first = not objects.ids
    given = objects.add(labels, starting)
    if first and not objects.ids:
        raise DataError(
            f"{source.where(name)} has no object pixel, so {source.name} cannot be tracked: "
            "give a first mask with at least one object"
        )
    return given if given.any() else None


def upload(image: torch.Tensor, device: torch.device, short_side_px: int | None) -> torch.Tensor:
    """A frame as a method sees it: uint8 (H, W, 3), host -> float32 (3, h, w) in [0, 1] at the evaluation size."""
    frame = image.to(device, non_blocking=True).permute(2, 0, 1).float().div_(255)
    height, width = image.shape[:2]
    if short_side_px is None:
        return frame
    return resize_frame(frame, short_side_size(height, width, short_side_px=short_side_px))


def _advance(
    segmenter: Segmenter,
    image: torch.Tensor,
    given: np.ndarray | None,
    call: Call,
    device: torch.device,
    short_side_px: int | None,
    keep_given: bool,
) -> torch.Tensor:
    height, width = image.shape[:2]
    frame = upload(image, device, short_side_px)
    size = (frame.shape[1], frame.shape[2])
    mask = None if given is None else torch.from_numpy(given).to(device, non_blocking=True)
    small = None if mask is None else resize_labels(mask, size)
    if call == "correct":
        assert mask is not None and small is not None and isinstance(segmenter, Correctable)
        segmenter.correct(frame, small)
        return mask
    if call == "init":
        assert mask is not None and small is not None
        segmenter.init(frame, small)
        if keep_given or size == (height, width):
            return mask
        probs = one_hot(small, range(int(small.max()) + 1))
    else:
        probs = segmenter.step(frame, small)
    if size != (height, width):
        probs = F.interpolate(probs[None], (height, width), mode="bilinear", align_corners=False)[0]
    labels = most_likely(probs)
    return labels if mask is None or not keep_given else torch.where(mask > 0, mask, labels)


def _unsegmented(image: torch.Tensor, given: np.ndarray | None, device: torch.device) -> torch.Tensor:
    labels = np.zeros(image.shape[:2], np.uint8) if given is None else given
    return torch.from_numpy(labels).to(device)


def _flush(
    sequence: str,
    pending: list[tuple[str, str, int, torch.Tensor]],
    clock: FrameClock,
    objects: Objects,
) -> Iterator[Result]:
    seconds = clock.seconds()
    stacked = torch.stack([labels for *_, labels in pending]).cpu().numpy()
    for (name, kind, count, _), labels, spent in zip(pending, stacked, seconds, strict=True):
        height, width = labels.shape
        time = FrameTime(sequence, name, kind, count, height, width, spent)
        yield Result(name, objects.restore(labels), time)
