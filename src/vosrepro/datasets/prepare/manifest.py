"""Digests of trees of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def content_digest(files: Iterable[Path], root: Path) -> dict[str, Any]:
    """Count, bytes and one digest over sorted (path relative to `root`, size, SHA-256)."""
    total, count, size = hashlib.sha256(), 0, 0
    for path in files:
        data = path.read_bytes()
        count, size = count + 1, size + len(data)
        name = path.relative_to(root).as_posix()
        total.update(f"{name}\t{len(data)}\t{hashlib.sha256(data).hexdigest()}\n".encode())
    return {"files": count, "bytes": size, "digest": total.hexdigest()}
