"""What every job of a study costs: wall time, device hours and disk.

Times follow from measured rates, or, where a person says what a device sustains, from counted work; nothing is
guessed. Per job, the first that is known counts: a rate of the machine that is asked for, an estimate, a rate of
another machine. A job without any has no time, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from vosrepro.artifacts import read_json
from vosrepro.errors import DataError
from vosrepro.throughput import Rate, Work, at_objects, frame_identity, machine_name, stage_identity

if TYPE_CHECKING:
    from vosrepro.params import StageParams
    from vosrepro.plan import Entry, Plan, Run, StageNode

#: One mask of 480 x 854 as a palette PNG: the mean of 422 that PML's authors published for DAVIS 2016 val, written
#: by vosrepro.labels.write_labels.
MASK_BYTES = 5400
SELECTION = "selection"
_ALIKE_OBJECTS = 0.25
NOT_MEASURED = "not measured, and its work not counted (vosrepro bench train, infer or work)"
NOT_ESTIMATED = "not measured; its work is counted: --sustained TFLOPS estimates it"


class Extent(NamedTuple):
    """How much there is of a benchmark; `source` says who counted it, and `objects` are those of all videos."""

    videos: int
    frames: int | None
    objects: int
    source: str


class Time(NamedTuple):
    """Seconds of something on `devices` devices (0: it needs none); None with a reason in `basis`."""

    seconds: float | None
    devices: int
    basis: str


@dataclass(frozen=True)
class Known:
    """All that times and sizes follow from.

    Attributes:
        rates: see `vosrepro.throughput.Rates.find`.
        work: see `vosrepro.throughput.load_work`.
        extents: benchmark, or SELECTION, -> how much there is.
        weight_bytes: digest of a stage -> bytes of its network's weights.
        machine: rates of machines whose name contains this come first.
        tflops: what one device sustains, if estimates are wanted.
        gpus: devices at hand.
    """

    rates: Mapping[tuple[str, str], list[Rate]] = field(default_factory=dict)
    work: Mapping[tuple[str, str], list[Work]] = field(default_factory=dict)
    extents: Mapping[str, Extent] = field(default_factory=dict)
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    machine: str | None = None
    tflops: float | None = None
    gpus: int = 1


@dataclass(frozen=True)
class EntryCost:
    """Segmenting and scoring one benchmark with one variant; `frame` is one of its later frames."""

    entry: Entry
    extent: Extent | None
    frame: Time
    infer: Time
    score: Time
    disk_bytes: int | None


@dataclass(frozen=True)
class JobCost:
    """One job of the workflow.

    Attributes:
        name: unique in the study.
        after: names of the jobs that come before it.
        time: of what is known of it; see `complete`.
        complete: whether no part's time is missing.
        disk_bytes: what it leaves; None if not known.
        gflop: counted work of a training sample, if it was counted.
        first_visit_gflop: what is added where the stage's cache holds nothing yet; not in its time.
        entries: of an inference or scoring job.
    """

    kind: Literal["train", "select", "infer", "score"]
    name: str
    method: str
    after: tuple[str, ...]
    time: Time
    complete: bool
    disk_bytes: int | None
    node: StageNode | None = None
    run: Run | None = None
    gflop: float | None = None
    first_visit_gflop: float = 0.0
    entries: tuple[EntryCost, ...] = ()

    @property
    def device_hours(self) -> float | None:
        """Wall time times devices; a CPU that does a device's work counts as one."""
        return None if self.time.seconds is None else self.time.seconds * self.time.devices / 3600


def job_costs(plan: Plan, known: Known) -> tuple[JobCost, ...]:
    """Every training, selection, inference and scoring job of a study, each after those that it waits for."""
    jobs = [_training(plan, node, known) for node in plan.stages]
    for run in plan.runs:
        entries = tuple(_entry(plan, entry, known) for entry in plan.entries_of(run))
        name, before = run.key, tuple(_name(node) for node in run.stages[-1:])
        if run.params.weights != "none":
            jobs.append(_selection(plan, run, known, before))
            before = (f"{name}/select",)
        infer = _sum([e.infer for e in entries])
        disk = [e.disk_bytes for e in entries if e.disk_bytes is not None]
        complete = all(e.infer.seconds is not None for e in entries)
        jobs.append(JobCost("infer", f"{name}/infer", run.method, before, infer, complete,
                            sum(disk) if disk else None, run=run, entries=entries))  # fmt: skip
        scored = [e.score for e in entries if e.entry.benchmark_params.scoring is not None]
        time = _sum(scored) if scored else Time(0.0, 0, "scored by servers only")
        complete = all(score.seconds is not None for score in scored)
        jobs.append(JobCost("score", f"{name}/score", run.method, (f"{name}/infer",), time, complete, 0,
                            run=run, entries=entries))  # fmt: skip
    return tuple(jobs)


