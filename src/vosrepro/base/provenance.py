"""What made a number: commit, code digest, library versions, hardware, command line."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vosrepro.base.machine import hardware

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "opencv-python",
    "pandas",
    "snakemake",
    "mlflow",
    "dvc",
)


def provenance() -> dict[str, Any]:
    """The facts that every JSON artifact carries; cheap, and without importing any heavy library."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": git_state(),
        "libraries": library_versions(),
        "hardware": hardware(),
        "python": platform.python_version(),
    }


@cache
def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that this package is run from; nulls if it is of no checkout of its own."""
    root = _git("rev-parse", "--show-toplevel")
    if root is None or Path(root).resolve() != _PACKAGE.parents[1]:
        return {"commit": None, "dirty": None}  # a package installed into an environment may lie in any repository
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


@cache
def library_versions() -> dict[str, str | None]:
    """Installed versions of the libraries that can change a number."""
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git(*arguments: str) -> str | None:
    # GIT_DIR and its like, set inside of hooks, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(_PACKAGE), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if "dubious ownership" in result.stderr:
        log.warning("the commit is not recorded, since the checkout belongs to somebody else: see git's safe.directory")
    return result.stdout.strip() if result.returncode == 0 else None
