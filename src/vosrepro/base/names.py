"""Names of files: which files of a folder count, and in which order they do; the one answer for every module."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from vosrepro.base.errors import DataError

log = logging.getLogger(__name__)

#: Files that systems and people leave beside images and that nobody would take for one; all in lower case.
_LEFT_BEHIND = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_TEXTS = (".txt", ".json", ".csv", ".md", ".xml", ".html", ".yaml", ".yml", ".log", ".parquet", ".pdf")
_SAID: set[str] = set()


def visible(name: str) -> bool:
    """Whether a name is not hidden and not what a system leaves behind (archives of a Mac hold `._00000.jpg`)."""
    return not name.startswith(".") and name.lower() not in _LEFT_BEHIND


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key in which numbers count as numbers: frame 9 comes before frame 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p]


def in_order(names: Iterable[str], where: object) -> list[str]:
    """Names of frames in the order of time: that of their numbers.

    Text order is the same for numbers with leading zeros; where it is not, a warning says so, since other tools
    would take the last frame for another.

    Args:
        names: with or without endings.
        where: the folder, for the warning.
    """
    text = sorted(names)
    if len(set(map(len, text))) <= 1 and all(name.partition(".")[0].isdecimal() for name in text):
        return text
    found = sorted(text, key=natural)
    if found != text:
        place = next(i for i, pair in enumerate(zip(found, text, strict=True)) if pair[0] != pair[1])
        _say(
            f"{where}: {found[place]} is taken to come before {text[place]}, as their numbers say; tools that sort by "
            "text take another order: write numbers with leading zeros"
        )
    return found


def chosen(names: Iterable[str], endings: Collection[str], where: object, *, beside: Collection[str] = ()) -> list[str]:
    """The visible names with one of the endings, sorted as text; other files are named in a warning.

    Args:
        names: of a folder.
        endings: in lower case, with the dot; names may have them in upper case.
        where: the folder, for the warning.
        beside: endings of other files that belong there.
    """
    wanted, known = tuple(endings), (*beside, *_TEXTS)
    found, strays = [], []
    for name in names:
        if name.lower().endswith(wanted):
            if visible(name):
                found.append(name)
        elif "." in name and visible(name) and not name.lower().endswith(known):
            strays.append(name)
    strays = [name for name in strays if not Path(str(where), name).is_dir()]
    if strays:
        _say(f"{where}: {len(strays)} files are left out, first {min(strays)}: only {', '.join(wanted)} are read here")
    found.sort()
    return found


def listed(folder: Path | str, endings: Collection[str], *, beside: Collection[str] = ()) -> list[str]:
    """`chosen` of a folder's names, sorted as text: pictures, which have no order in time.

    Raises:
        DataError: if the folder is missing or cannot be read.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 (a path for each would cost more than the listing)
    except OSError as error:
        raise DataError(f"the folder {folder} is missing or cannot be read") from error
    return chosen(names, endings, folder, beside=beside)


def frame_files(folder: Path | str, endings: Collection[str], *, beside: Collection[str] = ()) -> list[str]:
    """`listed`, in the order of time; see `in_order`."""
    return in_order(listed(folder, endings, beside=beside), folder)


def folder_names(folder: Path) -> list[str]:
    """Sorted names of the visible folders in a folder.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir() if visible(path.name) and path.is_dir())
    except OSError as error:
        raise DataError(f"the folder {folder} is missing or cannot be read") from error


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is there a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _say(sentence: str) -> None:
    """Warn once, however often a folder is listed."""
    if sentence not in _SAID:
        _SAID.add(sentence)
        log.warning("%s", sentence)
