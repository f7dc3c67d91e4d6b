"""Thin-plate splines: a smooth random deformation of an image.

Source: hkchengrex/Mask-Propagation: dataset/tps.py (which points, how far), with the formulas of
F. Bookstein, "Principal warps", PAMI 1989.
"""

from __future__ import annotations

import cv2
import numpy as np

_POINTS = 12
_SPREAD = 0.02  # standard deviation of a control point's motion, in units of the image's sides
_EPS = 1e-6


def random_maps(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sampling maps of a random warp, see `warp_maps`.

    Deviation: upstream stacks its points as (row, column) but reads them as (x, y), which is the same for
    square crops; here they are (x, y).
    """
    x = rng.choice(width, _POINTS, replace=False) / width
    y = rng.choice(height, _POINTS, replace=False) / height
    source = np.stack([x, y], axis=1)
    return warp_maps(source, source + rng.normal(0, _SPREAD, source.shape), height, width)


def warp_maps(source: np.ndarray, target: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each output pixel comes from, when control points move from `source` to `target`.

    Args:
        source: float (n, 2), (x, y) in units of the image's sides.
        target: float (n, 2).
        height: pixels of the image.
        width: pixels of the image.

    Returns:
        Float32 (height, width) x and y coordinates in pixels, for `cv2.remap`.
    """
    count = len(target)
    ones = np.ones((count, 1))
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(target, target)
    system[:count, count:] = np.hstack([ones, target])
    system[count:, :count] = system[:count, count:].T
    right = np.zeros((count + 3, 2))
    right[:count] = source - target
    weights = np.linalg.solve(system, right)
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    moved = grid + _kernel(grid, target) @ weights[:count]
    moved += np.hstack([np.ones((len(grid), 1)), grid]) @ weights[count:]
    maps = (moved * (width, height)).astype(np.float32).reshape(height, width, 2)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])


def warp(array: np.ndarray, maps: tuple[np.ndarray, np.ndarray], *, smooth: bool) -> np.ndarray:
    """Resample an image (`smooth`: bilinear) or a mask (nearest); outside is black."""
    flag = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.remap(array, *maps, flag, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return squared * np.log(np.sqrt(squared) + _EPS)
