"""DAVIS 2016 and 2017 (trainval, test-dev) at 480p, as the official archives extract.

Source: davischallenge.org; davisvideochallenge/davis-2017: README.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.datasets.sets.facts import Facts, large_enough
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import Truth, Video, open_video, read_lines, require_objects

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

RESOLUTION = "480p"
#: The sequences of DAVIS 2016 in the tree of DAVIS 2017, all objects of a frame merged into one: what FRTM and its
#: descendants call DAVIS 2016. Source: andr345/frtm-vos: lib/datasets.py.
MERGED = "davis2016-merged17"
_TREES = {MERGED: "davis2017"}
_SHARE = 0.25
#: Sequences of DAVIS whose objects stay in view although they shrink a lot, and other shares.
#: Source: as `visible_enough`.
_ALWAYS = frozenset(
    [
        "bus",
        "car-turn",
        "drift-turn",
        "kid-football",
        "koala",
        "mallard-fly",
        "motocross-bumps",
        "motorbike",
        "rallye",
        "snowboard",
        "train",
        "upside-down",
    ]
)
_SHARES = {
    "bmx-bumps": 0.5,
    "disk-jockey": 0.5,
    "boxing-fisheye": 0.2,
    "cat-girl": 0.2,
    "dog-gooses": 0.2,
    "tractor-sand": 0.1,
    "drone": 0.1,
}
#: (sequence, object or None for all) -> ranges of frames (first, last) that count in any case.
_FORCED: dict[tuple[str, int | None], tuple[tuple[int, int], ...]] = {
    ("classic-car", None): ((0, 55),),
    ("drone", 1): ((0, 16), (24, 59)),
    ("night-race", None): ((0, 28),),
    ("night-race", 2): ((0, 10_000),),
}


def tree(dataset: str, data: DataParams) -> Path:
    """The folder of the tree that a dataset reads."""
    return set_folder(_TREES.get(dataset, dataset), data)


def list_file(dataset: str, split: str, data: DataParams) -> Path:
    """The list that names a split's sequences.

    The 2016 archive's own list holds an image and an annotation path per line; some copies only have the
    list of names that the 2017 archive brings for 2016.
    """
    folder = tree(dataset, data) / "ImageSets"
    if dataset == MERGED:
        return folder / "2016" / f"{split}.txt"
    if dataset != "davis2016":
        return folder / "2017" / f"{split}.txt"
    own, names = folder / RESOLUTION / f"{split}.txt", folder / "2016" / f"{split}.txt"
    return names if names.is_file() and not own.is_file() else own


def sequences(dataset: str, split: str, data: DataParams) -> tuple[str, ...]:
    """Sequence names of a split in the order of its list.

    Args:
        dataset: "davis2016", "davis2017", "davis2017-testdev" or `MERGED`.
        split: "train", "val" or "test-dev".
        data: where the sets lie.

    Raises:
        DataError: if the list is missing or a line cannot be understood.
    """
    path = list_file(dataset, split, data)
    names: dict[str, None] = {}
    for line in read_lines(path):
        first = line.split()[0]
        parts = first.strip("/").split("/")
        if len(parts) not in (1, 4):
            raise DataError(
                f"{path} has the line '{line}', which is neither a sequence name nor a pair of paths "
                "/JPEGImages/480p/NAME/FRAME.jpg /Annotations/480p/NAME/FRAME.png"
            )
        names[parts[0] if len(parts) == 1 else parts[2]] = None
    return tuple(names)


def video(dataset: str, name: str, data: DataParams) -> Video:
    """One sequence with all its frames and masks."""
    folder = tree(dataset, data)
    return open_video(
        name,
        folder / "JPEGImages" / RESOLUTION / name,
        folder / "Annotations" / RESOLUTION / name,
        binary=dataset in ("davis2016", MERGED),
    )


def benchmark(dataset: str, split: str, data: DataParams) -> list[Video]:
    """The videos of a benchmark; every first mask has an object.

    Raises:
        DataError: if files are missing or a first mask is empty.
    """
    return [require_objects(video(dataset, n, data)) for n in sequences(dataset, split, data)]


def truth(dataset: str, split: str, data: DataParams) -> Truth:
    """Annotations of all frames.

    Raises:
        DataError: for test-dev, whose annotations are not public.
    """
    if dataset == "davis2017-testdev":
        raise DataError("the ground truth of DAVIS 2017 test-dev is not public: submit to its server")
    folder = tree(dataset, data) / "Annotations" / RESOLUTION
    return Truth(folder, sequences(dataset, split, data))


def training(dataset: str, data: DataParams) -> list[Video]:
    """The training split.

    Some masks of DAVIS 2016 are empty (the object is out of sight). Such frames stay in the video: they
    are true, and a clip that starts on one without an object is drawn anew by the sampler.
    """
    return [video(dataset, name, data) for name in sequences(dataset, "train", data)]


def visible_enough(sequence: str, label: int, areas: np.ndarray, frame_px: int) -> np.ndarray:
    """As `facts.large_enough`, and with at least a quarter of the object's largest area.

    Upstream makes exceptions by name of the sequence.

    Source: andr345/frtm-vos: lib/training_datasets.py.
    """
    enough = large_enough(sequence, label, areas, frame_px)
    if sequence in _ALWAYS:
        return enough
    shown = areas >= _SHARES.get(sequence, _SHARE) * areas.max(initial=1)
    for owner in (None, label):
        for first, last in _FORCED.get((sequence, owner), ()):
            shown[first : last + 1] = True
    return shown & enough


FACTS = Facts(visible=visible_enough)
