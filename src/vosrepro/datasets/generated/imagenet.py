"""A miniature of ImageNet-2012 in the layout of extracted class archives: ten classes of textured shapes.

A class is a kind of outline with a texture pattern and, in most images, a hue. Training images hold one grey
and one CMYK JPEG, as the official set does.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vosrepro.datasets.generated.encode import jpeg
from vosrepro.datasets.generated.numbers import cosine, sine, stream
from vosrepro.datasets.generated.textures import PATTERNS, backdrop, skin

FOLDER = "ImageNet"
CLASSES = 10
TRAIN, VAL = 40, 10  # images of a class
_SIDE = 72


def wnid(number: int) -> str:
    """A class's folder name, in the shape of a WordNet id."""
    return f"n{90000000 + 7 * number:08d}"


def write_imagenet(root: Path, *, seed: int, limit: int | None = None) -> None:
    """Write both halves below `root`, see `write_class`."""
    for number in range(CLASSES):
        write_class(number, root=root, seed=seed, limit=limit)


def write_class(number: int, *, root: Path, seed: int, limit: int | None = None) -> None:
    """Write the images of one class in both halves.

    Args:
        number: of the class, from 0.
        root: of the data.
        seed: of everything.
        limit: at most this many images of each half (tests).
    """
    for half, count in (("train", TRAIN), ("val", VAL)):
        folder = root / FOLDER / half / wnid(number)
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count if limit is None else min(count, limit)):
            image = draw_image(number, stream(seed, FOLDER, half, number, i))
            grey, cmyk = (half == "train" and number == n and i == 0 for n in (0, 1))
            data = _encoded(image, grey=grey, cmyk=cmyk)
            if half == "train":
                name = f"{wnid(number)}_{i + 1}.JPEG"
            else:
                name = f"ILSVRC2012_val_{number * VAL + i + 1:08d}.JPEG"
            (folder / name).write_bytes(data)


def draw_image(number: int, rng: np.random.Generator) -> np.ndarray:
    """An image of class `number`, uint8 (H, W, 3): six patterns on round shapes, four of them on angular ones."""
    height, width = (int(_SIDE * s) for s in rng.uniform(0.9, 1.4, 2))
    tile = backdrop(rng)
    top, left = int(rng.integers(tile.shape[0] - height)), int(rng.integers(tile.shape[1] - width))
    image = tile[top : top + height, left : left + width].copy()
    typical = rng.random() < 0.7
    hue = number / CLASSES + rng.uniform(-0.06, 0.06) if typical else rng.random()
    texture = skin(rng, float(hue), PATTERNS[number % len(PATTERNS)])
    radius = rng.uniform(0.32, 0.48) * min(height, width)
    x = width / 2 + rng.uniform(-0.12, 0.12) * width
    y = height / 2 + rng.uniform(-0.12, 0.12) * height
    v, u = np.mgrid[0:height, 0:width]
    turn = float(rng.random())
    a = ((u + 0.5 - x) * cosine(turn) + (v + 0.5 - y) * sine(turn)) / radius
    b = ((v + 0.5 - y) * cosine(turn) - (u + 0.5 - x) * sine(turn)) / radius
    round_shape = number < len(PATTERNS)
    inside = a * a + b * b < 1 if round_shape else (abs(a) < 0.95) & (abs(b) < 0.55)
    rows, columns = (np.clip(((c + 1.28) * 50).astype(np.int64), 0, 127) for c in (b, a))
    image[inside] = texture[rows, columns][inside]
    return image


def _encoded(image: np.ndarray, *, grey: bool, cmyk: bool) -> bytes:
    if not grey and not cmyk:
        return jpeg(image)
    converted = Image.fromarray(image).convert("L" if grey else "CMYK")
    buffer = io.BytesIO()
    converted.save(buffer, "JPEG", quality=90, subsampling=0, optimize=False, progressive=False)
    return buffer.getvalue()
