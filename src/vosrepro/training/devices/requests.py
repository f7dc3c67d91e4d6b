"""Asking the process of `vosrepro.training.devices.warm` to run a job in a fork of itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

#: Variable that names the socket of a workflow.
SOCKET = "VOSREPRO_WARM"
ACCEPTED, REFUSED = b"+", b"-"
_PACKAGE = Path(__file__).parents[2]
_PATIENCE_S = 60.0


def source_state() -> str:
    """What the files of this package looked like when it was asked: names, sizes and times of change."""
    files = sorted(path for path in _PACKAGE.rglob("*.py"))
    return sha256(repr([(str(p), (s := p.stat()).st_size, s.st_mtime_ns) for p in files]).encode()).hexdigest()


def place() -> list[str | None]:
    """What two processes must share so that one may work for the other: interpreter, control group, cluster job."""
    groups = Path("/proc/self/cgroup")
    group = groups.read_text(encoding="utf-8") if groups.is_file() else None
    return [sys.executable, group, os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")]


def run_warm(arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> int | None:
    """Run a command in a fork of the warm process, passing signals on.

    Args:
        arguments: the command, e.g. ["train", "--study", ...].
        environment: of the job.
        files: descriptors that the job holds until it ends, beside the standard ones.

    Returns:
        Its exit status (128 + n if signal n ended it), or None if it has to be started another way.
    """
    address = environment.get(SOCKET)
    if not address:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as warm:
        warm.settimeout(_PATIENCE_S)
        try:
            warm.connect(address)
            _send(warm, arguments, environment, files)
            if warm.recv(1) != ACCEPTED:
                return None
        except OSError:
            return None
        warm.settimeout(None)
        with _passing_signals(warm):
            answer = _rest(warm)
    if not answer:
        print("vosrepro: the process that ran this job is gone; run the same command again to go on", file=sys.stderr)
        return 1
    status = int(answer)
    return status if status >= 0 else 128 - status


def _send(warm: socket.socket, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "arguments": list(arguments),
        "environment": dict(environment),
        "folder": str(Path.cwd()),
        "place": place(),
        "source": source_state(),
        "umask": umask,
    }
    letter = os.memfd_create("vosrepro-job")
    try:
        with os.fdopen(os.dup(letter), "wb") as file:
            file.write(json.dumps(request).encode())
        os.lseek(letter, 0, os.SEEK_SET)
        socket.send_fds(warm, [b"\0"], [letter, 0, 1, 2, *files])
    finally:
        os.close(letter)


@contextlib.contextmanager
def _passing_signals(warm: socket.socket):
    def tell(number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            warm.send(bytes([number]))

    previous = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _rest(warm: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := warm.recv(64):
            parts.append(part)
    return b"".join(parts).strip()
