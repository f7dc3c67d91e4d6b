"""Static images with one object each, training stage 0.

Source: hkchengrex/Mask-Propagation: dataset/static_dataset.py, train.py (the lists and their repeats).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.errors import DataError
from vosrepro.base.names import folder_names, listed
from vosrepro.datasets.sets.folders import SOURCES, set_folder
from vosrepro.datasets.sets.video import IMAGES, StaticImage

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

#: Sub-folder -> how often its images stand in the list; `fss` has one folder per class.
PARTS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5}


def images(data: DataParams) -> list[StaticImage]:
    """All images with a mask of the same stem beside them, in the order of `PARTS`, then by name.

    Sub-folders that are absent are left out (`verify` reports them); a folder without any of them is
    taken as one flat list.

    Raises:
        DataError: if there is no image at all, or an image lacks its mask.
    """
    folder = set_folder("static", data)
    found: list[StaticImage] = []
    for part, repeats in PARTS.items():
        found += part_images(folder, part) * repeats
    found = found or _flat(folder, folder)
    if not found:
        raise DataError(f"{folder} holds no images: {SOURCES['static'].obtain}")
    return found


def part_images(folder: Path, part: str) -> list[StaticImage]:
    """Images of one sub-folder, once each; empty if it is absent."""
    place = folder / part
    if not place.is_dir():
        return []
    if part != "fss":
        return _flat(place, folder)
    return [image for name in folder_names(place) for image in _flat(place / name, folder)]


def _flat(place: Path, root: Path) -> list[StaticImage]:
    found = []
    for image in (place / name for name in listed(place, IMAGES, beside=(".png",))):
        mask = image.with_suffix(".png")
        if not mask.is_file():
            raise DataError(f"{mask} is missing beside its image: extract {place.name} again")
        found.append(StaticImage(image.relative_to(root).with_suffix("").as_posix(), image, mask))
    return found
