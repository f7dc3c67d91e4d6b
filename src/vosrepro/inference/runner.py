"""Segment one video with any method: the loop that owns everything but the mathematics.

The method sees frames in [0, 1] at the evaluation size and labels 1..N in order of appearance; the
caller gets label maps at the file's size with the file's ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vosrepro.datasets import Video, read_annotation, read_frame
from vosrepro.errors import DataError
from vosrepro.inference.clock import FrameClock, FrameTime

if TYPE_CHECKING:
    from vosrepro.types import Segmenter

#: Frames whose labels wait on the device before one copy to the host.
_BLOCK = 32


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

    def __init__(self) -> None:
        self.ids: list[int] = []

    def add(self, labels: np.ndarray, starting: set[int]) -> np.ndarray:
        """Labels of the objects that start on a frame, as consecutive numbers after the known ones.

        Args:
            labels: uint8 (H, W) in the data set's ids.
            starting: ids whose mask is given on this frame; all others are suppressed.
        """
        known = set(self.ids)
        present = [i for i in np.unique(labels).tolist() if i in starting and i not in known]
        table = np.zeros(256, np.uint8)
        for identity in present:
            self.ids.append(identity)
            table[identity] = len(self.ids)
        return table[labels]

    def restore(self, labels: np.ndarray) -> np.ndarray:
        """Labels 0..N as the data set's ids."""
        table = np.zeros(256, np.uint8)
        table[1 : len(self.ids) + 1] = self.ids
        return table[labels]


def evaluation_size(height: int, width: int, short_side_px: int | None) -> tuple[int, int]:
    """Height and width at which a method runs; the long side is truncated as upstream does.

    Source: hkchengrex/Mask-Propagation: dataset/yv_test_dataset.py.
    """
    short = min(height, width)
    if short_side_px is None or short == short_side_px:
        return height, width
    return height * short_side_px // short, width * short_side_px // short


@torch.inference_mode()
def segment_video(
    new_segmenter: Callable[[], Segmenter],
    video: Video,
    *,
    device: torch.device,
    short_side_px: int | None = None,
    frames: int | None = None,
) -> Iterator[Result]:
    """Segment a video frame by frame, from the first annotated frame to the end.

    Args:
        new_segmenter: makes the method's online part; called once.
        video: frames, and the masks of objects where they begin.
        short_side_px: evaluation size (None: the size of the files). Frames are resized with
            bicubic interpolation without antialiasing, masks with nearest, probabilities back with
            bilinear interpolation.
        frames: stop after this many frames (warm-up).

    Yields:
        One result for each frame; on a frame where an object begins its given mask is the result.

    Raises:
        DataError: if there is no first mask, it is empty, or its size differs from the image's.
    """
    names = [path.stem for path in video.frames]
    begins: dict[str, set[int]] = {}
    for identity, name in video.starts.items():
        begins.setdefault(name, set()).add(identity)
    first = next((i for i, name in enumerate(names) if name in begins), None)
    if first is None:
        raise DataError(f"video {video.name} has no annotated first frame: nothing can be tracked")
    stop = len(names) if frames is None else min(len(names), first + frames)
    segmenter = new_segmenter()
    objects = Objects()
    clock = FrameClock(device)
    pending: list[tuple[str, str, int, torch.Tensor]] = []
    for index in range(first, stop):
        name = names[index]
        image = read_frame(video.frames[index])
        given = _given(video, name, begins, objects, image.shape[:2])
        clock.start()
        labels = _advance(segmenter, image, given, index == first, device, short_side_px)
        clock.stop()
        pending.append((name, "init" if index == first else "step", len(objects.ids), labels))
        if len(pending) == _BLOCK or index == stop - 1:
            yield from _flush(video.name, pending, clock, objects)
            pending = []


def _given(
    video: Video, name: str, begins: dict[str, set[int]], objects: Objects, size: tuple[int, ...]
) -> np.ndarray | None:
    if name not in begins:
        return None
    labels = read_annotation(video, name)
    if labels.shape != size:
        raise DataError(
            f"{video.annotations[name]} is {labels.shape[1]}x{labels.shape[0]} pixels but its image "
            f"is {size[1]}x{size[0]}: restore the original files of {video.name}"
        )
    first = not objects.ids
    given = objects.add(labels, begins[name])
    if first and not objects.ids:
        raise DataError(
            f"{video.annotations[name]} has no object pixel, so {video.name} cannot be tracked: "
            "give a first mask with at least one object"
        )
    return given if given.any() else None


def _advance(
    segmenter: Segmenter,
    image: np.ndarray,
    given: np.ndarray | None,
    first: bool,
    device: torch.device,
    short_side_px: int | None,
) -> torch.Tensor:
    height, width = image.shape[:2]
    size = evaluation_size(height, width, short_side_px)
    frame = torch.from_numpy(image).to(device, non_blocking=True).permute(2, 0, 1).float().div_(255)
    mask = None if given is None else torch.from_numpy(given).to(device, non_blocking=True)
    small = mask
    if size != (height, width):
        frame = F.interpolate(frame[None], size, mode="bicubic", align_corners=False)[0]
        if mask is not None:
            small = F.interpolate(mask[None, None].float(), size, mode="nearest")[0, 0].to(
                torch.uint8
            )
    if first:
        assert mask is not None and small is not None
        segmenter.init(frame, small)
        return mask
    probs = segmenter.step(frame, small)
    if size != (height, width):
        probs = F.interpolate(probs[None], (height, width), mode="bilinear", align_corners=False)[0]
    labels = probs.argmax(0).to(torch.uint8)
    # An object's given mask is the truth on its first frame, whatever the method returns there.
    return labels if mask is None else torch.where(mask > 0, mask, labels)


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
