"""Everything that a GPU should do, in minutes: accuracy, speed, training, a small study; against the goals.

  vosrepro bench gpu-check                        on a CUDA device (make gpu-check)
  vosrepro bench gpu-check --device cpu --small   that all parts run, on any machine

What the parts are stands in params/gpu_check.yaml. Each is timed alone and in a process of its own; one that fails or
takes too long is a line of the table, and the next one begins. Beside the table, check.json holds every command with
what it printed, and throughput.csv rows for params/throughput.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DeviceError
from vosrepro.base.files import write_json, write_text
from vosrepro.base.machine import hardware
from vosrepro.base.targets import Place, SourcePath
from vosrepro.study.params import Positive, Strict, load
from vosrepro.study.paths import REPORTS

PARTS = Path("params/gpu_check.yaml")


class GpuCheck(Strict):
    """One command.

    Attributes:
        name: what the table calls it.
        command: of vosrepro, or a `snakemake`.
        figure: path of the number that counts in the printed JSON, e.g. "optimized.fps_steady".
        goal: the least that it should be.
        limit_s: after so long it is given up.
        devices: that it needs.
    """

    name: str
    command: str
    figure: str | None = None
    goal: float | None = None
    limit_s: Positive = 60
    devices: Positive = 1


class GpuChecks(Strict):
    """params/gpu_check.yaml."""

    full: tuple[GpuCheck, ...]
    small: tuple[GpuCheck, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and how much."""
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="small networks and few parts")
    parser.add_argument("--parts", type=SourcePath, default=str(PARTS), help="default: %(default)s")
    parser.add_argument("--out", type=Place, default=str(REPORTS / "gpu-check"), help="folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run all parts; 1 if one of them did not end well.

    Raises:
        DeviceError: if there is no CUDA device.
    """
    devices = _devices(args.device)
    parts = load(args.parts, GpuChecks)
    chosen, out = parts.small if args.small else parts.full, Path(args.out)
    (out / "throughput.csv").unlink(missing_ok=True)
    found = []
    for part in chosen:
        found.append(outcome(part, args.device, out, devices))
        print(line(found[-1], max(len(each.name) for each in chosen)), flush=True)
    seconds = sum(each["seconds"] for each in found)
    table = "\n".join(line(each, max(len(part.name) for part in chosen)) for each in found)
    write_json(out / "check.json", {"hardware": hardware(), "device": args.device, "seconds": seconds, "parts": found})
    write_text(out / "check.txt", table + "\n")
    failed = sum(each["status"] == "failed" for each in found)
    print(f"{len(found)} parts in {seconds:.0f} s, {failed} failed; all of it is in {out / 'check.json'}")
    return int(failed > 0)


def outcome(part: GpuCheck, device: str, out: Path, devices: int) -> dict[str, Any]:
    """What became of a part: "status" is "met", "missed", "done", "left out" or "failed", "why" says more."""
    facts: dict[str, Any] = {"name": part.name, "goal": part.goal, "figure": None, "why": "", "seconds": 0.0}
    if devices < part.devices:
        return facts | {"status": "left out", "why": f"it needs {part.devices} devices, and there is {devices}"}
    command = words(part.command, device, out)
    began = time.monotonic()
    status, said, errors = _run(command, part.limit_s)
    facts |= {"seconds": round(time.monotonic() - began, 2), "command": shlex.join(command)}
    if status is None:
        return facts | {"status": "failed", "why": f"it did not end within {part.limit_s} s"}
    if status:
        return facts | {"status": "failed", "why": _last_line(errors or said) or f"it ended with {status}"}
    if part.figure is None:
        return facts | {"status": "done"}
    try:
        printed = json.loads(said)
        figure = _pick(printed, part.figure)
    except (ValueError, KeyError, TypeError):
        return facts | {"status": "failed", "why": f"its output has no number {part.figure}"}
    word = "done" if part.goal is None else "met" if figure >= part.goal else "missed"
    return facts | {"status": word, "figure": figure, "printed": printed}


def words(command: str, device: str, out: Path) -> list[str]:
    """A part's command as arguments of a process."""
    name, *rest = (w.replace("{device}", device).replace("{out}", str(out)) for w in shlex.split(command))
    if name == "snakemake":
        return [str(Path(sys.executable).with_name(name)), *rest]
    return [sys.executable, "-m", "vosrepro.cli", name, *rest]


def line(found: Mapping[str, Any], width: int) -> str:
    """A row of the table."""
    figure = "" if found["figure"] is None else f"{found['figure']:.4g}"
    goal = "" if found["goal"] is None else f"of {found['goal']:g}"
    row = f"{found['name']:<{width}}  {found['seconds']:>6.1f} s  {found['status']:<8}  {figure:>8}  {goal:<8}"
    return f"{row}{_of_memory(found)}{found['why']}".rstrip()


def _of_memory(found: Mapping[str, Any]) -> str:
    memory = found.get("printed", {}).get("optimized", {}).get("peak_gpu_allocated_mb")
    return f"  {memory:.0f} MB of the device" if memory else ""


def _run(command: Sequence[str], limit_s: float) -> tuple[int | None, str, str]:
    """Status (None: it was stopped at the limit), output and errors of a process with all that it started."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **pipes) as process:
        try:
            said, errors = process.communicate(timeout=limit_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return None, "", ""
            raise
        return process.returncode, said, errors


def _devices(device: str) -> int:
    """How many devices there are.

    Raises:
        DeviceError: if none.
    """
    if device == "cpu":
        return 1
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise DeviceError("no CUDA device is to be seen: check nvidia-smi, or try the parts with --device cpu --small")
    return count


def _last_line(text: str) -> str:
    return next((row.strip() for row in reversed(text.splitlines()) if row.strip()), "")[:300]


def _pick(value: Any, path: str) -> float:
    for key in path.split("."):
        value = value[key]
    return float(value)
