"""What made a number: commit, code digest, library versions, hardware, command line."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vosrepro.base.machine import hardware

_PACKAGE = Path(__file__).parents[1]
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
    """Commit and dirty flag of the checkout that holds this package; nulls outside a checkout."""
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
    try:
        result = subprocess.run(["git", "-C", str(_PACKAGE), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
