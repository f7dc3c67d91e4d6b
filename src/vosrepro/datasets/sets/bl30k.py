"""BL30K: rendered videos with several objects, training stage 1.

Source: hkchengrex/MiVOS: README (about 30,000 videos of 160 frames; any subset of its six segments works).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vosrepro.datasets.sets.facts import Facts
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import Video, list_videos, open_video

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

#: BL30K is full of slivers. Areas are those of a 384 x 384 sample and are scaled to other sizes.
#: Source: as `large_labels`.
_LARGE_PX, _SMALL_PX, _RARE_PX = 900, 100, 400
_REFERENCE_PX = 384 * 384


def training(data: DataParams) -> list[Video]:
    """All videos of the segments that are there, sorted by name."""
    folder = set_folder("bl30k", data)
    images, masks = folder / "JPEGImages", folder / "Annotations"
    return [open_video(name, images / name, masks / name) for name in list_videos(images)]


def large_labels(labels: np.ndarray) -> list[int]:
    """Objects of the first frame of labels (T, H, W) that are worth learning from.

    An object counts with more than 900 pixels, or with more than 100 if it has fewer than 400 in each
    other frame; areas refer to 384 x 384.

    Source: hkchengrex/Mask-Propagation: dataset/vos_dataset.py.
    """
    scale = labels[0].size / _REFERENCE_PX
    areas = np.stack([np.bincount(frame.ravel(), minlength=256) for frame in labels])
    first, others = areas[0], areas[1:]
    small = (first > _SMALL_PX * scale) & (others < _RARE_PX * scale).all(axis=0)
    kept = (first > _LARGE_PX * scale) | small
    return [int(label) for label in np.flatnonzero(kept) if label]


FACTS = Facts(worth_learning=large_labels)