def training_bytes(params: StageParams, weight_bytes: int, *, done: int = 0) -> tuple[int, int]:
    """Disk of a training from step `done` on: what it leaves, and what it needs to run.

    The resume state holds the weights, the optimizer's moments and the moving average; while it is written there
    are two. Frozen weights have no moments, so this is the most.
    """
    optimizer = params.optimizer
    moments = 1 if optimizer.name == "sgd" else 2 + optimizer.amsgrad
    state = (1 + moments + (params.average_decay is not None)) * weight_bytes
    checkpoints = sum(step > done for step in params.checkpoint_steps()) * weight_bytes
    return checkpoints + state, checkpoints + 2 * state


# -------------------------------------------------------------------------------------------- jobs


def _name(node: StageNode) -> str:
    return f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}"


def _training(plan: Plan, node: StageNode, known: Known) -> JobCost:
    identity = stage_identity(node.method, node.model, node.params)
    devices = min(known.gpus, plan.study.gpus_per_training)
    recorded = _recorded(node)
    unit = _unit(known, "train", identity, 0.0, devices, recorded=[recorded] if recorded else [])
    samples = node.params.steps * node.params.batch_size
    weights = known.weight_bytes.get(node.digest)
    work, first = (known.work.get((kind, identity)) for kind in ("train", "first-visit"))
    return JobCost(
        "train", _name(node), node.method, (_name(node.parent),) if node.parent else (),
        _times(unit, samples), unit.seconds is not None,
        None if weights is None else training_bytes(node.params, weights)[0],
        node=node, gflop=work[0].gflop if work else None,
        first_visit_gflop=first[0].gflop if first else 0.0,
    )  # fmt: skip


def _selection(plan: Plan, run: Run, known: Known, before: tuple[str, ...]) -> JobCost:
    """The default variant over the held-out videos, once for each checkpoint; its scoring is not counted."""
    count = len(run.stages[-1].params.checkpoint_steps()) if run.stages else 1
    variant, settings = run.method_params.default_variant, run.default_variant_params
    if count > 1:
        identities = [(frame_identity(run.method, plan.study.size, run.model, settings), variant)]
        _, one = _inference(known, identities, known.extents.get(SELECTION), SELECTION)
        time = _times(one, count)
    else:
        time = Time(0.0, 0, "only one set of weights: nothing to choose")
    node = run.stages[-1] if run.stages else None
    return JobCost("select", f"{run.key}/select", run.method, before, time, time.seconds is not None,
                   known.weight_bytes.get(node.digest) if node else None, run=run)  # fmt: skip


def _entry(plan: Plan, entry: Entry, known: Known) -> EntryCost:
    run, size = entry.run, plan.study.size
    default = run.method_params.default_variant
    identities = [
        (frame_identity(run.method, size, run.model, settings), name)
        for name, settings in (
            (entry.variant, entry.variant_params),
            (default, run.default_variant_params),
        )
    ]
    extent = known.extents.get(entry.benchmark)
    frame, infer = _inference(known, identities, extent, entry.benchmark)
    frames = extent.frames if extent else None
    scoring = entry.benchmark_params.scoring
    score = _scoring(known, scoring, extent, entry.benchmark)
    disk = None if frames is None else frames * MASK_BYTES
    return EntryCost(entry, extent, frame, infer, score, disk)


