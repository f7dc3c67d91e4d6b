r"""Time the scorer against other scorers, whole processes, on the same files, and compare their numbers.

  vosrepro bench score --truth truth/
  vosrepro bench score --truth truth/ --results masks/ --vs vos-benchmark=~/vos-benchmark \
      --vs davis2017-evaluation=~/davis2017-evaluation --python ~/venv/bin/python

TRUTH is a folder of annotations by sequence. Two workloads are made from it in a temporary folder: "one",
all labels merged to one object, and "several", the same masks cut into 2 to 4 vertical bands. RESULTS
defaults to shifted and roughened copies of the annotations. Each round runs every program once, in turn,
as a fresh process: start-up, imports, PNG decoding and tables included. Printed are the smallest CPU time
(user + system, children included), the wall time and peak memory of that run, and the ratio of CPU times
to ours. The programs' global J and F must agree to 1e-9, or to what they print. The floor is the time
to read and inflate the same PNGs, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vosrepro.base.errors import ConfigError, VosreproError
from vosrepro.base.labels import write_labels
from vosrepro.base.machine import peak_rss_mb
from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.scoring.counting.trees import Tree, open_tree

FOREIGN = ("vos-benchmark", "davis2017-evaluation", "sam2")


class Usage(NamedTuple):
    """What one run of a program took, and what it found."""

    cpu_s: float
    wall_s: float
    rss_mb: float
    j: float
    f: float


class Program(NamedTuple):
    """A scorer: the command, and how its global J and F (0..1) are read from what it printed."""

    name: str
    command: list[str]
    folder: Path | None
    read: Callable[[str], tuple[float, float]]
    tolerance: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vosrepro bench score`."""
    add = parser.add_argument
    add("--truth", metavar="DIR", type=SourcePath, required=True, help="annotations by sequence")
    add("--results", metavar="DIR", type=SourcePath, help="masks to score (default: made from the truth)")
    add(
        "--vs",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help=f"a checkout of another scorer: {', '.join(FOREIGN)}",
    )
    add("--python", default=sys.executable, help="interpreter for the others (default: this one)")
    add("--rounds", type=int, default=3, help="runs of each program (default: %(default)s)")
    add("--repeat", type=int, default=1, help="copies of the sequences, for longer runs (default: %(default)s)")
    add(
        "--processes",
        metavar="N",
        type=int,
        nargs="*",
        default=[1, 2],
        help="numbers of processes to time ours with (default: 1 2)",
    )
    add("--json", metavar="FILE", type=TargetPath, help="also write the figures here")


def run(args: argparse.Namespace) -> int:
    """Make the workloads, time all programs in turn, print the table."""
    others = dict(_foreign(value) for value in args.vs)
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="vosrepro-bench-") as scratch:
        for workload in ("one", "several"):
            root = Path(scratch) / workload
            frames = make_workload(args.truth, args.results, root, workload, args.repeat)
            programs = _programs(root, others, args.python, args.processes)
            usages = _rounds(programs, args.rounds)
            floor = _floor(root, args.rounds)
            _compare(programs, usages)
            print(_table(workload, frames, programs, usages, floor), flush=True)
            report[workload] = {
                "frames": frames,
                "floor_cpu_s": floor,
                "programs": {p.name: usages[p.name]._asdict() for p in programs},
            }
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def make_workload(truth: Path, results: Path | None, root: Path, workload: str, repeat: int) -> int:
    """Write root/gt, root/pred and a DAVIS-like tree root/DAVIS around them.

    Returns:
        Number of annotated frames.
    """
    source = open_tree(truth)
    masks = None if results is None else open_tree(results)
    frames = 0
    names = []
    for number, sequence in enumerate(source.folders()):
        stems = source.frames(sequence)
        if masks is not None and not masks.frames(sequence):
            continue
        for copy in range(repeat):
            name = sequence if copy == 0 else f"{sequence}-{copy}"
            names.append(name)
            bands = 1 if workload == "one" else 2 + number % 3
            for index, stem in enumerate(stems):
                gt = source.image(sequence, stem).array() > 0
                if masks is None:
                    pred = _roughened(gt, index)
                else:
                    pred = masks.image(sequence, stem).array() > 0
                cut = _bands(gt, bands)
                write_labels(root / "gt" / name / f"{stem}.png", gt * cut, compress_level=6)
                write_labels(root / "pred" / name / f"{stem}.png", pred * cut, compress_level=6)
                frames += 1
    _davis_tree(root, names)
    return frames


