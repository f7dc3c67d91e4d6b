"""Numbers that come out the same on every processor: named random streams and a tabulated sine.

The generated data must be byte-identical on every machine of an architecture. Library sines, blurs and
warps differ in the last bit between instruction sets, so this package draws only uniform numbers, takes
sines from a rounded table, and otherwise keeps to + - * /, integers and comparisons, which are exact.
"""

from __future__ import annotations

import zlib

import numpy as np

_STEPS = 4096
# Rounded to 2**-14, so an error of the library's sine in the last bit cannot show.
_SINE = np.rint(np.sin(2 * np.pi * np.arange(_STEPS) / _STEPS) * 2**14) / 2**14


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """The random stream of a purpose, e.g. `stream(0, "davis/val-03", attempt)`."""
    key = tuple(zlib.crc32(str(word).encode()) for word in words)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def sine(turns: np.ndarray | float) -> np.ndarray:
    """Sine of an angle in turns (1 = full circle), from the table."""
    index = np.floor(np.asarray(turns, np.float64) * _STEPS).astype(np.int64) & (_STEPS - 1)
    return _SINE[index]


def cosine(turns: np.ndarray | float) -> np.ndarray:
    """Cosine of an angle in turns."""
    return sine(np.asarray(turns, np.float64) + 0.25)


def smooth_integers(values: np.ndarray, *, wrap: bool) -> np.ndarray:
    """Binomial (1 2 1) smoothing along the first two axes of an integer array, in integers.

    Args:
        values: (H, W) or (H, W, C), non-negative integers with room for a factor of 4.
        wrap: whether the array is periodic; otherwise its edge is repeated.
    """
    for axis in (0, 1):
        lead = (slice(None),) * axis
        first, last = values[(*lead, slice(0, 1))], values[(*lead, slice(-1, None))]
        before = np.concatenate([last if wrap else first, values[(*lead, slice(0, -1))]], axis)
        after = np.concatenate([values[(*lead, slice(1, None))], first if wrap else last], axis)
        before += after
        before += values << 1
        before += 2
        values = before >> 2
    return values
