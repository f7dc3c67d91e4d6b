"""One process mirrors a study into MLflow while its workflow runs; the last step asks it to complete.

Opening MLflow costs several seconds, so there is one follower per study, single by a kernel lock, and
`complete` leaves a request for it instead of opening the store again:

    state/tracking/<study>.lock           held by whoever mirrors; released by the kernel
    state/tracking/<study>.request.json   {"id", "out"}, written by `complete`
    state/tracking/<study>.reply.json     {"id", "status"}, written by the follower when `out` is there

The follower keeps nothing that matters: it may be killed at any time. Nothing here fails because of
MLflow: a store that does not work is one warning and an outcome.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_json, write_json
from vosrepro.study.paths import TRACKING
from vosrepro.study.records import MlflowOutcome
from vosrepro.tracking.mirror import Mirror, journals
from vosrepro.tracking.processes import Lock, Process
from vosrepro.tracking.store import Store, enabled, tracking_uri, without_password

log = logging.getLogger(__name__)

_TICK_S = 0.2
_LONGEST_PAUSE_S = 60.0


def follow(study: str, *, parent_pid: int, poll_s: float = 2.0) -> None:
    """Mirror a study until its workflow ends or `complete` asks for the end.

    While another follower works (for a workflow that is about to end) this one stands by.

    Args:
        study: name of the study.
        parent_pid: process of the workflow.
        poll_s: seconds between two looks at the journals.
    """
    if not enabled():
        return
    parent = Process(parent_pid)
    lock = Lock(TRACKING / f"{study}.lock", needed=False)
    while not lock.acquire():
        if not parent.alive():
            return
        time.sleep(max(poll_s, _TICK_S))
    try:
        # Of a `complete` that was killed; one that lives writes its request again.
        _request(study).unlink(missing_ok=True)
        _serve(_Opener(study), parent, poll_s)
    finally:
        lock.release()


def complete(study: str, out: Path | str, *, answer_s: float = 60.0) -> MlflowOutcome:
    """Mirror everything that is left and write mlflow.json.

    A living follower is asked to do it. One that does not answer in time is killed if it is on this
    machine, and the work is done here.

    Args:
        study: name of the study.
        out: results/<study>/mlflow.json.
        answer_s: how long to wait for a follower.

    Raises:
        DataError: if `out` cannot be written.
    """
    if not enabled():
        outcome = _off()
        outcome.write(out)
        return outcome
    lock = Lock(TRACKING / f"{study}.lock", needed=False)
    request = {"id": uuid.uuid4().hex, "out": str(out)}
    deadline = time.monotonic() + answer_s
    try:
        while not lock.acquire():
            if _read(_request(study)).get("id") != request["id"]:
                write_json(_request(study), request)
            if time.monotonic() > deadline and not _stop(lock):
                return _give_up(lock, out)
            time.sleep(_TICK_S / 4)
            if (answer := _answer(study, request)) is not None:
                return answer
        answer = _answer(study, request)
        return answer if answer is not None else _Opener(study).attempt(final=True, out=out)
    finally:
        with contextlib.suppress(OSError):
            _request(study).unlink(missing_ok=True)
        lock.release()


def mirror_once(study: str) -> MlflowOutcome:
    """Mirror what there is now, unless a follower does so anyway."""
    if not enabled():
        return _off()
    lock = Lock(TRACKING / f"{study}.lock", needed=False)
    if not lock.acquire():
        return _outcome("followed", f"process {lock.holder().get('pid')} mirrors")
    try:
        return _Opener(study).attempt(final=True)
    finally:
        lock.release()


class _Opener:
    """Opens the store when it is first needed, and again after it failed."""

    def __init__(self, study: str) -> None:
        self.study = study
        self.failed = False
        self.took_s = 0.0  # the last mirroring, without opening
        self._mirror: Mirror | None = None
        self._warned = ""

    def lost(self) -> bool:
        """Whether the open database was removed; MLflow cannot open it anew in the same process."""
        return self._mirror is not None and self._mirror.store.lost()

    def attempt(self, *, final: bool, out: Path | str | None = None) -> MlflowOutcome:
        """Mirror once; whatever a store does wrong becomes one warning and the outcome "broken"."""
        try:
            if self._mirror is None:
                self._mirror = Mirror(self.study, Store(self.study))
            began = time.monotonic()
            self._mirror.sync(final=final)
            self.took_s = time.monotonic() - began
            experiment = self._mirror.store.experiment_id
            outcome = _outcome("complete", experiment_id=experiment, runs=self._mirror.runs())
            self.failed = False
        except Exception as error:  # the study must not end because of the tracker
            self._mirror, self.failed = None, True
            text = " ".join(str(error).split()) or type(error).__name__
            note = without_password(text)[:300]
            outcome = _outcome("broken", note)
            if note != self._warned:
                self._warned = note
                log.warning("MLflow does not work (%s); journals and results are complete", note)
        if out is not None:
            outcome.write(out)
        return outcome


def _serve(opener: _Opener, parent: Process, poll_s: float) -> None:
    due, pause = 0.0, poll_s
    while not opener.lost():
        request = _read(_request(opener.study))
        ended = not parent.alive()
        if request or ended:
            outcome = opener.attempt(final=True, out=request.get("out"))
            if request:
                reply = {"id": request.get("id"), "status": outcome.status}
                write_json(_reply(opener.study), reply)
                _request(opener.study).unlink(missing_ok=True)
            return
        if time.monotonic() >= due and journals(opener.study):
            opener.attempt(final=False)
            # At most a tenth of one core, and ever fewer attempts at a store that fails.
            wanted = 2 * pause if opener.failed else max(poll_s, 10 * opener.took_s)
            pause = min(wanted, _LONGEST_PAUSE_S)
            due = time.monotonic() + pause
        time.sleep(min(_TICK_S, poll_s))
    log.warning("the MLflow database was removed; the end of the workflow makes it anew")


def _stop(lock: Lock) -> bool:
    """Kill a holder that does not answer; False if it is on another machine."""
    holder = lock.holder()
    if holder.get("host") != platform.node() or not holder.get("pid"):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(holder["pid"]), signal.SIGKILL)
    return True


def _give_up(lock: Lock, out: Path | str) -> MlflowOutcome:
    holder = lock.holder()
    note = f"process {holder.get('pid')} on {holder.get('host')} mirrors but does not answer"
    log.warning("MLflow is not complete: %s", note)
    outcome = _outcome("broken", note)
    outcome.write(out)
    return outcome


def _answer(study: str, request: Mapping[str, str]) -> MlflowOutcome | None:
    """What the follower wrote, if it answered this request."""
    if _read(_reply(study)).get("id") != request["id"]:
        return None
    outcome = MlflowOutcome.read(request["out"])
    if outcome.status == "broken":
        log.warning("MLflow does not work (%s); journals and results are complete", outcome.note)
    return outcome


def _off() -> MlflowOutcome:
    return _outcome("off", "switched off by VOSREPRO_MLFLOW")


def _outcome(
    status: str, note: str = "", *, experiment_id: str | None = None, runs: Mapping[str, str] | None = None
) -> MlflowOutcome:
    address = without_password(tracking_uri())
    return MlflowOutcome(status=status, tracking_uri=address, experiment_id=experiment_id, runs=runs or {}, note=note)


def _request(study: str) -> Path:
    return TRACKING / f"{study}.request.json"


def _reply(study: str) -> Path:
    return TRACKING / f"{study}.reply.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (DataError, OSError):
        return {}
    return value if isinstance(value, dict) else {}
