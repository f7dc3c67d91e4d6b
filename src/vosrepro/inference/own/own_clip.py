"""A user's own clip: a video file or a folder of images, read frame by frame, with masks on any frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.names import frame_files, repeated
from vosrepro.datasets import read_frame
from vosrepro.inference.own.drawn import read_mask

log = logging.getLogger(__name__)

_ORIENTATION, _ON_ITS_HEAD = 0x0112, 4  # a tag of EXIF, and its last value that keeps width and height
IMAGES = (".jpg", ".jpeg", ".png")


class Images(Protocol):
    """The frames of a clip.

    Attributes:
        name: for messages.
        frame_names: one for each frame, in temporal order.
        rate: frames a second.
        times: seconds at which each frame is shown, where the rate is not constant; else None.
    """

    name: str
    frame_names: Sequence[str]
    rate: Fraction
    times: Sequence[Fraction] | None

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3) RGB of one frame; cheapest in ascending order."""
        ...

    def check(self) -> None:
        """Look at all frames without decoding them; raises `DataError` for one of another size."""
        ...


class FolderImages:
    """JPEG or PNG files of a folder; "frame2" comes before "frame10".

    Raises:
        DataError: if the folder has no image, or two files of one stem.
    """

    def __init__(self, folder: Path, *, rate: Fraction = Fraction(25)) -> None:
        self.paths = [folder / name for name in frame_files(folder, IMAGES)]
        if not self.paths:
            raise DataError(f"{folder} has no {', '.join(IMAGES)}: give a folder of frames")
        self.name = folder.resolve().name
        self.frame_names: Sequence[str] = [path.stem for path in self.paths]
        self.rate = rate
        self.times: Sequence[Fraction] | None = None
        twice = repeated(self.frame_names)
        if twice is not None:
            raise DataError(
                f"{folder} has several images called {twice}: keep frames and masks in folders of their own"
            )

    def image(self, index: int) -> np.ndarray:
        """See `Images.image`; turned as viewers show it, as masks are drawn on what is seen."""
        return read_frame(self.paths[index], upright=True)

    def check(self) -> None:
        """See `Images.check`."""
        first = _shown_size(self.paths[0])
        for path in self.paths:
            width, height = _shown_size(path)
            if (width, height) != first:
                raise DataError(
                    f"{path} is {width}x{height} pixels but the first frame is {first[0]}x{first[1]}: all frames of a "
                    "clip need one size"
                )