def _inference(
    known: Known, identities: list[tuple[str, str]], extent: Extent | None, benchmark: str
) -> tuple[Time, Time]:
    """A later frame, and all frames of a benchmark; of several identities (with a variant's name) the first known.

    Where nobody knows the objects of a benchmark, its videos have one.
    """
    objects = extent.objects / extent.videos if extent else 1.0
    frame, init = Time(None, 1, NOT_MEASURED), Time(None, 1, NOT_MEASURED)
    for place, (identity, variant) in enumerate(identities):
        init = _unit(known, "init", identity, objects, 1)
        frame = _unit(known, "infer", identity, objects, 1)
        if init.seconds is not None and frame.seconds is not None:
            if place:
                frame = frame._replace(basis=f"{frame.basis}, as variant {variant}")
            break
    if extent is None or extent.frames is None:
        return frame, Time(None, 1, frames_unknown(benchmark))
    if init.seconds is None or frame.seconds is None:
        return frame, frame._replace(seconds=None)
    seconds = extent.videos * init.seconds + (extent.frames - extent.videos) * frame.seconds
    return frame, frame._replace(seconds=seconds)


def _scoring(known: Known, protocol: str | None, extent: Extent | None, benchmark: str) -> Time:
    if protocol is None:
        return Time(0.0, 0, "scored by a server only")
    if extent is None or extent.frames is None:
        return Time(None, 0, frames_unknown(benchmark))
    rates = known.rates.get(("score", protocol), [])
    if not rates:
        return Time(None, 0, f"scoring by {protocol} not measured")
    objects = extent.objects / extent.videos
    seconds = at_objects([(r.objects, 1 / r.samples_per_second) for r in rates], objects)
    return Time(extent.frames * seconds, 0, f"measured on {rates[0].machine}")


def frames_unknown(benchmark: str) -> str:
    """Why something has no time."""
    return f"frames of {benchmark} not known"


# ------------------------------------------------------------------------------------------- times


def _unit(
    known: Known,
    kind: str,
    identity: str,
    objects: float,
    devices: int,
    *,
    recorded: list[Rate] | None = None,
) -> Time:
    """Seconds of one sample or frame."""
    rates = [*(recorded or []), *known.rates.get((kind, identity), [])]
    if known.machine is not None:
        wanted = [rate for rate in rates if known.machine in rate.machine]
        if wanted:
            return _measured(wanted, objects, "")
    work = known.work.get((kind, identity))
    if known.tflops is not None and work:
        points = [(w.objects, w.gflop) for w in work]
        seconds = at_objects(points, objects) / 1000 / known.tflops
        basis = f"estimate at {known.tflops:g} TFLOP/s per device, not measured"
        basis += _for_others(points, objects)
        return Time(seconds / devices, devices, basis)
    if rates:
        other = known.machine or ("the machine estimated for" if known.tflops else "")
        return _measured(rates, objects, f", not on {other}" if other else "")
    return Time(None, devices, NOT_ESTIMATED if work else NOT_MEASURED)


def _measured(rates: list[Rate], objects: float, suffix: str) -> Time:
    """Of the machine that comes first."""
    first = rates[0]
    same = [r for r in rates if (r.machine, r.gpus) == (first.machine, first.gpus)]
    points = [(r.objects, 1 / r.samples_per_second) for r in same]
    basis = f"measured on {first.machine}{suffix}{_for_others(points, objects)}"
    return Time(at_objects(points, objects), max(1, first.gpus), basis)


def _for_others(points: list[tuple[int, float]], objects: float) -> str:
    """What to add where only one number of objects is known, and another is wanted."""
    counts = {count for count, _ in points}
    only = min(counts)
    if len(counts) > 1 or abs(only - objects) < _ALIKE_OBJECTS:
        return ""
    return f", for {only} object{'s' if only > 1 else ''} instead of {objects:.1f}"


def _times(unit: Time, count: int) -> Time:
    return unit._replace(seconds=None if unit.seconds is None else unit.seconds * count)


def _sum(times: list[Time]) -> Time:
    """All that is known; the basis of the first that is."""
    parts = [time for time in times if time.seconds is not None]
    if not parts:
        return times[0]
    main = max(parts, key=lambda time: time.seconds or 0.0)
    return Time(sum(time.seconds or 0.0 for time in parts), main.devices, main.basis)


def _recorded(node: StageNode) -> Rate | None:
    """What this checkout measured when it trained the stage with these parameters."""
    try:
        record = read_json(node.folder / "run.json")
        if record["digest"] != node.digest:
            return None
        gpus = int(record["world_size"]) if record["device"] != "cpu" else 0
        name = machine_name(record["provenance"]["hardware"], gpus=gpus)
        return Rate(float(record["samples_per_second"]), name, gpus)
    except (DataError, KeyError, TypeError, ValueError):
        return None
