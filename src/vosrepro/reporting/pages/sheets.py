"""Contact sheets for the frame viewer: frames or masks of a video below each other in few small images.

One image of many frames is smaller and loads faster than many images; heights stay far below what
browsers and JPEG can hold.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vosrepro.base.errors import DataError
from vosrepro.base.labels import VOID, palette, read_labels

#: Frames are shown at most this wide.
WIDTH_PX = 384
_SHEET_HEIGHT_PX = 4096
_JPEG_QUALITY = 74


class Sheets:
    """Makes sheets and keeps them, so that pages which show the same video share the work."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[str, ...]] = {}
        self.assets: dict[str, str] = {}

    def frames(self, paths: Sequence[Path], size: tuple[int, int]) -> tuple[str, ...]:
        """Keys of JPEG sheets of some frames, shown at (width, height).

        Raises:
            DataError: if an image cannot be read.
        """
        key = ("frames", tuple(paths), size)
        if key not in self._made:
            tiles = [shown_frame(path, size) for path in paths]
            self._made[key] = tuple(self._keep(s, "jpeg") for s in _stack(tiles, size))
        return self._made[key]

    def masks(self, paths: Sequence[Path | None], size: tuple[int, int], *, binary: bool = False) -> tuple[str, ...]:
        """Keys of palette PNG sheets of some label maps; None gives an empty tile.

        Raises:
            DataError: if a label map cannot be read.
        """
        key = ("masks", tuple(paths), size, binary)
        if key not in self._made:
            tiles = [shown_mask(path, size, binary=binary) for path in paths]
            self._made[key] = tuple(self._keep(s, "png") for s in _stack(tiles, size))
        return self._made[key]

    def _keep(self, tiles: np.ndarray, kind: str) -> str:
        buffer = io.BytesIO()
        if kind == "jpeg":
            Image.fromarray(tiles).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=False)
        else:
            image = Image.fromarray(tiles, mode="L")
            image.putpalette(palette()[: 3 * (int(tiles.max()) + 1)])
            image.save(buffer, "PNG", compress_level=6, transparency=0)
        data = buffer.getvalue()
        key = hashlib.sha256(data).hexdigest()[:12]
        self.assets[key] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return key


def shown_size(path: Path) -> tuple[int, int]:
    """(width, height) at which a video with this frame is shown.

    Raises:
        DataError: if the image cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): restore this file") from error
    if width <= WIDTH_PX:
        return width, height
    return WIDTH_PX, max(1, round(height * WIDTH_PX / width))


def rows_per_sheet(height: int) -> int:
    """How many tiles of this height a sheet holds."""
    return max(1, _SHEET_HEIGHT_PX // height)


def _stack(tiles: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    count = rows_per_sheet(size[1])
    return [np.concatenate(tiles[i : i + count]) for i in range(0, len(tiles), count)]


def shown_frame(path: Path, size: tuple[int, int]) -> np.ndarray:
    """An image at (width, height), uint8 RGB.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", size)
            picture = image.convert("RGB")
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): restore this file") from error


def shown_mask(path: Path | None, size: tuple[int, int], *, binary: bool) -> np.ndarray:
    """A label map at (width, height), void as background; empty without a path.

    Raises:
        DataError: if it cannot be read.
    """
    if path is None:
        return np.zeros((size[1], size[0]), np.uint8)
    labels = read_labels(path)
    labels = (labels > 0).astype(np.uint8) if binary else np.where(labels == VOID, 0, labels)
    if labels.shape != (size[1], size[0]):
        labels = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    return labels.astype(np.uint8)
