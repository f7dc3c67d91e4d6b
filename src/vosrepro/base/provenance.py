"""What made a number: commit, code digest, library versions, hardware, command line."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vosrepro.base.extensions import method_module
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


def source_digest(*parts: str) -> str:
    """16 hexadecimal digits of what the code *does*: comments, layout and docstrings do not count.

    Args:
        parts: files or folders relative to the package, e.g. "methods/stm", "scoring". Snakemake
            cannot see package code, so rules pass this digest as a parameter.
    """
    total = hashlib.sha256()
    for part in parts:
        root = _folder(part)
        base = _PACKAGE if root.is_relative_to(_PACKAGE) else root.parent
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for file in files:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and _is_docstring(body[0]):
                    del body[0]
            total.update(file.relative_to(base).as_posix().encode())
            total.update(ast.dump(tree).encode())
    return total.hexdigest()[:16]


def _folder(part: str) -> Path:
    """A file or folder of ours, or the package of a method that another distribution brings."""
    ours, (room, _, name) = _PACKAGE / part, part.partition("/")
    if ours.exists() or room != "methods":
        return ours
    spec = find_spec(method_module(name))
    return ours if spec is None or spec.origin is None else Path(spec.origin).parent


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(_PACKAGE), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
