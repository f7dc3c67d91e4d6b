"""The private folder of one training job: its lock, its resume state, its checkpoints so far.

The folder lies outside the declared outputs (a workflow engine deletes those when a job fails) and its
name is a digest of everything that determines the result, so a changed parameter never resumes old
state and an unchanged one always does.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from vosrepro.base.errors import BusyError, DataError
from vosrepro.base.files import atomic, file_digest
from vosrepro.base.units import size
from vosrepro.study.integrity import set_aside
from vosrepro.study.paths import STAGE_METRICS, STATE, checkpoint
from vosrepro.tracking.processes import Lock, Process

log = logging.getLogger(__name__)
_FULL_BYTES = 1 << 20  # less than this is no room for a state
_DYING_S = 5.0  # how long to wait for a lock whose recorded holder is dead


class StateFolder:
    """Where a job of this digest keeps what it needs to go on after a kill.

    Args:
        digest: the job's identity, see `vosrepro.training.job`.
        root: the folder of all states.
    """

    def __init__(self, digest: str, *, root: Path | str = STATE) -> None:
        self.path = Path(root) / digest
        self._state = self.path / "state.pt"

    def weights(self, step: int) -> Path:
        """The private copy of a checkpoint; outputs are hard links to it."""
        return checkpoint(self.path, step)

    @property
    def journal(self) -> Path:
        """Copy of the finished journal."""
        return self.path / STAGE_METRICS

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second writer; the kernel lets go when this process dies.

        Raises:
            BusyError: naming the process that holds it.
        """
        lock = Lock(self.path / "lock")
        _claim(lock, self.path)
        try:
            yield
        finally:
            lock.release()

    def save(self, state: dict[str, Any]) -> None:
        """Write the resume state atomically.

        Raises:
            DataError: if the disk is full or the folder cannot be written.
        """
        with atomic(self._state) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch reports a full disk so, without saying it
                full = shutil.disk_usage(self.path).free < _FULL_BYTES
                reason = os.strerror(errno.ENOSPC) if full else " ".join(str(error).split())[:120]
                raise OSError(None, reason) from error

    def load(self, *, first: bool = True) -> dict[str, Any] | None:
        """The resume state, tensors on the CPU; None if there is none, or none that can be used.

        Args:
            first: whether this is the first rank, which moves a damaged file aside.

        Raises:
            DataError: if the disk does not give the file away.
        """
        try:
            saved = torch.load(self._state, map_location="cpu", weights_only=True)
            if isinstance(saved, dict) and {"finished", "step"} <= saved.keys():
                return saved
            reason = "it is no resume state"
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a place beyond the end of a cut-off file is
                raise DataError(
                    f"{self._state} cannot be read ({error.strerror}): mend the disk or the permissions, then run again"
                ) from error
            reason = "it is cut off"
        except Exception as error:  # whatever torch makes of damaged bytes
            reason = " ".join(str(error).split())[:120]
        if first:
            log.warning("the resume state cannot be read (%s): training from the start", reason)
            set_aside(self._state)
        return None

    def complete(self, saved: Mapping[str, Any], steps: Iterable[int]) -> bool:
        """Whether every checkpoint due up to the saved step is still here, as it was written."""
        digests = saved.get("checkpoints", {})
        due = [step for step in steps if step <= saved["step"]]
        return all(self._intact(self.weights(step), digests.get(step)) for step in due)

    @staticmethod
    def _intact(path: Path, digest: str | None) -> bool:
        return path.is_file() and digest in (None, file_digest(path))

    def publish(self, step: int, target: Path) -> None:
        """Make a checkpoint appear at `target` without copying where the file system allows it.

        Raises:
            DataError: if it cannot be written.
        """
        source = self.weights(step)
        with atomic(target) as temporary:
            try:
                temporary.unlink()
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)


def check_free_space(folder: Path, need_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        DataError: saying how much is missing.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < need_bytes:
        raise DataError(
            f"{folder} has {size(free)} free, but weights and resume state of this training "
            f"need about {size(need_bytes)}: free space, then run again"
        )


def _claim(lock: Lock, folder: Path) -> None:
    deadline = time.monotonic() + _DYING_S
    try:
        while not lock.acquire():
            pid = lock.holder().get("pid")
            if pid is None or Process(pid).alive() or time.monotonic() > deadline:
                raise BusyError(
                    f"process {pid or '(unknown)'} is already training into {folder}: "
                    f"wait for it to end, or stop it with 'kill {pid or 'PID'}' and run again"
                )
            time.sleep(0.1)  # the holder is dead and its loader workers are dying
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}): free space or fix permissions, then run again"
        ) from error
