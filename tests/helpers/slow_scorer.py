"""A second, slow implementation of J and F on bool masks, written from the definitions."""

from __future__ import annotations

import math

import numpy as np


def boundary(mask: np.ndarray) -> np.ndarray:
    """On where a pixel differs from its right, lower or lower-right neighbor, edges repeated."""
    p = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = p[:-1, :-1]
    return (here ^ p[:-1, 1:]) | (here ^ p[1:, :-1]) | (here ^ p[1:, 1:])


def near(points: np.ndarray, radius: int) -> np.ndarray:
    """Pixels within `radius` of a point, one point at a time."""
    out = np.zeros_like(points)
    height, width = points.shape
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    offsets = np.argwhere(dy * dy + dx * dx <= radius * radius) - radius
    for point in np.argwhere(points):
        reached = point + offsets
        inside = ((reached >= 0) & (reached < (height, width))).all(axis=1)
        out[tuple(reached[inside].T)] = True
    return out


def counts(g: np.ndarray, p: np.ndarray) -> list[int]:
    """The seven integers, in the order of `vosrepro.scoring.counting.counting.COUNTS`."""
    radius = math.ceil(0.008 * math.hypot(*g.shape))
    bg, bp = boundary(g), boundary(p)
    matched = (bg & near(bp, radius)), (bp & near(bg, radius))
    return [int(m.sum()) for m in (g & p, g, p, bg, bp, *matched)]
