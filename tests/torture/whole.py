"""Faults of a whole workflow: the installed Snakemake with all its processes, and a plain rerun."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tortured
from real_snakemake import BIN
from torment import Row, Study

COMMAND = [str(BIN / "snakemake"), "--configfile", str(tortured.STUDY), "--cores", "2", "--", "reports/all.html"]
_LONGEST_S = 400.0


@dataclass(frozen=True)
class WholeFault:
    """What happens to a workflow once a file is there.

    Attributes:
        name: unique.
        when: pattern of the file.
        act: with the folder and the workflow's process.
        mlflow: whether the tracker is on.
    """

    name: str
    when: str
    act: Callable[[Path, subprocess.Popen[str]], None]
    mlflow: bool = False


def _start(folder: Path, *, mlflow: bool) -> subprocess.Popen[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment["VOSREPRO_MLFLOW"] = "on" if mlflow else "off"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    return subprocess.Popen(COMMAND, cwd=folder, env=environment, start_new_session=True, preexec_fn=heard, **pipes)


def _run(folder: Path, *, mlflow: bool) -> tuple[int, str]:
    with _start(folder, mlflow=mlflow) as process:
        return _ended(process)


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -1, "it did not end"
    return process.returncode, output


def _members(folder: Path) -> list[int]:
    """Processes that work in a study's folder, whatever session they are in."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cwd").readlink() == folder:
                found.append(int(place.name))
    return found


def _send(*numbers: signal.Signals) -> Callable[[Path, subprocess.Popen[str]], None]:
    def act(_folder: Path, process: subprocess.Popen[str]) -> None:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(1.0)

    return act


def _kill_workflow(_folder: Path, process: subprocess.Popen[str]) -> None:
    process.kill()


def _cut_power(folder: Path, _process: subprocess.Popen[str]) -> None:
    for _ in range(3):
        for number in _members(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def _kill_named(pattern: str) -> Callable[[Path, subprocess.Popen[str]], None]:
    """Kill the process of this study whose command line holds a text."""

    def act(folder: Path, _process: subprocess.Popen[str]) -> None:
        for number in _members(folder):
            with contextlib.suppress(OSError):
                if pattern in Path(f"/proc/{number}/cmdline").read_text().replace("\0", " "):
                    os.kill(number, signal.SIGKILL)

    return act


def _forget(*names: str) -> Callable[[Path, subprocess.Popen[str]], None]:
    """End the workflow politely, then remove folders."""

    def act(folder: Path, process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)

    return act


def _second(folder: Path, _process: subprocess.Popen[str]) -> None:
    _run(folder, mlflow=False)


def _garbage(folder: Path, _process: subprocess.Popen[str]) -> None:
    (folder / "mlflow.db").write_bytes(b"no database" * 100)


_TRAINING = "state/*/state.pt"
WHOLE = (
    WholeFault("Ctrl-C", _TRAINING, _send(signal.SIGINT)),
    WholeFault("Ctrl-C twice", _TRAINING, _send(signal.SIGINT, signal.SIGINT)),
    WholeFault("power cut in training", _TRAINING, _cut_power),
    WholeFault("Snakemake killed", _TRAINING, _kill_workflow),
    WholeFault("Snakemake terminated", "results/toy/stm/s02/seed0/s0/run.json", _send(signal.SIGTERM)),
    WholeFault("power cut in inference", "state/infer/*/*.json", _cut_power),
    WholeFault("stopped and continued", _TRAINING, _send(signal.SIGSTOP, signal.SIGCONT)),
    WholeFault("the warm process killed", _TRAINING, _kill_named("devices.warm")),
    WholeFault("a second workflow", _TRAINING, _second),
    WholeFault(".snakemake removed", "results/toy/stm/s02/seed0/selected.json", _forget(".snakemake")),
    WholeFault("state removed", "results/toy/stm/s02/seed0/selected.json", _forget("state", ".snakemake")),
    WholeFault("the follower killed", "mlflow.db", _kill_named("--follow"), mlflow=True),
    WholeFault("the MLflow database is garbage", "mlflow.db", _garbage, mlflow=True),
)


def torment_whole(study: Study, fault: WholeFault, place: Path) -> Row:
    """Run the study from its data on, with one fault; then again as a person would."""
    began = time.monotonic()
    tortured.copy(study.snapshots["given"], place)
    with _start(place, mlflow=fault.mlflow) as process:
        while process.poll() is None and not any(place.glob(fault.when)):
            time.sleep(0.02)
        acted = process.poll() is None
        if acted:
            fault.act(place, process)
        status, output = _ended(process)
    row = _rerun(study, fault, place, status, output)
    if not acted:
        row = Row(fault.name, fault=f"nothing was disturbed: {output[-1500:]}")
    _cut_power(place, process)  # a job that outlived its workflow, a follower
    return Row(**(vars(row) | {"took_s": time.monotonic() - began}))


def _rerun(study: Study, fault: WholeFault, place: Path, status: int, output: str) -> Row:
    first, followed, reruns = f"snakemake ended with {status}", [], 0
    while status and reruns < 4:
        reruns += 1
        _settle(place)
        if re.search(r"--unlock", output):
            followed.append("unlock")
            subprocess.run([*COMMAND[:-2], "--unlock"], cwd=place, capture_output=True, check=False)
        else:
            followed.append("rerun")
        status, output = _run(place, mlflow=fault.mlflow)
    row = Row(fault.name, first=first, reruns=reruns, followed=", ".join(followed))
    logs = "".join(path.read_text(errors="replace") for path in (place / "logs").rglob("*.log"))
    if status:
        return Row(**(vars(row) | {"fault": f"it does not heal: {output[-1500:]}"}))
    if "Traceback (most recent" in logs and not fault.mlflow:
        return Row(**(vars(row) | {"fault": "a log shows a traceback: " + logs[logs.index("Traceback") :][:1500]}))
    different = tortured.difference(study.outcome, tortured.outcome(place))
    return Row(**(vars(row) | {"fault": f"other results without a word: {different}" if different else ""}))


def _settle(folder: Path) -> None:
    """Wait until the jobs of an ended workflow have ended too, as a person who rereads the message does."""
    deadline = time.monotonic() + 15
    while _members(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
