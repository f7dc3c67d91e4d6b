"""What every data set delivers: videos, static images, ground truth, and the readers of their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_text
from vosrepro.base.labels import VOID, read_labels
from vosrepro.base.names import folder_names, frame_files
from vosrepro.datasets.sets.boxes import box_labels
from vosrepro.datasets.sets.files import FilesByStem, FolderFiles
from vosrepro.datasets.sets.image_files import Defect, image_size

IMAGES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Video:
    """A video as inference and training see it.

    Attributes:
        name: sequence name, unique in its split.
        frames: images in temporal order; the stem of a path is the frame's name. Numbering may have
            gaps.
        annotations: frame name -> label PNG (ImageNet-VID: XML with boxes), for the frames that have one.
        starts: object id (as in the files) -> name of the frame where its mask is given. For training
            videos the ids of the first annotated frame, read when first asked for.
        binary: whether every non-zero label is object 1 (DAVIS 2016).
        categories: object id -> category, where the set has categories (YouTube-VOS).
        original_size: (height, width) to which masks are restored, if the frames are scaled copies.
    """

    name: str
    frames: Sequence[Path]
    annotations: Mapping[str, Path]
    starts: Mapping[int, str]
    binary: bool = False
    categories: Mapping[int, str] = field(default_factory=dict)
    original_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class StaticImage:
    """An image with the mask of its one object (grey 0..255, edges may be soft)."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Truth:
    """What scoring compares with.

    Attributes:
        folder: holds `<sequence>/<frame>.png`.
        sequences: those of the benchmark, in the order of its list.
        meta: YouTube-VOS meta.json, or None.
    """

    folder: Path
    sequences: tuple[str, ...]
    meta: Path | None = None


class FirstMask(Mapping[int, str]):
    """`starts` of a video whose objects are all given in one frame; reads that mask on first use.

    Args:
        path: the mask.
        frame: name of its frame.
        binary: see `Video`.
    """

    def __init__(self, path: Path, frame: str, *, binary: bool) -> None:
        self._path, self._frame, self._binary = path, frame, binary

    @cached_property
    def _ids(self) -> tuple[int, ...]:
        labels = object_labels(_stored_labels(self._path), binary=self._binary)
        return tuple(int(v) for v in np.unique(labels) if v)

    def __getitem__(self, key: int) -> str:
        """Name of the first frame, for each object in its mask."""
        if key in self._ids:
            return self._frame
        raise KeyError(key)

    def __iter__(self) -> Iterator[int]:
        """Ids in ascending order."""
        return iter(self._ids)

    def __len__(self) -> int:
        """Number of objects."""
        return len(self._ids)


def read_frame(path: Path | str, *, upright: bool = False) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB; a grey image gives three equal channels.

    Args:
        path: of the file.
        upright: turn it as its orientation tag says and as viewers show it, which is how a person draws a mask of
            it; else the stored pixels, on which the masks of data sets are drawn.

    Raises:
        DataError: if the file is missing, truncated or not an image.
    """
    import cv2

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    try:  # libjpeg fills what is cut off with grey and does not complain
        image_size(data)
    except Defect as defect:
        raise DataError(f"{path} {defect}: extract or download this file again") from defect
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DataError(f"{path} cannot be decoded: extract or download this file again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_annotation(video: Video, frame: str) -> np.ndarray:
    """Read the object ids of a frame: uint8 (H, W), 0 background, void (255) as background.

    In a binary video every non-zero pixel is object 1. The size is not compared with the image's.

    Raises:
        DataError: if the frame has no annotation, or its file cannot be read.
    """
    path = video.annotations.get(frame)
    if path is None:
        raise DataError(f"video {video.name} has no annotation for frame {frame}")
    return object_labels(_stored_labels(path), binary=video.binary)


def _stored_labels(path: Path) -> np.ndarray:
    return box_labels(path) if path.suffix.lower() == ".xml" else read_labels(path)


def object_labels(labels: np.ndarray, *, binary: bool) -> np.ndarray:
    """Stored values -> object ids, by the rules of `read_annotation`."""
    if binary:
        return (labels > 0).astype(np.uint8)
    if (labels == VOID).any():
        labels = np.where(labels == VOID, 0, labels).astype(np.uint8)
    return labels


def open_video(name: str, images: Path, annotations: Path, *, binary: bool = False) -> Video:
    """A video of a folder of images and a folder of masks, all objects given in its first mask.

    Raises:
        DataError: if there is no image, or no mask.
    """
    frames = list_frames(images)
    masks = list_masks(annotations)
    if not masks:
        raise DataError(f"{annotations} has no PNG: extract the annotations of {name} again")
    first = next(iter(masks))
    starts = FirstMask(masks[first], first, binary=binary)
    return Video(name, frames, masks, starts, binary=binary)


def require_objects(video: Video) -> Video:
    """The video itself, after a look at its first mask.

    Raises:
        DataError: naming the file, if that mask has no object.
    """
    if len(video.starts) == 0:
        first = next(iter(video.annotations.values()))
        raise DataError(
            f"{first} has no object pixel, so there is nothing to track in {video.name}: restore the "
            "original mask or take the video off the list"
        )
    return video


def list_frames(folder: Path) -> FolderFiles:
    """JPEGs of a folder, in the order of time.

    Raises:
        DataError: if the folder is missing or has none.
    """
    names = frame_files(folder, IMAGES)
    if not names:
        raise DataError(f"{folder} has no JPEG: extract the images of {folder.name} again")
    return FolderFiles(folder, names)


def list_masks(folder: Path, *, ending: str = ".png") -> FilesByStem:
    """Frame name -> mask (or file with another ending), in the order of time; empty if the folder is missing."""
    return FilesByStem(folder, frame_files(folder, (ending,)) if folder.is_dir() else ())


def list_videos(folder: Path) -> list[str]:
    """Names of the sub-folders, sorted.

    Raises:
        DataError: if the folder is missing.
    """
    return folder_names(folder)


def read_lines(path: Path) -> list[str]:
    """Lines of a list file, without blank ones.

    Raises:
        DataError: if it is missing or empty.
    """
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise DataError(f"{path} is missing: extract the whole archive, its ImageSets folder included") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a UTF-8 text file: restore the original list") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise DataError(f"{path} names no sequence: restore the original list")
    return found
