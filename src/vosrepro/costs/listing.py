"""The page of `vosrepro plan`: aligned tables whose times carry a mark, marks explained below, and sums; or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vosrepro.base.units import duration, size
from vosrepro.costs.jobs import MASK_BYTES, SELECTION
from vosrepro.costs.schedule import Schedule, ScheduledJob, schedule

if TYPE_CHECKING:
    from vosrepro.costs.jobs import EntryCost, JobCost
    from vosrepro.costs.times import Known, Time
    from vosrepro.study.plan import Entry, Plan

_KINDS = ("train", "select", "infer", "score")
_HOUR = 3600


class Sum(NamedTuple):
    """What is known of some jobs; `unknown` are those of which something is not."""

    jobs: int
    seconds: float
    device_hours: float
    disk_bytes: int
    unknown: int


def add_up(jobs: Iterable[JobCost]) -> Sum:
    """The sum of some jobs."""
    jobs = list(jobs)
    return Sum(
        len(jobs),
        sum(job.time.seconds or 0.0 for job in jobs),
        sum(job.device_hours or 0.0 for job in jobs),
        sum(job.disk_bytes or 0 for job in jobs),
        sum(not job.complete for job in jobs),
    )


def planned(jobs: Sequence[JobCost], devices: int) -> Schedule:
    """The jobs on so many devices; what is not known takes no time."""
    tasks = [ScheduledJob(j.name, j.after, j.time.seconds or 0.0, j.time.devices) for j in jobs]
    return schedule(tasks, devices)


def listing(plan: Plan, jobs: Sequence[JobCost], known: Known) -> str:
    """The page."""
    marks = _Marks()
    trainings = [job for job in jobs if job.kind == "train"]
    lines = [f"{plan.study.study}: {plan.study.title}"]
    lines += ["", f"benchmarks ({len(plan.benchmarks)}):"]
    lines += [f"  {name}: {benchmark.title}" for name, benchmark in plan.benchmarks.items()]
    lines += ["", f"training stages ({len(trainings)}):", *_stages(trainings, marks)]
    lines += _imports(plan)
    lines += ["", f"runs ({len(plan.runs)}):", *_runs(plan, jobs, marks)]
    entries = [entry for job in jobs if job.kind == "infer" for entry in job.entries]
    lines += ["", f"entries ({len(entries)}):", *_entries(entries, marks)]
    lines += ["", "times (a plus: more, which is not known):", *marks.lines()]
    if known.tflops is not None:
        lines.append("  estimates take one rate for everything; frames one by one and small networks rarely sustain it")
    if any(job.first_visit_gflop for job in jobs):
        lines.append("  +N GFLOP/sample: where a stage's cache holds nothing of a sample yet; not in the times")
    lines += ["", "frames:", *_extents(known, entries)]
    lines += ["", *_sums(jobs), "", *_walls(jobs, known)]
    return "\n".join(line.rstrip() for line in lines)


def published_listing(plan: Plan) -> str:
    """The parameters of every training beside the published ones, a table for each recipe."""
    from vosrepro.study.training_table import compare_training

    lines: list[str] = []
    for run in {(run.method, run.recipe): run for run in plan.runs}.values():
        rows: list[Sequence[str]] = [("stage", "parameter", "published", "ours", "", "source")]
        for row in compare_training(plan.study, run):
            source = f"{row.published.source} ({row.published.note})" if row.published.note else row.published.source
            cells = (row.stage, row.published.parameter, row.published_shown, row.ours_shown, row.verdict, source)
            rows.append(cells)
        if len(rows) > 1:
            lines += [f"{run.method}/{run.recipe}: {run.params.title}", *_table(rows, left=tuple(range(6))), ""]
    return "\n".join(line.rstrip() for line in lines)


def deviations_listing(plan: Plan) -> str:
    """What differs from the published training, below each recipe that has published numbers; "≠" may move a score."""
    from vosrepro.study.published import load_published
    from vosrepro.study.training_table import named_deviations

    published = {key[:4] for key in load_published()}
    rows: dict[tuple[str, str], list[str]] = {}
    for entry in plan.entries:
        if entry.published_name in published:
            found = rows.setdefault((entry.run.method, entry.run.recipe), [])
            found += [] if (name := f"{entry.variant}/{entry.benchmark}") in found else [name]
    lines: list[str] = []
    for run in {(run.method, run.recipe): run for run in plan.runs}.values():
        if named := rows.get((run.method, run.recipe)):
            texts = [f"  {'≠' if moves else '·'} {text}" for text, moves in named_deviations(plan.study, run)]
            lines += [f"{run.method}/{run.recipe}: {', '.join(named)}", *(texts or ["  none that parameters show"])]
    return "\n".join(lines)


class _Marks:
    """A letter for each basis of a time."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def __call__(self, time: Time) -> str:
        """A time with the mark of its basis."""
        letter = self._letters.setdefault(time.basis, _letter(len(self._letters)))
        return f"{duration(time.seconds)} {letter}"

    def lines(self) -> list[str]:
        """What the letters mean."""
        return [f"  {letter}  {basis}" for basis, letter in self._letters.items()]


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) * (1 + number // 26)


# ------------------------------------------------------------------------------------------ tables


def _stages(jobs: Sequence[JobCost], marks: _Marks) -> list[str]:
    rows: list[Sequence[str]] = [
        ("stage", "steps", "batch", "GFLOP/sample", "wall", "device-h", "disk", "from", "data")
    ]
    for job in jobs:
        node = job.node
        assert node is not None
        begin = f"{node.parent.recipe}/{node.parent.stage}" if node.parent else "-"
        data = ", ".join(f"{s.set} x{s.repeat}" for s in node.params.data)
        rows.append(
            (
                job.name,
                str(node.params.steps),
                str(node.params.batch_size),
                _work(job),
                marks(job.time),
                _hours(job.device_hours),
                size(job.disk_bytes),
                begin,
                data,
            )
        )
    return _table(rows, left=(0, 7, 8))


def _work(job: JobCost) -> str:
    """Counted work of a sample, and what a first visit adds."""
    more = f" +{job.first_visit_gflop:.0f}" if job.first_visit_gflop else ""
    return "-" if job.gflop is None else f"{job.gflop:.0f}{more}"


def _imports(plan: Plan) -> list[str]:
    from vosrepro.weights.released import load_released

    imported = [run for run in plan.runs if run.params.weights == "imported"]
    if not imported:
        return []
    released, lines = load_released(), ["", f"imported weights ({len(imported)}):"]
    for run in imported:
        file = released.file(run.method, run.recipe)
        name = file.file if file else "unknown file"
        lines.append(f"  weights/{run.method}/{run.recipe}.pth: {name}")
    return lines


def _runs(plan: Plan, jobs: Sequence[JobCost], marks: _Marks) -> list[str]:
    table = {job.name: job for job in jobs}
    rows: list[Sequence[str]] = [("run", "select", "infer", "score", "device-h", "disk")]
    for run in plan.runs:
        found = [table.get(f"{run.key}/{kind}") for kind in ("select", "infer", "score")]
        total = add_up(job for job in found if job is not None)
        cells = ["-" if job is None else _least(job, marks) for job in found]
        device = [job for job in found[:2] if job is not None]
        rows.append((run.key, *cells, _hours_of(device), size(total.disk_bytes)))
    return _table(rows, left=(0,))


def _least(job: JobCost, marks: _Marks) -> str:
    """A job's time; behind "+" if parts of it are not known."""
    return marks(job.time) + ("" if job.complete or job.time.seconds is None else "+")


def _entries(entries: Sequence[EntryCost], marks: _Marks) -> list[str]:
    rows: list[Sequence[str]] = [("entry", "at", "of", "frames", "a frame", "infer", "score", "masks", "scored by")]
    for cost in entries:
        frames = cost.extent.frames if cost.extent else None
        scoring = cost.entry.benchmark_params.scoring
        rows.append(
            (
                cost.entry.key,
                _size_of(cost.entry),
                f"{cost.entry.benchmark_params.frame_source} frames",
                "-" if frames is None else str(frames),
                marks(cost.frame),
                marks(cost.infer),
                marks(cost.score) if scoring else "-",
                size(cost.disk_bytes),
                scoring or "server only",
            )
        )
    return _table(rows, left=(0, 1, 2, 8))


def _size_of(entry: Entry) -> str:
    """The size at which frames, or crops of single images, reach the network."""
    params = entry.benchmark_params
    if entry.crop_px:
        return f"crop {entry.crop_px}"
    if entry.input_short_side_px:
        return f"short side {entry.input_short_side_px}"
    return f"within {params.fit_px[0]} x {params.fit_px[1]}" if params.fit_px else "native"


def _extents(known: Known, entries: Sequence[EntryCost]) -> list[str]:
    """Where numbers of frames come from, and how to give those that lack."""
    names = [SELECTION, *dict.fromkeys(cost.entry.benchmark for cost in entries)]
    lines, lacking = [], []
    for name in names:
        extent = known.extents.get(name)
        if extent is None or extent.frames is None:
            lacking.append(name)
        else:
            lines.append(
                f"  {name}: {extent.frames} frames of {extent.videos} videos, {extent.objects} objects "
                f"({extent.source})"
            )
    if lacking:
        lines.append(f"  not known without the data, or --frames: frames of {', '.join(lacking)}")
    return lines


def _sums(jobs: Sequence[JobCost]) -> list[str]:
    rows: list[Sequence[str]] = [("device hours", *_KINDS, "all", "disk", "jobs", "without time")]
    methods = list(dict.fromkeys(job.method for job in jobs))
    for name in (*methods, "all"):
        mine = [job for job in jobs if name in (job.method, "all")]
        cells = [_hours_of([job for job in mine if job.kind == kind]) for kind in _KINDS]
        total = add_up(mine)
        rows.append((name, *cells, _hours_of(mine), size(total.disk_bytes), str(total.jobs), str(total.unknown)))
    return _table(rows, left=(0,), indent="")


def _hours_of(jobs: Sequence[JobCost]) -> str:
    """Device hours; scoring needs no device and counts as hours of a core."""
    if not any(job.time.seconds is not None for job in jobs):
        return "-" if not jobs else "?"
    hours = add_up(jobs).device_hours
    if all(job.kind == "score" for job in jobs):
        hours = add_up(jobs).seconds / _HOUR
    return f"{hours:.1f}" + ("" if all(job.complete for job in jobs) else "+")


def _walls(jobs: Sequence[JobCost], known: Known) -> list[str]:
    total = add_up(jobs)
    devices = f"{known.gpus} device{'s' if known.gpus > 1 else ''}"
    lines = [
        f"disk: {size(total.disk_bytes)} of checkpoints, resume states and masks (about "
        f"{MASK_BYTES} bytes a mask of 480 x 854); data and caches not counted",
        "hours of scoring are those of one core, which no device waits for",
    ]
    if total.seconds == 0:
        return [*lines, "time: nothing of it is measured; --sustained TFLOPS estimates it from counted work"]
    plan = planned(jobs, known.gpus)
    lines.append(f"longest chain: {duration(plan.chain_seconds)}: {' > '.join(plan.chain)}")
    lines.append(f"wall time on {devices}: {duration(plan.wall_seconds)}, jobs with the longest chain first")
    if total.unknown:
        lines.append(f"of {total.unknown} of {total.jobs} jobs something is not known; it counts as nothing above")
    return lines


def _table(rows: Sequence[Sequence[str]], *, left: tuple[int, ...], indent: str = "  ") -> list[str]:
    """Columns as wide as their longest cell."""
    if len(rows) < 2:
        return [f"{indent}none"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    sides: list[Callable[[str, int], str]] = [str.ljust if i in left else str.rjust for i in range(len(widths))]
    return [indent + "  ".join(side(cell, w) for side, cell, w in zip(sides, row, widths, strict=True)) for row in rows]


def _hours(hours: float | None) -> str:
    return "?" if hours is None else f"{hours:.1f}"


# -------------------------------------------------------------------------------------------- JSON


def as_json(plan: Plan, jobs: Sequence[JobCost], known: Known) -> str:
    """Jobs, entries, sums and the schedule as one object; times in seconds, sizes in bytes, null if not known."""
    result = planned(jobs, known.gpus)
    groups = {
        "by_method": {m: [j for j in jobs if j.method == m] for m in plan.methods},
        "by_kind": {k: [j for j in jobs if j.kind == k] for k in _KINDS},
        "all": {"jobs": list(jobs)},
    }
    value = {
        "study": plan.study.study,
        "devices": known.gpus,
        "sustained_tflops": known.tflops,
        "machine": known.machine,
        "extents": {name: extent._asdict() for name, extent in known.extents.items()},
        "jobs": [_job(job) for job in jobs],
        "sums": {
            group: {name: add_up(found)._asdict() for name, found in members.items()}
            for group, members in groups.items()
        },
        "longest_chain": {"jobs": result.chain, "seconds": result.chain_seconds},
        "wall_seconds": result.wall_seconds,
    }
    return json.dumps(value, indent=1)


def _job(job: JobCost) -> dict[str, Any]:
    found = {
        "kind": job.kind,
        "name": job.name,
        "method": job.method,
        "after": job.after,
        **job.time._asdict(),
        "complete": job.complete,
        "device_hours": job.device_hours,
        "disk_bytes": job.disk_bytes,
    }
    if job.node is not None:
        params = job.node.params
        found |= {
            "samples": params.steps * params.batch_size,
            "gflop_per_sample": job.gflop,
            "gflop_of_first_visit": job.first_visit_gflop,
        }
    if job.kind == "infer":
        found["entries"] = [
            {
                "entry": cost.entry.key,
                "input_short_side_px": cost.entry.input_short_side_px,
                "frame_source": cost.entry.benchmark_params.frame_source,
                "frames": cost.extent.frames if cost.extent else None,
                "frame": cost.frame._asdict(),
                "infer": cost.infer._asdict(),
                "score": cost.score._asdict(),
                "disk_bytes": cost.disk_bytes,
            }
            for cost in job.entries
        ]
    return found
