"""A digest of each mask of an entry and one of all of them: what inference writes and whoever reads masks compares."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import csv_text, file_digest, value_digest, write_text

#: Sequence -> frame -> SHA-256 of its PNG.
Fingerprints = Mapping[str, Mapping[str, str]]
_COLUMNS = ["sequence", "frame", "sha256"]


def masks_digest(found: Fingerprints) -> str:
    """One digest of all masks."""
    return value_digest({sequence: value_digest(dict(frames)) for sequence, frames in found.items()})


def video_fingerprints(folder: Path) -> dict[str, str]:
    """Of the masks that lie in a video's folder now."""
    return {path.stem: file_digest(path) for path in sorted(folder.glob("[!.]*.png"))}


def fingerprints(masks: Path, sequences: Iterable[str]) -> dict[str, dict[str, str]]:
    """Of the masks of some videos that lie in a folder now."""
    return {sequence: video_fingerprints(masks / sequence) for sequence in sequences}


def write_fingerprints(path: Path, found: Fingerprints) -> None:
    """Write the table: a row for each mask."""
    rows = [[sequence, frame, sha] for sequence, frames in found.items() for frame, sha in frames.items()]
    write_text(path, csv_text([_COLUMNS, *rows]))


def read_fingerprints(path: Path) -> dict[str, dict[str, str]]:
    """Read the table.

    Raises:
        DataError: if it is missing or is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if header != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise DataError(f"{path} is no table of masks")
    found: dict[str, dict[str, str]] = {}
    for sequence, frame, sha in rows:
        found.setdefault(sequence, {})[frame] = sha
    return found
