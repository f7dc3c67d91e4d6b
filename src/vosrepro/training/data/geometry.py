"""Affine maps of images: the matrices that both the faithful and the fast augmentations use.

A matrix is float64 (3, 3) and takes continuous image coordinates (x, y, 1), in which pixel (0, 0) covers
[0, 1] x [0, 1], from the input to the output.
"""

from __future__ import annotations

import math

import numpy as np


def affine(
    width: int, height: int, *, degrees: float = 0.0, scale: float = 1.0, shear_degrees: float = 0.0
) -> np.ndarray:
    """Shear along x, then scale and rotate clockwise, about the center of an image."""
    angle = math.radians(degrees)
    shear = math.tan(math.radians(shear_degrees))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * rotation @ np.array([[1.0, -shear], [0.0, 1.0]])
    center = np.array([width / 2, height / 2])
    matrix[:2, 2] = center - matrix[:2, :2] @ center
    return matrix


def flip(width: int) -> np.ndarray:
    """Mirror left and right."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def crop_resize(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> np.ndarray:
    """Cut a rectangle out and stretch it to `size` (height, width)."""
    sx, sy = size[1] / width, size[0] / height
    return np.array([[sx, 0.0, -left * sx], [0.0, sy, -top * sy], [0.0, 0.0, 1.0]])


def pixel_matrix(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix of `cv2.warpAffine`, where pixel centers lie at whole coordinates."""
    half = np.eye(3)
    half[:2, 2] = 0.5
    back = np.eye(3)
    back[:2, 2] = -0.5
    return (back @ matrix @ half)[:2]


def covering_size(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image scaled so that it just covers `size` (height, width)."""
    if size[0] * width >= size[1] * height:
        return max(size[1], int(size[0] * width / height)), size[0]
    return size[1], max(size[0], int(size[1] * height / width))


def random_crop_box(
    width: int, height: int, area: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, width, height of a random part of an image.

    Its share of the area is uniform in `area`, its aspect ratio log-uniform in 3/4..4/3; after ten boxes that
    do not fit, the largest central box of an allowed ratio.

    Source: torchvision's RandomResizedCrop.
    """
    low, high = 3 / 4, 4 / 3
    for _ in range(10):
        target = width * height * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(left), int(top), w, h
    w = min(width, round(height * high))
    h = min(height, round(width / low))
    return (width - w) // 2, (height - h) // 2, w, h
