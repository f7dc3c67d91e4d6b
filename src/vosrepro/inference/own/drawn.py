"""What the mask that a person drew means: ids where they are clean, one object where it is white with soft edges.

Rules, each of which says so in a line when it changes a value:

- Ids are the values of a grey image or the indices of a palette, up to 255, with gaps. White (255) alone is object 1.
- White whose other values are a rim without any even patch (smoothed, resized, saved as JPEG) is one object: from 128.
- 255 beside other ids is void in a palette image, as in DAVIS, and an object in a grey one.
- Color images count if they are grey; transparent pixels are background. A palette whose first color is not black
  is read by its greys.
- All else is refused, with the number of pixels of each value.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vosrepro.base.errors import DataError
from vosrepro.base.labels import VOID

log = logging.getLogger(__name__)

_HALF = 128
_FEW = 3  # values that are taken as ids however small their objects are
_NOISE = 16  # how far a JPEG takes black and white from 0 and 255


def read_mask(path: Path) -> np.ndarray:
    """Object ids, uint8 (H, W).

    Raises:
        DataError: if the file is missing, no image, colored, has ids above 255, or values that are no ids.
    """
    try:
        with Image.open(path) as image:
            values, is_palette = _values(image, path)
            is_lossy = image.format in ("JPEG", "WEBP")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read ({error}): save the mask as PNG again") from error
    if values.max(initial=0) > VOID:
        raise DataError(f"{path} has ids up to {values.max()}: ids go from 1 to 255, number the objects anew")
    values = values.astype(np.uint8)
    if is_lossy:
        values = np.where(values <= _NOISE, 0, np.where(values >= VOID - _NOISE, VOID, values)).astype(np.uint8)
    found = {int(value) for value in np.unique(values)} - {0}
    if found == {VOID}:
        return (values == VOID).astype(np.uint8)
    if is_palette:
        return _without_void(values, path) if VOID in found else values
    if VOID in found and not _even(values, found - {VOID}, slack=_NOISE // 2 if is_lossy else 0):
        log.warning(
            "%s: white with soft edges is read as one object, from grey %d on (%s)", path, _HALF, _counts(values)
        )
        return (values >= _HALF).astype(np.uint8)
    if is_lossy or _blurred(values, found):
        raise DataError(
            f"{path} has {len(found)} different values, so it is a picture or has soft edges ({_counts(values)}): "
            "save it as PNG without smoothing, as 0 and 255 for one object or 0, 1, 2, ... for several"
        )
    if VOID in found:
        log.warning("%s: 255 is an object here, as in any grey mask with other ids (%s)", path, _counts(values))
    return values


def _values(image: Image.Image, path: Path) -> tuple[np.ndarray, bool]:
    """Stored values, and whether they are the indices of a palette."""
    if image.mode == "P" and not _white_first(image):
        return np.asarray(image), not _is_ramp(image)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        return (_stored(image) if image.mode in ("1", "L") else np.asarray(image)), False
    rgba = np.asarray(image.convert("RGBA"))
    colors, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
    if not (colors == colors[..., :1]).all():
        raise DataError(
            f"{path} is a {image.mode} image, not a label map: save object ids as an 8-bit palette or grey PNG"
        )
    if image.mode == "P":
        log.warning("%s: the first color of its palette is not black, so its greys are read, not its indices", path)
    return (colors[..., 0] * alpha[..., 0] + VOID // 2) // VOID, False


def _stored(image: Image.Image) -> np.ndarray:
    """Greys as the file holds them; of 2 and 4 bits Pillow makes shades up to 255, as official tools read them."""
    tiles = getattr(image, "tile", None)  # before the pixels are loaded
    how = tiles[0][3] if tiles else None
    values = np.asarray(image, dtype=np.uint8)
    step = {"L;2": 85, "L;4": 17}.get(how[0] if isinstance(how, tuple) else str(how))
    return values if step is None else values // step


def _white_first(image: Image.Image) -> bool:
    colors = image.getpalette() or [0, 0, 0]
    grey = all(colors[i] == colors[i + 1] == colors[i + 2] for i in range(0, len(colors) - 2, 3))
    return grey and colors[0] > _HALF


def _is_ramp(image: Image.Image) -> bool:
    """Whether the palette is the one of a grey image: color k is grey k."""
    colors = image.getpalette() or []
    return len(colors) > 3 and colors == [k // 3 for k in range(len(colors))]


def _without_void(values: np.ndarray, path: Path) -> np.ndarray:
    log.warning("%s: 255 is void beside other ids of a palette: it becomes background (%s)", path, _counts(values))
    return np.where(values == VOID, 0, values).astype(np.uint8)


def _even(values: np.ndarray, some: Collection[int], *, slack: int) -> bool:
    """Whether some of these values fill a patch of 3x3 pixels, as objects do and soft edges do not."""
    import cv2

    patch = np.ones((3, 3), np.uint8)
    flat = cv2.dilate(values, patch) - cv2.erode(values, patch) <= slack
    return bool((flat & np.isin(values, list(some))).any())


def _blurred(values: np.ndarray, found: Collection[int]) -> bool:
    """Whether most values fill no patch of 2x2 pixels, although there are more than a few of them."""
    if len(found) <= _FEW:
        return False
    first = values[:-1, :-1]
    flat = (first == values[1:, :-1]) & (first == values[:-1, 1:]) & (first == values[1:, 1:])
    return 2 * len(set(np.unique(first[flat]).tolist()) & set(found)) < len(found)


def _counts(values: np.ndarray) -> str:
    """How many pixels have each value; the most frequent ones."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:6]
    rest = len(found) - len(order)
    shown = ", ".join(f"{found[k]}: {counts[k]} px" for k in order)
    return f"{shown}{f', and {rest} more values' if rest else ''}"
