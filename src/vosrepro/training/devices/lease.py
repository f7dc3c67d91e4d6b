"""Leases of GPUs by kernel file locks: a device is free the moment its holder is gone, however it went.

One lock file per device lies in a private folder of the user on a local disk, so that all checkouts of one
machine share it. Claims are all or nothing and one at a time (behind a gate), so two claimants never
wait for each other's devices. What the files say of their holder is for people and is never trusted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vosrepro.base.errors import DeviceError
from vosrepro.tracking.processes import locked, sign

log = logging.getLogger(__name__)

_SAY_EVERY_S = 600.0


@dataclass(frozen=True)
class Lease:
    """Devices that are ours.

    Attributes:
        devices: as CUDA_VISIBLE_DEVICES names them.
        files: lock descriptors; a child that inherits them keeps the devices until it ends.
    """

    devices: tuple[str, ...] = ()
    files: tuple[int, ...] = ()


def lease_root(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of the lock files: private, local, the same for all checkouts of a user.

    Raises:
        DeviceError: if it belongs to somebody else.
    """
    env = os.environ if environment is None else environment
    base = Path(env.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not base.is_dir():
        base = Path(tempfile.gettempdir())
    root = base / f"vosrepro-gpus-{os.getuid()}"
    with contextlib.suppress(FileExistsError):  # whatever it is, it is judged below
        root.mkdir(mode=0o700)
    facts = root.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise DeviceError(f"{root} is not a folder of yours: remove it or set XDG_RUNTIME_DIR")
    return root


@contextlib.contextmanager
def lease(
    count: int,
    pool: Sequence[str],
    *,
    root: Path | None = None,
    timeout_s: float = 24 * 3600.0,
    poll_s: float = 0.5,
) -> Iterator[Lease]:
    """Hold `count` of the devices in `pool`, waiting until they are free.

    Args:
        count: how many; 0 gives an empty lease at once.
        pool: devices to choose from, in order of preference.
        root: folder of the lock files; None takes `lease_root()`.
        timeout_s: how long to wait.
        poll_s: how often to look.

    Raises:
        DeviceError: if there are fewer devices than asked for, or they do not become free in time.
    """
    if count > len(pool):
        raise DeviceError(f"{count} GPUs were asked for, but there are {len(pool)}: {', '.join(pool)}")
    if count == 0:
        yield Lease()
        return
    root = lease_root() if root is None else root
    held = _wait(count, pool, root, timeout_s=timeout_s, poll_s=poll_s)
    try:
        yield Lease(tuple(held), tuple(held.values()))
    finally:
        for file in held.values():
            os.close(file)


def _wait(count: int, pool: Sequence[str], root: Path, *, timeout_s: float, poll_s: float) -> dict[str, int]:
    began = time.monotonic()
    said = -_SAY_EVERY_S
    while True:
        held = _claim(count, pool, root)
        if held:
            return held
        waited = time.monotonic() - began
        if waited > timeout_s:
            raise DeviceError(
                f"{count} of {len(pool)} GPUs did not become free in {timeout_s:.0f} s: {_holders(pool, root)}"
            )
        if waited - said >= _SAY_EVERY_S:
            said = waited
            log.info("waiting for %d of %d GPUs: %s", count, len(pool), _holders(pool, root))
        time.sleep(poll_s)


def _claim(count: int, pool: Sequence[str], root: Path) -> dict[str, int]:
    """Lock `count` devices, or none at all; none either while another process does this."""
    gate = locked(root / "gate.lock", mode=0o600)
    if gate is None:
        return {}
    held: dict[str, int] = {}
    try:
        for device in pool:
            file = locked(_path(root, device), mode=0o600)
            if file is not None:
                held[device] = file
            if len(held) == count:
                for owned in held.values():
                    sign(owned, folder=str(Path.cwd()))
                return held
        for file in held.values():
            os.close(file)
        return {}
    finally:
        os.close(gate)


def _path(root: Path, device: str) -> Path:
    return root / f"{device.replace('/', '_')}.lock"


def _holders(pool: Sequence[str], root: Path) -> str:
    lines = []
    for device in pool:
        try:
            owner = json.loads(_path(root, device).read_text())
            lines.append(f"GPU {device} was last taken by process {owner['pid']} in {owner['folder']}")
        except (OSError, ValueError, KeyError):
            continue
    return "; ".join(lines) or "their holders are unknown"
