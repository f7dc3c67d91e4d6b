"""High-resolution videos of persons (Alibaba 2021, "ali21"): first-frame masks come from files.

The challenge gives no masks: put those of the first frames into Annotations/<video>/, else a detector finds
the persons (`vosrepro.inference.persons`). Where every frame has a mask, the set can be scored.

Source: the layout that MTMFI's data loader reads: JPEGImages/<video>/00001.jpg (numbered from 1),
Annotations/<video>/, ImageSets/test.txt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import (
    Truth,
    Video,
    list_frames,
    list_masks,
    open_video,
    read_lines,
    require_objects,
)

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams


def list_file(split: str, data: DataParams) -> Path:
    """The list that names the videos of a split."""
    return set_folder("ali21", data) / "ImageSets" / f"{split}.txt"


def benchmark(split: str, data: DataParams) -> list[Video]:
    """The videos at their own size; every first mask that is there has an object.

    Raises:
        DataError: if files are missing or a first mask is empty.
    """
    return [_video(name, data) for name in read_lines(list_file(split, data))]


def _video(name: str, data: DataParams) -> Video:
    folder = set_folder("ali21", data)
    images, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
    if not list_masks(masks):
        return Video(name, list_frames(images), {}, {})
    return require_objects(open_video(name, images, masks))


def truth(split: str, data: DataParams) -> Truth:
    """Masks of all frames at the videos' own size."""
    folder = set_folder("ali21", data) / "Annotations"
    return Truth(folder, tuple(read_lines(list_file(split, data))))