class VideoImages:
    """A video file of any codec that FFmpeg reads, turned and mirrored as players show it; a cover picture is no video.

    The file is decoded once to count its frames (containers often state a wrong number) and once more, in
    order, while it is segmented; one frame is held at a time.

    Raises:
        DataError: if the file cannot be read, shows no frame, or its frames differ in size.
    """

    def __init__(self, path: Path, *, rate: Fraction | None = None) -> None:
        self.path, self.name = path, path.stem
        count, stated, times = self._survey()
        self.rate = rate or stated
        self.times: Sequence[Fraction] | None = None if rate else _uneven(times, stated)
        width = max(5, len(str(count - 1)))
        self.frame_names: Sequence[str] = [f"{index:0{width}d}" for index in range(count)]
        self._frames: Iterator[Any] | None = None
        self._next = 0

    def image(self, index: int) -> np.ndarray:
        """See `Images.image`; going back starts from the beginning of the file."""
        if self._frames is None or index < self._next:
            self._frames, self._next = self._decoded(), 0
        frame = None
        while self._next <= index:
            frame = next(self._frames, None)
            self._next += 1
        if frame is None:
            raise DataError(f"frame {index} of {self.path} cannot be decoded a second time")
        return upright(frame.to_ndarray(format="rgb24"), _display_matrix(frame))

    def check(self) -> None:
        """Nothing: all frames were looked at when they were counted."""

    def _survey(self) -> tuple[int, Fraction, list[Fraction]]:
        """Number of frames, stated rate, and when each frame is shown (empty where the file does not say)."""
        import av

        count = 0
        times: list[Fraction | None] = []
        size: tuple[int, int] | None = None
        for frame in self._decoded():
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise DataError(
                    f"frame {count} of {self.path} is {frame.width}x{frame.height} pixels but the frames before it are "
                    f"{size[0]}x{size[1]}: cut the video there, or convert it to one size"
                )
            times.append(frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None)
            count += 1
        if not count:
            raise DataError(f"{self.path} shows no frame: give a video that a player can play")
        with av.open(str(self.path)) as container:
            rate = _shown_stream(container).average_rate
        known = [time for time in times if time is not None]
        return count, Fraction(rate) if rate else Fraction(25), known if len(known) == count else []

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames; a fault after the first frame ends the clip with a warning."""
        import av
        from av.error import FFmpegError

        count = 0
        try:
            with av.open(str(self.path)) as container:
                stream = _shown_stream(container)
                if stream is None:
                    raise DataError(f"{self.path} has no video stream: give a video or a folder")
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    yield frame
                    count += 1
        except FFmpegError as error:
            if not count:
                raise DataError(
                    f"{self.path} cannot be read as a video ({error.strerror}): convert it, or give a folder of frames"
                ) from error
            log.warning("%s is damaged after frame %d: the rest is left out", self.path, count - 1)


class Beginning:
    """The first frames of a clip, to see soon how a method does."""

    def __init__(self, images: Images, count: int) -> None:
        self.images, self.name, self.rate = images, images.name, images.rate
        self.frame_names: Sequence[str] = images.frame_names[:count]
        self.times: Sequence[Fraction] | None = None if images.times is None else images.times[:count]

    def image(self, index: int) -> np.ndarray:
        """See `Images.image`."""
        return self.images.image(index)

    def check(self) -> None:
        """See `Images.check`."""
        self.images.check()


def preview(images: Images, masks: Mapping[str, Path], seconds: float) -> tuple[Images, dict[str, Path]]:
    """What is shown of a clip in so many seconds from its first mask on, and the masks of that part."""
    names = list(images.frame_names)
    first = min(map(names.index, masks))
    short = Beginning(images, first + max(1, math.ceil(seconds * images.rate)))
    return short, {frame: path for frame, path in masks.items() if frame in short.frame_names}


def _shown_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as viewers show it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) > _ON_ITS_HEAD
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): make this frame again") from error


def _shown_stream(container: Any) -> Any:
    """The first video stream that is no picture of a cover; None if there is none."""
    from av.stream import Disposition

    shown = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(shown, None)


def _uneven(times: Sequence[Fraction], rate: Fraction) -> Sequence[Fraction] | None:
    """Times from 0 on, if a frame is shown half a frame or more away from where a constant rate would show it."""
    from_zero = [time - times[0] for time in times]
    ascending = all(a < b for a, b in pairwise(from_zero))
    uneven = any(abs(time - place / rate) * rate * 2 >= 1 for place, time in enumerate(from_zero))
    return from_zero if ascending and uneven else None


def open_images(path: Path, *, rate: Fraction | None = None) -> Images:
    """The frames of a video file or a folder.

    Raises:
        DataError: if there is no such file or folder, or it holds no frame.
    """
    if path.is_dir():
        return FolderImages(path, rate=rate or Fraction(25))
    if not path.is_file():
        raise DataError(f"there is no video or folder {path}")
    return VideoImages(path, rate=rate)


class OwnClip:
    """Frames with masks: a `VideoSource` for `runner.segment_video`.

    The clip begins where the first object does. An object begins on the first frame whose mask shows its id;
    later masks of the same id are left out with a warning: `correct.correct_clip` begins anew with them.
    """

    def __init__(self, images: Images, masks: Mapping[str, Path]) -> None:
        self.images = images
        self.name = images.name
        self.frame_names: Sequence[str] = images.frame_names
        self.masks = dict(masks)
        self.starts: dict[int, str] = {}
        for frame in (name for name in images.frame_names if name in masks):
            self._start_objects(frame)
        if not self.starts:
            given = ", ".join(str(path) for path in masks.values())
            raise DataError(
                f"{given} has no object pixel, so there is nothing to track: draw each object "
                "with a grey value or palette index of its own (1, 2, ...), or one object in white"
            )

    def image(self, index: int) -> np.ndarray:
        """See `Images.image`."""
        return self.images.image(index)

    def labels(self, frame: str) -> np.ndarray:
        """Object ids (H, W) given on a frame."""
        return read_mask(self.masks[frame])

    def where(self, frame: str) -> Path:
        """The mask file of a frame."""
        return self.masks[frame]

    def check(self) -> None:
        """Look at all frames, and at every mask that will be used.

        Raises:
            DataError: if one is missing or their sizes differ.
        """
        self.images.check()
        for frame in dict.fromkeys(self.starts.values()):
            image, labels = self.image(self.frame_names.index(frame)), self.labels(frame)
            if labels.shape != image.shape[:2]:
                raise DataError(
                    f"{self.where(frame)} is {labels.shape[1]}x{labels.shape[0]} pixels but its image is "
                    f"{image.shape[1]}x{image.shape[0]}: draw the mask at the size of the frame"
                )

    def _start_objects(self, frame: str) -> None:
        found = [int(value) for value in np.unique(self.labels(frame)) if value]
        if not found:
            log.warning("%s has no object pixel: it is left out", self.masks[frame])
        for identity in found:
            if identity in self.starts:
                log.warning(
                    "object %d of %s began on frame %s already: its mask on frame %s is left out",
                    identity,
                    self.name,
                    self.starts[identity],
                    frame,
                )
            self.starts.setdefault(identity, frame)


def assign_masks(given: Sequence[str], frame_names: Sequence[str]) -> dict[str, Path]:
    """Which frame each mask belongs to.

    Args:
        given: "FRAME=FILE" with a frame's name or number (that of its name; from 0 if names are no numbers);
            or FILE, whose stem is a frame's name or number; or a folder of such files; a single FILE of any
            other name belongs to the first frame.
        frame_names: of the clip.

    Raises:
        DataError: if a file is missing, or its frame is not in the clip or has a mask already.
    """
    files = [item for text in given for item in _listed(text)]
    called = _calls(frame_names)
    found: dict[str, Path] = {}
    for given_frame, path in files:
        if not path.is_file():
            raise DataError(f"there is no mask {path}")
        frame = called.get(given_frame or path.stem)
        if frame is None and given_frame is None and len(files) == 1:
            frame = frame_names[0]
        if frame is None:
            numbers = [name for name in called if name.isdecimal()]
            raise DataError(
                f"which frame {path} belongs to is not known: write FRAME={path.name} with a number from "
                f"{min(numbers, key=int)} to {max(numbers, key=int)} or a name such as {frame_names[0]}"
            )
        if frame in found:
            raise DataError(f"{found[frame]} and {path} are both for frame {frame}: give one of them")
        found[frame] = path
    return found


def upright(image: np.ndarray, matrix: Sequence[float]) -> np.ndarray:
    """An image turned and mirrored as players show it, to the nearest right angle.

    Args:
        image: as decoded, (H, W, 3).
        matrix: (a, b, c, d) of the container: column p and row q are shown at column ap + cq and row bp + dq.
    """
    a, b, c, d = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, across, down = image.swapaxes(0, 1), c, b
    image = image[:, ::-1] if across < 0 else image
    return np.ascontiguousarray(image[::-1] if down < 0 else image)


def _display_matrix(frame: Any) -> Sequence[float]:
    from av.sidedata.sidedata import Type

    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def _listed(text: str) -> list[tuple[str | None, Path]]:
    path = Path(text)
    if path.is_dir():
        inside = [path / name for name in frame_files(path, (".png",))]
        if not inside:
            raise DataError(f"{path} has no PNG: give the masks of the objects' first frames")
        return [(p.stem, p) for p in inside]
    if not path.exists() and "=" in text:
        frame, _, file = text.partition("=")
        return [(frame, Path(file))]
    return [(None, path)]


def _calls(frame_names: Sequence[str]) -> dict[str, str]:
    """What a frame may be called -> its name: the name, and the number that is its name or, without such, its place."""
    if all(name.isdecimal() for name in frame_names):
        numbers = {str(int(name)): name for name in frame_names}
    else:
        numbers = {str(place): name for place, name in enumerate(frame_names)}
    return {**numbers, **{name: name for name in frame_names}}
