"""Skins of objects and pictures of backgrounds: uint8 RGB tiles with power-of-two sides."""

from __future__ import annotations

import cv2
import numpy as np

from vosrepro.datasets.generated.numbers import cosine, sine, smooth_integers

SKIN = 128  # side of an object's tile; local coordinates -1.28..1.28 map onto it
BACKDROP = (256, 512)  # height, width of a background tile
PATTERNS = ("stripes", "checks", "dots", "rings", "marble", "patches")


def color(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB (3,) as int32 0..255 from hue in turns, saturation and value in 0..1."""
    offsets = np.array([5.0, 3.0, 1.0])
    ramp = (offsets + hue * 6.0) % 6.0
    chroma = np.clip(np.minimum(ramp, 4.0 - ramp), 0.0, 1.0)
    return np.rint(255.0 * (value - value * saturation * chroma)).astype(np.int32)


def fractal(rng: np.random.Generator, height: int, width: int, coarse: int) -> np.ndarray:
    """Periodic cloud noise, int32 (height, width) in 0..255; `coarse` cells along the height."""
    rows, cols = coarse, coarse * width // height
    field = rng.integers(0, 1 << 12, (rows, cols)).astype(np.int32)
    amplitude = 1 << 12
    while rows < height:
        rows, cols = rows * 2, cols * 2
        field = smooth_integers(np.repeat(np.repeat(field, 2, 0), 2, 1), wrap=True)
        amplitude //= 2
        field += rng.integers(0, max(amplitude, 1), (rows, cols)).astype(np.int32)
    low, high = int(field.min()), int(field.max())
    return (field - low) * 255 // max(high - low, 1)


def skin(rng: np.random.Generator, hue: float, pattern: str) -> np.ndarray:
    """An object's texture, uint8 (SKIN, SKIN, 3): two tones of about one hue in a pattern."""
    first = color(hue, rng.uniform(0.65, 0.95), rng.uniform(0.6, 0.95))
    second = color(hue + rng.uniform(-0.06, 0.06), rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.6))
    if rng.random() < 0.3:  # a pale second tone
        second = color(hue, rng.uniform(0.05, 0.25), rng.uniform(0.8, 1.0))
    chosen = _pattern(rng, pattern)
    shade = fractal(rng, SKIN, SKIN, 4)
    light = 150 + (shade * 106 >> 8)  # of 256
    tile = np.where(chosen[..., None], first, second) * light[..., None] >> 8
    return smooth_integers(tile, wrap=False).astype(np.uint8)


def _pattern(rng: np.random.Generator, name: str) -> np.ndarray:
    v, u = np.mgrid[0:SKIN, 0:SKIN]
    bend = fractal(rng, SKIN, SKIN, 4) >> 3  # 0..31 texels
    turn = rng.random()
    across = (u * int(256 * cosine(turn)) + v * int(256 * sine(turn)) >> 8) + bend
    along = (v * int(256 * cosine(turn)) - u * int(256 * sine(turn)) >> 8) + bend
    cell = int(rng.integers(18, 29))
    if name == "stripes":
        return across % cell < cell // 2
    if name == "checks":
        return (across // cell + along // cell) % 2 == 0
    if name == "dots":
        x, y = across % cell - cell // 2, along % cell - cell // 2
        return x * x + y * y > cell * cell // 9
    if name == "rings":
        squared = (u - SKIN // 2) ** 2 + (v - SKIN // 2) ** 2
        return (squared + 24 * bend) // (cell * 44) % 2 == 0
    if name == "marble":
        return (fractal(rng, SKIN, SKIN, 4) + 2 * bend) // 40 % 2 == 0
    return fractal(rng, SKIN, SKIN, 4) > 128


def backdrop(rng: np.random.Generator) -> np.ndarray:
    """A muted, cluttered background, uint8 (*BACKDROP, 3)."""
    height, width = BACKDROP
    hue, strength = rng.random(), rng.uniform(0.08, 0.4)
    tones = [
        color(hue + rng.uniform(-0.15, 0.15), strength * rng.uniform(0.5, 1), rng.uniform(0.25, 0.8)) for _ in range(4)
    ]
    cloud = fractal(rng, height, width, 4)
    level = np.clip(cloud * 4 // 256, 0, 3)
    tile = np.ascontiguousarray(np.array(tones)[level].astype(np.uint8))
    for _ in range(int(rng.integers(14, 30))):
        tone = color(hue + rng.uniform(-0.2, 0.2), strength * rng.random(), rng.uniform(0.2, 0.85))
        center = rng.integers((0, 0), (width, height))
        corners = int(rng.integers(3, 9))
        angles = (np.arange(corners) + rng.uniform(0, 0.6, corners)) / corners
        radius = rng.uniform(8, 34) * rng.uniform(0.6, 1.0, corners)
        points = center + np.stack([radius * cosine(angles), radius * sine(angles)], 1)
        cv2.fillPoly(tile, [np.rint(points).astype(np.int32)], [int(c) for c in tone])
    grain = fractal(rng, height, width, 16)
    light = 176 + (grain * 80 >> 8)
    return smooth_integers(tile.astype(np.int32) * light[..., None] >> 8, wrap=True).astype(np.uint8)
