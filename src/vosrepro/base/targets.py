"""What a command reads and what it writes, so that nothing that it reads is ever written over.

Every argument that names a file or a folder has one of three types. The command line compares them once they
are parsed, whichever command it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError

_Path: type[Path] = type(Path())


class SourcePath(_Path):
    """A file or a folder that a command reads."""


class TargetPath(_Path):
    """A file or a folder that a command writes."""


class Place(_Path):
    """A file or a folder that a command reads and adds to."""


def refuse_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse parsed arguments of which one is written and read; see `refuse`."""
    paths = [(name, path) for name, value in arguments.items() for path in _flat(value)]
    targets = {_spoken(name): path for name, path in paths if isinstance(path, TargetPath)}
    refuse(targets, [path for _, path in paths if isinstance(path, SourcePath)])


def refuse(targets: Mapping[str, Path], sources: Iterable[Path]) -> None:
    """Refuse targets that are a source, or a file inside of one; links are followed.

    Args:
        targets: by the argument that names them.
        sources: all that is read; those that do not exist are left to their readers.

    Raises:
        ConfigError: naming both and the argument that has to change.
    """
    there = [path for path in sources if path.exists()]
    for name, target in targets.items():
        for source in there:
            if same(target, source):
                raise ConfigError(f"{name} {target} is an input, which it would replace: write to another place")
            if target.is_file() and source.is_dir() and lies_inside(target, source):
                raise ConfigError(f"{name} {target} is a file of the input {source}: write to another place")


def same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, also through links; neither need exist."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, also through links."""
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _flat(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _flat(item)


def _spoken(name: str) -> str:
    """An argument as people type it: positional ones have a capital name on the help page."""
    return name.upper() if name in ("target",) else f"--{name.replace('_', '-')}"
