"""What training must know of a data set beside its files; every set registers its own in `catalog`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_SMALLEST_PX = 100
_REFERENCE_PX = 480 * 854


def every_object(labels: np.ndarray) -> list[int]:
    """Objects of the first frame of labels (T, H, W)."""
    return [int(label) for label in np.unique(labels[0]) if label]


def large_enough(sequence: str, label: int, areas: np.ndarray, frame_px: int) -> np.ndarray:
    """Frames in which an object is visible enough to train a target model on: 100 px at 480 x 854.

    Args:
        sequence: name of the video.
        label: id of the object.
        areas: integer (T,), the object's pixels in each labeled frame.
        frame_px: pixels of a frame, to whose size the 100 are scaled.

    Returns:
        bool (T,).

    Source: andr345/frtm-vos: lib/training_datasets.py.
    """
    del sequence, label
    return areas >= max(1.0, _SMALLEST_PX * frame_px / _REFERENCE_PX)


@dataclass(frozen=True)
class Facts:
    """What training asks of a set.

    Attributes:
        videos: whether it holds videos; otherwise single pictures, with a mask or with a class.
        frames_per_label: frames from one label to the next; jumps in parameters count frames.
        worth_learning: labels (T, H, W) of a clip -> the objects of its first frame to learn from.
        visible: (sequence, label, areas, pixels of a frame) -> the frames to start from, as `large_enough`.
    """

    videos: bool = True
    frames_per_label: int = 1
    worth_learning: Callable[[np.ndarray], list[int]] = every_object
    visible: Callable[[str, int, np.ndarray, int], np.ndarray] = large_enough