def _roughened(mask: np.ndarray, index: int) -> np.ndarray:
    """A deterministic imperfect prediction: shifted by a few pixels, with a ragged edge."""
    moved = np.roll(mask, ((index * 3) % 7 - 3, (index * 5) % 9 - 4), axis=(0, 1))
    noise = np.random.default_rng(index).random(mask.shape) < 0.002
    return (moved | (noise & np.roll(moved, 3, axis=1))) & ~(noise & ~np.roll(moved, 2, axis=0))


def _bands(mask: np.ndarray, count: int) -> np.ndarray:
    """Object number of each column, uint8 (1, W): `count` equal bands over the mask's width."""
    columns = np.flatnonzero(mask.any(axis=0))
    left, right = (columns[0], columns[-1] + 1) if columns.size else (0, mask.shape[1])
    position = (np.arange(mask.shape[1]) - left) * count // max(1, right - left)
    return (np.clip(position, 0, count - 1) + 1).astype(np.uint8)[None]


def _davis_tree(root: Path, names: list[str]) -> None:
    """What the official tool wants: lists, and an image beside each annotation (never opened)."""
    (root / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (root / "DAVIS/ImageSets/2017/val.txt").write_text("\n".join(names) + "\n")
    (root / "DAVIS/Annotations").mkdir()
    (root / "DAVIS/Annotations/480p").symlink_to((root / "gt").resolve())
    for name in names:
        folder = root / "DAVIS/JPEGImages/480p" / name
        folder.mkdir(parents=True)
        for path in (root / "gt" / name).iterdir():
            (folder / f"{path.stem}.jpg").touch()


def _foreign(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    folder = Path(path).expanduser()
    if name not in FOREIGN or not path:
        raise ConfigError(f"--vs {value}: give NAME=PATH with NAME one of {', '.join(FOREIGN)}")
    if not folder.is_dir():
        raise ConfigError(f"--vs {value}: {folder} is not a folder: give a checkout of {name}")
    return name, folder.resolve()


def _programs(root: Path, others: dict[str, Path], python: str, processes: list[int]) -> list[Program]:
    gt, pred = str(root / "gt"), str(root / "pred")
    ours = [sys.executable, "-m", "vosrepro.cli", "score", pred, "--truth", gt]
    programs = [
        Program(
            f"vosrepro, {n} process{'es' * (n > 1)}",
            [*ours, "--protocol", "davis2017", "--json", "--processes", str(n)],
            None,
            _read_ours,
            1e-9,
        )
        for n in processes
    ]
    for name, folder in others.items():
        if name == "davis2017-evaluation":
            command = [
                python,
                "evaluation_method.py",
                "--task",
                "semi-supervised",
                "--results_path",
                pred,
                "--davis_path",
                str(root / "DAVIS"),
            ]
            programs.append(Program(name, command, folder, _read_official, 5.1e-4))
        elif name == "vos-benchmark":
            command = [python, "-c", _VOS_BENCHMARK, gt, pred]
            programs.append(Program(name, command, folder, _read_exact, 1e-9))
        else:
            command = [python, "-c", _SAM2, gt, pred]
            programs.append(Program(name, command, folder / "sav_dataset", _read_exact, 1e-9))
    return programs


_VOS_BENCHMARK = """
import sys
from vos_benchmark.benchmark import benchmark
jf, j, f, _ = benchmark([sys.argv[1]], [sys.argv[2]], True, 1, verbose=False)
print("RESULT", repr(float(j[0]) / 100), repr(float(f[0]) / 100))
"""
_SAM2 = _VOS_BENCHMARK.replace("vos_benchmark.benchmark", "utils.sav_benchmark")


def _read_ours(text: str) -> tuple[float, float]:
    values = json.loads(text)["global"]
    return values["J-Mean"], values["F-Mean"]


def _read_exact(text: str) -> tuple[float, float]:
    _, j, f = next(line for line in text.splitlines() if line.startswith("RESULT")).split()
    return float(j), float(f)


def _read_official(text: str) -> tuple[float, float]:
    lines = text.splitlines()
    row = next(i for i, line in enumerate(lines) if "J&F-Mean" in line)
    values = [float(v) for v in re.findall(r"-?[\d.]+", lines[row + 1])]
    return values[1], values[4]


def _rounds(programs: list[Program], rounds: int) -> dict[str, Usage]:
    """The run of least CPU time of each program; one after the other, so that all meet the same load."""
    best: dict[str, Usage] = {}
    for _ in range(rounds):
        for program in programs:
            usage = _timed(program)
            if program.name not in best or usage.cpu_s < best[program.name].cpu_s:
                best[program.name] = usage
    return best


def _timed(program: Program) -> Usage:
    _forget_results(program)
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        child = subprocess.Popen(program.command, cwd=program.folder, stdout=out, stderr=subprocess.PIPE)
        assert child.stderr is not None
        errors = child.stderr.read().decode(errors="replace")
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode:
        raise ConfigError(f"{program.name} failed with exit code {child.returncode}: {errors.strip()[-500:]}")
    j, f = program.read(text)
    return Usage(used.ru_utime + used.ru_stime, wall, peak_rss_mb(used), j, f)


def _forget_results(program: Program) -> None:
    """The official tool would print the tables of its last run instead of scoring."""
    for argument in program.command:
        if argument.endswith("/pred"):
            for path in Path(argument).glob("*.csv"):
                path.unlink()


def _floor(root: Path, rounds: int) -> float:
    """CPU seconds to read and inflate all scored PNGs, without start-up."""
    from vosrepro.scoring.counting.png import image_data, inflate

    trees: list[Tree] = [open_tree(root / "gt"), open_tree(root / "pred")]
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for tree in trees:
            for sequence in tree.folders():
                for frame in tree.frames(sequence)[1:-1]:
                    inflate(*image_data(tree.data(sequence, frame)))
        best = min(best, time.process_time() - started)
    return best


def _compare(programs: list[Program], usages: dict[str, Usage]) -> None:
    ours = usages[programs[0].name]
    for program in programs:
        other = usages[program.name]
        if max(abs(ours.j - other.j), abs(ours.f - other.f)) > program.tolerance:
            raise VosreproError(
                f"{program.name} finds J {other.j} and F {other.f}, we find J {ours.j} and F {ours.f}: "
                "one of the two is wrong"
            )


def _table(workload: str, frames: int, programs: list[Program], usages: dict[str, Usage], floor: float) -> str:
    ours = usages[programs[0].name]
    width = max(len(program.name) for program in programs)
    lines = [
        f"workload '{workload}': {frames} annotated frames, J {ours.j:.6f}, F {ours.f:.6f}, all agree",
        f"  {'':<{width}}  CPU s  wall s  peak MB  CPU / ours",
    ]
    for program in programs:
        u = usages[program.name]
        lines.append(
            f"  {program.name:<{width}}  {u.cpu_s:5.2f}  {u.wall_s:6.2f}  {u.rss_mb:7.0f}  {u.cpu_s / ours.cpu_s:10.1f}"
        )
    lines.append(f"  {'floor: read + inflate':<{width}}  {floor:5.2f}")
    return "\n".join(lines) + "\n"
