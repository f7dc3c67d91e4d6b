"""An image with its masks drawn over it."""

from __future__ import annotations

from functools import cache

import numpy as np

from vosrepro.base.labels import palette

_OPACITY = 0.5


def blend(image: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """An image with each object tinted in its palette color and outlined.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W), or None for a frame without masks.
    """
    import cv2

    if labels is None or not labels.any():
        return image
    tint = _bright()[labels]
    mixed = cv2.addWeighted(image, 1 - _OPACITY, tint, _OPACITY, 0)
    inside = labels > 0
    kernel = np.ones((3, 3), np.uint8)
    edge = inside & (cv2.dilate(labels, kernel) != cv2.erode(labels, kernel))
    return np.where(edge[..., None], tint, np.where(inside[..., None], mixed, image))


@cache
def _bright() -> np.ndarray:
    """The palette (256, 3) at twice its brightness, so that the first colors show on dark scenes."""
    colors = np.frombuffer(palette(), np.uint8).reshape(256, 3).astype(np.uint16)
    return np.minimum(2 * colors, 255).astype(np.uint8)
