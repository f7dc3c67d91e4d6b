"""ImageNet-VID: snippets of video with boxes, on which the seed of `parts` trained its tracker.

Layout: `Data/VID/train/<group>/<snippet>/000000.JPEG`, `Data/VID/val/<snippet>/...`, annotations alike below
`Annotations/VID` as XML, and lists in `ImageSets/VID`. A box stands for the object's mask.

Source: image-net.org, ILSVRC2015; microsoft/SA-Siam: scripts (the groups of the training half).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.errors import DataError
from vosrepro.base.names import listed
from vosrepro.datasets.sets.files import frame_names
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import (
    IMAGES,
    FirstMask,
    Video,
    list_frames,
    list_masks,
    list_videos,
    read_lines,
)

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

HALVES = ("train", "val")


def training(data: DataParams, *, val_too: bool) -> list[Video]:
    """The snippets, sorted by name; their frames without any object have an annotation too.

    Args:
        data: where the sets lie.
        val_too: whether the validation half joins, as in the seed.

    Raises:
        DataError: if a half or an annotation is missing.
    """
    folder = set_folder("imagenet-vid", data)
    return [
        open_snippet(folder, name) for half in (HALVES if val_too else HALVES[:1]) for name in snippets(folder, half)
    ]


def snippets(folder: Path, half: str) -> Iterator[str]:
    """Snippets of a half ("train/<group>/<snippet>" or "val/<snippet>"), sorted.

    Raises:
        DataError: if the half is missing.
    """
    images = folder / "Data/VID"
    for name in list_videos(images / half):
        inner = [] if _has_frames(images / half / name) else list_videos(images / half / name)
        yield from (f"{half}/{name}/{snippet}" for snippet in inner)
        if not inner:
            yield f"{half}/{name}"


def listed_snippets(folder: Path, half: str) -> set[str]:
    """Snippets that the official lists name, as `snippets` names them; empty without lists.

    The training lists name snippets, `val.txt` names frames; a number follows each name.
    """
    found: set[str] = set()
    lists = sorted((folder / "ImageSets/VID").glob("train*.txt" if half == "train" else "val.txt"))
    for path in lists:
        for line in read_lines(path):
            name = line.split()[0]
            found.add(f"{half}/{name if half == 'train' else name.split('/')[0]}")
    return found


def open_snippet(folder: Path, name: str) -> Video:
    """A snippet as a video whose annotations are XML files.

    Raises:
        DataError: if it has no frame, or a frame has no annotation.
    """
    images, notes = folder / "Data/VID" / name, folder / "Annotations/VID" / name
    frames, annotations = list_frames(images), list_masks(notes, ending=".xml")
    names = frame_names(frames)
    missing = sorted(set(names) - set(annotations))
    if missing:
        raise DataError(f"{notes / missing[0]}.xml is missing, but its frame is there: extract the annotations again")
    starts = FirstMask(annotations[names[0]], names[0], binary=False)
    return Video(name, frames, annotations, starts)


def _has_frames(folder: Path) -> bool:
    return bool(listed(folder, IMAGES))
