"""What every job of a study costs: wall time, device hours and disk.

Times follow from measured rates, or, where a person says what a device sustains, from counted work; nothing is
guessed. Per job, the first that is known counts: a rate of the machine that is asked for, an estimate, a rate of
another machine. A job without any has no time, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vosrepro.base.errors import DataError
from vosrepro.costs.rates import Rate, at_objects, frame_identity, machine_name, sample_identity
from vosrepro.costs.times import NOT_MEASURED, Extent, Known, Time, times, total, unit_time
from vosrepro.study.records import StageRecord

if TYPE_CHECKING:
    from vosrepro.study.params import StageParams
    from vosrepro.study.plan import Entry, Plan, Run, StageNode

#: One mask of 480 x 854 as a palette PNG: the mean of 422 that PML's authors published for DAVIS 2016 val, written
#: by vosrepro.base.labels.write_labels.
MASK_BYTES = 5400
SELECTION = "selection"


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
        if run.selected_weights is not None:
            jobs.append(_selection(plan, run, known, before))
            before = (f"{name}/select",)
        infer = total([e.infer for e in entries])
        disk = [e.disk_bytes for e in entries if e.disk_bytes is not None]
        complete = all(e.infer.seconds is not None for e in entries)
        jobs.append(
            JobCost(
                "infer",
                f"{name}/infer",
                run.method,
                before,
                infer,
                complete,
                sum(disk) if disk else None,
                run=run,
                entries=entries,
            )
        )
        scored = [e.score for e in entries if e.entry.benchmark_params.scoring is not None]
        time = total(scored) if scored else Time(0.0, 0, "scored by servers only")
        complete = all(score.seconds is not None for score in scored)
        jobs.append(
            JobCost(
                "score", f"{name}/score", run.method, (f"{name}/infer",), time, complete, 0, run=run, entries=entries
            )
        )
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
    identity = sample_identity(node.method, node.model, node.params)
    devices = min(known.gpus, plan.study.gpus_per_training)
    recorded = _recorded(node)
    unit = unit_time(known, "train", identity, 0.0, devices, recorded=[recorded] if recorded else [])
    samples = node.params.steps * node.params.batch_size
    weights = known.weight_bytes.get(node.digest)
    work, first = (known.work.get((kind, identity)) for kind in ("train", "first-visit"))
    return JobCost(
        "train",
        _name(node),
        node.method,
        (_name(node.parent),) if node.parent else (),
        times(unit, samples),
        unit.seconds is not None,
        None if weights is None else training_bytes(node.params, weights)[0],
        node=node,
        gflop=work[0].gflop if work else None,
        first_visit_gflop=first[0].gflop if first else 0.0,
    )


def _selection(plan: Plan, run: Run, known: Known, before: tuple[str, ...]) -> JobCost:
    """The default variant over the held-out videos, once for each checkpoint; its scoring is not counted."""
    count = len(run.candidate_steps) or 1
    variant, settings = run.method_params.default_variant, run.default_variant_params
    if count > 1:
        identities = [(frame_identity(run.method, plan.study.size, run.model, settings), variant)]
        _, one = _inference(known, identities, known.extents.get(SELECTION), SELECTION)
        time = times(one, count)
    else:
        time = Time(0.0, 0, "only one set of weights: nothing to choose")
    node = run.stages[-1] if run.stages else None
    return JobCost(
        "select",
        f"{run.key}/select",
        run.method,
        before,
        time,
        time.seconds is not None,
        known.weight_bytes.get(node.digest) if node else None,
        run=run,
    )


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
    if run.params.weights == "masks":
        frame = infer = Time(0.0, 0, "masks that others published: nothing is computed")
    else:
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
        init = unit_time(known, "init", identity, objects, 1)
        frame = unit_time(known, "infer", identity, objects, 1)
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


def _recorded(node: StageNode) -> Rate | None:
    """What this checkout measured when it trained the stage with these parameters."""
    try:
        record = StageRecord.read(node.record)
    except DataError:
        return None
    hardware = record.provenance.hardware
    if record.digest != node.digest or record.samples_per_second is None or not hardware.name:
        return None
    gpus = record.world_size if record.device != "cpu" else 0
    return Rate(record.samples_per_second, machine_name(hardware.model_dump(), gpus=gpus), gpus)
