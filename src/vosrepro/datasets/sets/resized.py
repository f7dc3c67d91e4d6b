"""High-resolution videos scaled down to files, segmented at that size, and masks restored to the original size.

This is how the published pipeline ran: scaled copies are files of their own, so that whatever is compared
has seen the same JPEGs. The folder's name is a digest of the data and of how it is scaled.

Source: the Alibaba 2021 scripts of MTMFI (`resize`, `inverse_resize`).
Deviation: original sizes are read from the frames, not from a table of 48 videos.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.files import atomic, read_json, write_json
from vosrepro.base.labels import write_labels
from vosrepro.datasets.sets.video import Video, open_video, read_frame
from vosrepro.study.paths import RESIZED_SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image

_JPEG_QUALITY = 75  # Pillow's default, which upstream left


def fitted(image: Image.Image, resample: Image.Resampling, *, inside: tuple[int, int]) -> Image.Image:
    """A copy that fits into a box (width, height) with the same aspect ratio; never larger.

    Without the first, coarse reduction that newer versions of Pillow make for speed.
    """
    small = image.copy()
    small.thumbnail(inside, resample, reducing_gap=None)
    return small


def write_resized(
    videos: Sequence[Video],
    folder: Path,
    *,
    inside: tuple[int, int],
    find: Callable[[], Callable[[np.ndarray], np.ndarray]] | None = None,
) -> None:
    """Write scaled copies of frames (Lanczos, JPEG) and of masks (nearest), then the original sizes.

    Finished files are kept, so an interrupted run goes on.

    Args:
        videos: at their own size.
        folder: where the copies go.
        inside: width and height of the box that frames are fitted into.
        find: makes what finds the objects of a first frame, uint8 (H, W, 3) -> uint8 (H, W); called once,
            if a video has no mask. None: such videos are errors.

    Raises:
        DataError: if a frame cannot be read, the frames of a video differ in size, or a video has no
            object to follow.
    """
    sizes: dict[str, list[int]] = {}
    finder: Callable[[np.ndarray], np.ndarray] | None = None
    for video in videos:
        for path in video.frames:
            size = _copy_frame(path, folder / "JPEGImages" / video.name / path.name, inside)
            if sizes.setdefault(video.name, size) != size:
                raise DataError(
                    f"{path} is {size[0]}x{size[1]} pixels but the frames before it are "
                    f"{sizes[video.name][0]}x{sizes[video.name][1]}: all frames need one size"
                )
        for path in video.annotations.values():
            _copy_mask(path, folder / "Annotations" / video.name / path.name, inside)
        if not video.annotations:
            if find is None:
                raise DataError(f"video {video.name} has no mask of its first frame: add one")
            finder = finder or find()
            _find_objects(video, folder, finder)
    write_json(folder / RESIZED_SIZES, sizes)


def resized_video(video: Video, folder: Path) -> Video:
    """The scaled copy of a video, which knows its original size.

    Raises:
        DataError: if the copies were not made.
    """
    if not (folder / RESIZED_SIZES).is_file():
        raise DataError(f"the scaled copies {folder} are missing: run the workflow, or `vosrepro resize`")
    width, height = read_json(folder / RESIZED_SIZES)[video.name]
    images, masks = folder / "JPEGImages" / video.name, folder / "Annotations" / video.name
    copy = replace(open_video(video.name, images, masks, binary=video.binary), original_size=(height, width))
    return replace(copy, starts=video.starts) if video.starts else copy


def restore(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (h, w) enlarged to (height, width) with nearest neighbors, pixel centers aligned."""
    if labels.shape == size:
        return labels
    import cv2

    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _copy_frame(source: Path, target: Path, inside: tuple[int, int]) -> list[int]:
    from PIL import Image

    with _opened(source) as image:
        size = [image.width, image.height]
        if not target.is_file():
            small = fitted(image.convert("RGB"), Image.Resampling.LANCZOS, inside=inside)
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=_JPEG_QUALITY)
            with atomic(target) as temporary:
                temporary.write_bytes(buffer.getvalue())
    return size


def _find_objects(video: Video, folder: Path, finder: Callable[[np.ndarray], np.ndarray]) -> None:
    name = video.frames[0].name
    target = folder / "Annotations" / video.name / f"{video.frames[0].stem}.png"
    if target.is_file():
        return
    labels = finder(read_frame(folder / "JPEGImages" / video.name / name))
    if not labels.any():
        raise DataError(f"the detector finds nothing in {video.frames[0]}: put a mask of this frame beside the video")
    write_labels(target, labels)


def _copy_mask(source: Path, target: Path, inside: tuple[int, int]) -> None:
    from PIL import Image

    if target.is_file():
        return
    with _opened(source) as image:
        buffer = io.BytesIO()
        small = fitted(image, Image.Resampling.NEAREST, inside=inside)
        small.save(buffer, "PNG")  # keeps the palette
    with atomic(target) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _opened(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore the original file") from error
    return image
