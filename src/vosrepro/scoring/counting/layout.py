"""Where the annotations, the list of sequences and meta.json lie in the usual data set layouts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_text
from vosrepro.scoring.counting.protocols import Protocol

_YEARS = {"davis2017": ("2017",), "davis2016": ("2016", "480p"), "davis2016-merged17": ("2016",)}


class Layout(NamedTuple):
    """What a truth argument stands for.

    Attributes:
        folder: the folder (or zip) of sequence folders.
        sequences: names to score, None for all.
        listed_in: the file that `sequences` comes from.
        meta: meta.json, if the protocol uses it and it is there.
    """

    folder: Path
    sequences: tuple[str, ...] | None
    listed_in: Path | None
    meta: Path | None


def find_layout(
    truth: Path,
    protocol: Protocol,
    *,
    split: str = "val",
    sequences: Path | None = None,
    meta: Path | None = None,
) -> Layout:
    """Understand a DAVIS root, a YouTube-VOS split, or a plain folder of sequence folders.

    Args:
        truth: what the user gave.
        protocol: decides which lists and files matter.
        split: the list of a DAVIS root to use.
        sequences: a list given by the user; wins.
        meta: a meta.json given by the user; wins.

    Raises:
        DataError: if a given list is missing or empty.
    """
    folder = truth
    for inner in ("Annotations/480p", "Annotations"):
        if (truth / inner).is_dir():
            folder = truth / inner
            break
    listed_in = sequences
    if listed_in is None and folder != truth:
        candidates = [truth / "ImageSets" / year / f"{split}.txt" for year in _YEARS.get(protocol.name, ())]
        listed_in = next((path for path in candidates if path.is_file()), None)
    names = None if listed_in is None else read_sequence_list(listed_in)
    if meta is None and protocol.objects == "starts":
        beside = [truth / "meta.json", folder.parent / "meta.json"]
        meta = next((path for path in beside if path.is_file()), None)
    return Layout(folder, names, listed_in, meta)


def read_sequence_list(path: Path) -> tuple[str, ...]:
    """Sequence names of a list: one per line, or the image/annotation pairs of DAVIS 2016.

    Raises:
        DataError: if the file is missing, not text, or empty.
    """
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable list of sequences ({error})") from error
    names: dict[str, None] = {}
    for line in filter(None, map(str.strip, lines)):
        first = line.split()[0]
        names[first.split("/")[-2] if first.count("/") >= 2 else line] = None
    if not names:
        raise DataError(f"{path} is empty: write one sequence name per line")
    return tuple(names)
