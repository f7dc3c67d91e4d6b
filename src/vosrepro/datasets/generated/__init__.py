"""The mini data: generated DAVIS, YouTube-VOS, BL30K, static sets, ImageNet and ImageNet-VID in official layouts.

The same seed gives the same bytes on every run and every machine of an architecture.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from vosrepro.base.errors import BusyError, DataError
from vosrepro.tracking.processes import locked

#: Raised by hand whenever the bytes for a seed change.
REVISION = 3
#: Written last; a root without it was not made here.
MARKER = "generated.json"


def generate(root: Path | str, *, seed: int, limit: int | None = None, processes: int = 2) -> None:
    """Make the mini data at `root`, replacing an earlier generation in one step.

    Args:
        root: a folder that does not exist, is empty, or was made by this function.
        seed: of everything; `limit` and `processes` aside, the same seed gives the same bytes.
        limit: at most this many clips of each kind (tests).
        processes: how many share the work; no influence on the bytes.

    Raises:
        DataError: if `root` holds other files or cannot be written.
        BusyError: if another process is making this root.
    """
    from vosrepro.datasets.generated.imagenet import CLASSES, write_class
    from vosrepro.datasets.generated.trees import all_clips, write_lists

    root = Path(root)
    _refuse_foreign(root)
    clips = all_clips(limit)
    with _workplace(root) as work:
        make = partial(_make, root=work, seed=seed)
        images = partial(write_class, root=work, seed=seed, limit=limit)
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
                drawn = pool.map(images, range(CLASSES))
                facts = list(pool.map(make, clips, chunksize=4))
                list(drawn)
        else:
            facts = [make(clip) for clip in clips]
            list(map(images, range(CLASSES)))
        write_lists(work, {clip.name: fact for clip, fact in zip(clips, facts, strict=True)})
        marker = {"revision": REVISION, "seed": seed, "limit": limit, **tree_facts(work)}
        (work / MARKER).write_text(json.dumps(marker, indent=2, sort_keys=True) + "\n")


def is_current(root: Path | str, *, seed: int, limit: int | None = None) -> bool:
    """Whether `root` holds exactly what `generate` would make: every byte is read (about 0.3 s)."""
    root = Path(root)
    marker = read_marker(root)
    wanted = {"revision": REVISION, "seed": seed, "limit": limit}
    if marker is None or any(marker.get(key) != value for key, value in wanted.items()):
        return False
    try:
        facts = tree_facts(root)
    except OSError:  # another process is replacing the root at this moment
        return False
    return all(marker.get(key) == value for key, value in facts.items())


def read_marker(root: Path) -> dict[str, Any] | None:
    """The record that `generate` leaves, or None if `root` was not made by it."""
    try:
        value = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def tree_facts(root: Path) -> dict[str, Any]:
    """Number, bytes and digest (over sorted path, size, SHA-256) of all files but the marker."""
    from vosrepro.datasets.prepare.manifest import content_digest

    files = sorted(p for p in root.rglob("*") if p.is_file() and p != root / MARKER)
    return content_digest(files, root)


def _end_with_parent() -> None:
    """Let a worker die with the process that started it, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make(clip: Any, *, root: Path, seed: int) -> Any:
    import cv2

    from vosrepro.datasets.generated.clips import make_clip

    cv2.setNumThreads(1)
    return make_clip(clip, root, seed)


def _refuse_foreign(root: Path) -> None:
    if root.is_dir():
        if read_marker(root) is None and any(root.iterdir()):
            raise DataError(
                f"{root} holds files that `vosrepro data generate` did not make: choose another root, "
                "or empty this folder first"
            )
    elif root.exists() or root.is_symlink():
        raise DataError(f"{root} is not a folder: remove it or choose another root")


@contextlib.contextmanager
def _workplace(root: Path) -> Iterator[Path]:
    """A folder beside `root` that takes its place on success; locked while its owner lives."""
    work = root.with_name(f".{root.name}.partial")
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = locked(work)
    except OSError as error:
        raise DataError(_failed(root, error)) from error
    if handle is None:
        raise BusyError(f"another process is generating {root}: wait for it to end")
    try:
        try:
            _empty(work)  # what a killed run left
            yield work
            if root.exists():
                shutil.rmtree(root)
            work.rename(root)
        except OSError as error:
            raise DataError(_failed(root, error)) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        else:
            child.unlink()


def _failed(root: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{root} cannot be generated ({reason}): free space or fix permissions, then run again"
