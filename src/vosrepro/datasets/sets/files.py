"""The files of a folder without an object for each of them: BL30K has ten million.

Names are kept once for all folders that have the same ones, and paths are made when they are asked for.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from vosrepro.base.names import natural

_KNOWN: dict[tuple[str, ...], tuple[str, ...]] = {}


class FolderFiles(Sequence[Path]):
    """Files of one folder in the order of their names.

    Args:
        folder: where they lie.
        names: file names, in the order of `vosrepro.base.names`.
    """

    __slots__ = ("folder", "names")

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self.names = _shared(names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> FolderFiles: ...
    def __getitem__(self, index: int | slice) -> Path | FolderFiles:
        """A path, or some of the files."""
        if isinstance(index, slice):
            return FolderFiles(self.folder, self.names[index])
        return self.folder / self.names[index]

    def __len__(self) -> int:
        """Number of files."""
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        """Whether the paths are the same."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like the lists it equals


class FilesByStem(Mapping[str, Path]):
    """Files of one folder by their names without ending, in that order.

    Args:
        folder: where they lie.
        names: file names, in the order of `vosrepro.base.names`.
    """

    __slots__ = ("folder", "names")

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self.names = _shared(names)

    def __getitem__(self, stem: str) -> Path:
        """The file of a stem."""
        for name in self.names[bisect_left(self.names, natural(stem), key=natural) :]:
            if name_stem(name) == stem:
                return self.folder / name
            if not name.startswith(stem):
                break
        raise KeyError(stem)

    def __iter__(self) -> Iterator[str]:
        """Stems in the order of the names."""
        return map(name_stem, self.names)

    def __len__(self) -> int:
        """Number of files."""
        return len(self.names)


def name_stem(name: str) -> str:
    """A file name without its last ending, as `Path.stem` has it."""
    return name.rpartition(".")[0] or name


def frame_names(frames: Sequence[Path]) -> list[str]:
    """The stems of frames; no path is made for those of a folder."""
    if isinstance(frames, FolderFiles):
        return [name_stem(name) for name in frames.names]
    return [path.stem for path in frames]


def _shared(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(names)
    known = _KNOWN.get(found)
    if known is None:
        known = _KNOWN.setdefault(found, tuple(map(sys.intern, found)))
    return known
