"""Pictures of tracked parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from vosrepro.methods.parts.segmenter import PartView

_WHOLE, _FIRST, _LATE, _LOST = (80, 220, 255), (255, 220, 60), (120, 255, 120), (150, 150, 150)


def draw_parts(image: np.ndarray, parts: Sequence[PartView], *, scale: int = 1) -> np.ndarray:
    """Draw boxes of parts: whole objects cyan, parts of the first frame yellow, later ones green, lost ones grey.

    The more confident a part, the stronger its line.

    Args:
        image: uint8 (H, W, 3) RGB.
        parts: `PartsSegmenter.parts` after the frame.
        scale: enlargement of the picture.

    Returns:
        uint8 (scale H, scale W, 3).
    """
    drawn = np.repeat(np.repeat(image, scale, 0), scale, 1)
    for part in sorted(parts, key=lambda p: (p.active, p.whole)):
        color = _WHOLE if part.whole else _LATE if part.late else _FIRST
        x0, y0, x1, y1 = (round(v * scale) for v in part.box)
        layer = drawn.copy()
        cv2.rectangle(layer, (x0, y0), (x1 - 1, y1 - 1), color if part.active else _LOST, 1)
        strength = 0.35 + 0.65 * min(1.0, max(0.0, part.score)) if part.active else 0.35
        drawn = cv2.addWeighted(layer, strength, drawn, 1 - strength, 0)
    return drawn
