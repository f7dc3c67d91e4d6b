"""Integer geometry of the boundary measure: the radius, the disc, and a plan of cheap dilations.

Source: davisvideochallenge/davis2017-evaluation: davis2017/metrics.py; scikit-image: disk.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

TOLERANCE = 0.008  # of the image diagonal


def radius(height: int, width: int) -> int:
    """Boundary tolerance in pixels: ceil(0.008 * diagonal)."""
    return math.ceil(TOLERANCE * math.sqrt(height * height + width * width))


def half_widths(r: int) -> list[int]:
    """Half-width in pixels of the closed disc's row at vertical distance 0..r."""
    return [math.isqrt(r * r - dy * dy) for dy in range(r + 1)]


class DilationStep(NamedTuple):
    """Widen the horizontal dilation by `shifts`, one after the other, then use it at rows +-dy."""

    shifts: tuple[int, ...]
    rows: tuple[int, ...]


@cache
def dilation_plan(r: int) -> tuple[DilationStep, ...]:
    """Nested horizontal dilations from narrow to wide, each with the rows of the disc that use it.

    A dilation of half-width w grows to w + s without gaps for s <= 2 w + 1.
    """
    rows: dict[int, list[int]] = {}
    for dy, width in enumerate(half_widths(r)):
        rows.setdefault(width, []).append(dy)
    steps = []
    current = 0
    for width in sorted(rows):
        shifts = []
        while current < width:
            shift = min(width - current, 2 * current + 1)
            shifts.append(shift)
            current += shift
        steps.append(DilationStep(tuple(shifts), tuple(rows[width])))
    return tuple(steps)
