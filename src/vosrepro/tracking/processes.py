"""Which processes live, and locks that the kernel releases when their holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

from vosrepro.base.errors import VosreproError

log = logging.getLogger(__name__)
_CLOCK_SLACK_S = 2.0


class LockError(VosreproError):
    """A file system without locks."""


class Process:
    """A process that is remembered together with its start, so that a reused id is not mistaken for it.

    Args:
        pid: its id; a process that does not exist is simply not alive.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._start = _start_ticks(pid)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return self._start is not None and _start_ticks(self.pid) == self._start


def lived_at(pid: int, time_s: float) -> bool:
    """Whether process `pid` of this machine lives now and had begun at a time.

    Args:
        pid: its id.
        time_s: seconds since the epoch, e.g. when it wrote something.
    """
    ticks = _start_ticks(pid)
    if ticks is None:
        return False
    return _boot_time_s() + ticks / os.sysconf("SC_CLK_TCK") <= time_s + _CLOCK_SLACK_S


def locked(path: Path, *, mode: int = 0o666) -> int | None:
    """A descriptor that holds the lock of a file (created if need be) or of a folder; None if another process does.

    It never waits: who waits asks again, and so can say for what and for how long.

    The kernel gives the lock back when the descriptor and all that inherited it are closed.

    Args:
        path: on a file system with kernel locks.
        mode: of a new file.

    Raises:
        LockError: if the file system has no locks.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    file = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            return None
        raise LockError(
            f"{path} cannot be locked ({error.strerror}): its file system lacks locks, so put it on a local disk or "
            "mount it with locks"
        ) from error
    return file


def sign(file: int, **facts: str) -> None:
    """Write into a lock file who holds it: for people, and never trusted."""
    owner = json.dumps({"pid": os.getpid(), "host": platform.node(), **facts})
    os.ftruncate(file, 0)
    os.pwrite(file, owner.encode(), 0)


class Lock:
    """A lock file that one process at a time holds; it says who, for people and for `holder`.

    Args:
        path: the file, on a file system with kernel locks; created with its folders, never removed.
        needed: whether a file system without locks is an error; else a warning, and nobody is kept out.
    """

    def __init__(self, path: Path | str, *, needed: bool = True) -> None:
        self.path, self._needed = Path(path), needed
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; never waits."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = locked(self.path)
        except LockError as error:
            if self._needed:
                raise
            log.warning("%s; going on without", error)
            return True
        if file is None:
            return False
        sign(file)
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def holder(self) -> dict[str, Any]:
        """{"pid", "host"} of the last holder; empty if unknown."""
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(value, dict):
                return value
        return {}


def _start_ticks(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot; 0 where that is unknown, None if dead."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return 0
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _boot_time_s() -> float:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        return float(next(line for line in lines if line.startswith("btime")).split()[1])
    return 0.0
