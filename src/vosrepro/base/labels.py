"""Label PNGs: the palette, one reader, one writer.

A label map is a uint8 array (H, W) whose value is the object id. Files are 8-bit palette PNGs with the
full 256-entry PASCAL VOC palette. Reading goes through Pillow, the only reader that is right for every
bit depth (OpenCV turns palettes into colors, torchvision returns packed bits).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vosrepro.base.errors import DataError
from vosrepro.base.files import atomic

VOID = 255


@cache
def palette() -> bytes:
    """The 768 bytes of the VOC palette: bit j of each triple of index bits goes to the high end."""
    index = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colors.tobytes()


def read_labels(path: Path | str) -> np.ndarray:
    """Read a label PNG as uint8 (H, W), values exactly as stored (1-bit files give 0 and 1).

    Raises:
        DataError: if the file is missing, truncated, or a color image.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{path} is a {image.mode} image, not a label map: save object ids as an 8-bit palette or grey PNG"
                )
            return np.asarray(image, dtype=np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore or remake this file") from error


def write_labels(path: Path | str, labels: np.ndarray, *, compress_level: int = 1) -> None:
    """Write a uint8 label map (H, W) as an 8-bit palette PNG, atomically."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(np.ascontiguousarray(labels), mode="L")
    image.putpalette(palette())
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", compress_level=compress_level)
