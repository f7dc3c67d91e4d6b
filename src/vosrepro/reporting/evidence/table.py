"""The one table from which the pages, results/<study>/metrics.json and the CSV files are rendered.

A row is a method / recipe / variant on a benchmark; its seeds are pooled. Scores are in points (0..100).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from vosrepro.reporting.evidence.costs import Hours, training_cost, training_hours
from vosrepro.reporting.evidence.deviations import Deviation, blocking, find_deviations, part_of, videos_of
from vosrepro.reporting.evidence.evidence import EntryEvidence, Evidence
from vosrepro.reporting.evidence.frames import FrameCheck, check_published_frames, means_over, with_mean_of_both
from vosrepro.reporting.evidence.intervals import over_images, over_sequences
from vosrepro.reporting.evidence.verdicts import Origin, Verdict, adjusted, judge_number, sum_up, with_frames
from vosrepro.scoring.classification import METRICS
from vosrepro.scoring.statistics import Interval, summarize_runs
from vosrepro.study.params import BenchmarkParams
from vosrepro.study.plan import Plan
from vosrepro.study.published import Key, Published, PublishedFrames, PublishedMasks

#: Metrics in the order of the report's columns.
DAVIS_METRICS = ("J&F-Mean", "J-Mean", "F-Mean", "J-Recall", "F-Recall", "J-Decay", "F-Decay")
#: Timing protocol of the speed column: total frames / total seconds, first frame included.
SPEED = "fps_amortised"
#: The same of a benchmark of single images: images / seconds of the network.
IMAGE_SPEED = "images_per_second"


@dataclass(frozen=True)
class Cell:
    """One metric of one row, in points (frames or single images per second for "FPS").

    Attributes:
        seeds: value by seed; empty when nothing was measured.
        over_seeds: 90 % t interval of the mean, fixed benchmark; needs two seeds.
        over_sequences: 95 % interval, weights fixed: bootstrap over sequences, or Wilson's over single images.
        published: the number in the paper, if any.
        verdict: None where there is nothing to compare (no published number).
    """

    metric: str
    seeds: Mapping[int, float]
    over_seeds: Interval | None = None
    over_sequences: Interval | None = None
    published: Published | None = None
    verdict: Verdict | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return sum(self.seeds.values()) / len(self.seeds) if self.seeds else None

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        if self.mean is None or self.published is None:
            return None
        return self.mean - self.published.value


@dataclass(frozen=True)
class Cost:
    """What a row cost: the training of its whole chain, and its inference.

    Attributes:
        train_seconds: wall time of all stages, mean over seeds; None if unknown or untrained.
        train_memory_mb: largest peak of the stages.
        infer_memory_mb: peak of inference.
        devices: where training and inference ran.
    """

    train_seconds: float | None
    train_memory_mb: float | None
    infer_memory_mb: float | None
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A method / recipe / variant on a benchmark, all seeds together."""

    method: str
    recipe: str
    variant: str
    benchmark: BenchmarkParams
    entries: tuple[EntryEvidence, ...]
    cells: Mapping[str, Cell]
    cost: Cost
    verdict: Verdict
    deviations: tuple[Deviation, ...] = ()
    frames: FrameCheck | None = None  # of published masks: every published value of a single frame

    @property
    def taken(self) -> bool:
        """Whether its masks are those that the authors published."""
        return self.entries[0].entry.run.params.weights == "masks"

    @property
    def name(self) -> str:
        """Method, recipe and variant, joined by slashes."""
        return f"{self.method}/{self.recipe}/{self.variant}"

    @property
    def key(self) -> str:
        """The row's address on the first page: method/recipe/variant/benchmark."""
        return f"{self.name}/{self.benchmark.benchmark}"

    @property
    def anchor(self) -> str:
        """Identifier of the row's provenance on the method's page."""
        return f"{self.recipe}--{self.variant}--{self.benchmark.benchmark}".replace(".", "_")

    @property
    def headline(self) -> Cell:
        """The first primary metric."""
        return self.cells[self.benchmark.primary_metrics[0]]

    @property
    def scored(self) -> bool:
        """Whether any seed has a score."""
        return bool(self.headline.seeds)

    @property
    def reused(self) -> float | None:
        """Share (0..1) of tracked objects per frame whose masks a gate took over, if the method has one."""
        counts = [e.infer.counts for e in self.entries if e.infer]
        tracked = sum(c.get("tracked", 0) for c in counts)
        return sum(c.get("reused", 0) for c in counts) / tracked if tracked else None

    @property
    def rate_of_sequences(self) -> float | None:
        """Frames per second by the other convention in use: the mean over sequences, which FRTM's family prints."""
        rates = [rate for e in self.entries if (rate := e.timing.fps_sequence_mean) is not None]
        return sum(rates) / len(rates) if rates else None

    @property
    def beside(self) -> tuple[str, float] | None:
        """Another ground truth's title and the headline against it in points, mean over the seeds that have it."""
        found = [e.score.beside for e in self.entries if e.score and e.score.beside]
        values = [100 * other.global_[self.headline.metric] for other in found if other.global_]
        return (found[0].title, sum(values) / len(values)) if values else None

    @property
    def counted(self) -> tuple[int, int]:
        """Sequences and objects, or images and classes, that were scored (of the first scored seed)."""
        score = next((e.score for e in self.entries if e.score), None)
        if score is None:
            return 0, 0
        if self.benchmark.classifies:
            return score.images or 0, score.classes or 0
        return score.sequences or 0, score.objects or 0


@dataclass(frozen=True)
class Table:
    """All rows of a study and what hangs on them."""

    evidence: Evidence
    rows: tuple[Row, ...]
    deviations: tuple[Deviation, ...]
    unattempted: tuple[Published, ...] = ()
    masks: tuple[PublishedMasks, ...] = ()

    @property
    def plan(self) -> Plan:
        """The study's plan."""
        return self.evidence.plan

    @cached_property
    def by_name(self) -> Mapping[tuple[str, str, str, str], Row]:
        """Rows by (method, recipe, variant, benchmark)."""
        return {(r.method, r.recipe, r.variant, r.benchmark.benchmark): r for r in self.rows}

    def on(self, benchmark: str) -> tuple[Row, ...]:
        """The rows of one benchmark."""
        return tuple(r for r in self.rows if r.benchmark.benchmark == benchmark)

    def has_published(self, benchmark: str) -> bool:
        """Whether any row of a benchmark has a published headline number."""
        return any(r.headline.published for r in self.on(benchmark))

    def of(self, method: str) -> tuple[Row, ...]:
        """The rows of one method."""
        return tuple(r for r in self.rows if r.method == method)


@dataclass(frozen=True)
class Printed:
    """What was published: of whole benchmarks by key, and of single frames by the entry's published name."""

    numbers: Mapping[Key, Published]
    frames: Mapping[tuple[str, str, str, str], PublishedFrames]

    def of(self, evidence: Evidence, item: EntryEvidence) -> Mapping[str, Published]:
        """By metric, what an entry is compared with; masks on a part of a benchmark with what was published of that."""
        entry = item.entry
        found = {metric: number for (*name, metric), number in self.numbers.items() if (*name,) == entry.published_name}
        if entry.run.params.weights != "masks":
            return found
        found.pop("FPS", None)  # nothing ran
        if part_of(evidence, entry.benchmark_params) is None:
            return with_mean_of_both(item, found)
        frames = self.frames.get(entry.published_name)
        return means_over(item, frames) if frames else {}


def build_table(
    evidence: Evidence,
    published: Mapping[Key, Published],
    masks: tuple[PublishedMasks, ...] = (),
    frames: Mapping[tuple[str, str, str, str], PublishedFrames] | None = None,
) -> Table:
    """Pool seeds, attach published numbers and verdicts."""
    deviations = find_deviations(evidence)
    groups: dict[tuple[str, str, str, str], list[EntryEvidence]] = {}
    for item in evidence.entries.values():
        entry = item.entry
        key = (entry.run.method, entry.run.recipe, entry.variant, entry.benchmark)
        groups.setdefault(key, []).append(item)
    hours = training_hours(evidence.plan)
    printed = Printed(published, frames or {})
    rows = _adjusted([_row(evidence, tuple(g), printed, deviations, hours) for g in groups.values()])
    rows = tuple(_with_frames(row, printed) for row in rows)
    methods = set(evidence.plan.methods)
    compared = {item.entry.published_name for item in evidence.entries.values()}
    left = tuple(p for k, p in published.items() if k.method in methods and k[:4] not in compared)
    return Table(evidence, rows, deviations, left, masks)


def metrics_of(benchmark: BenchmarkParams) -> tuple[str, ...]:
    """The accuracy columns of a benchmark's table."""
    primary = benchmark.primary_metrics
    if benchmark.classifies:
        return METRICS
    return DAVIS_METRICS if "J&F-Mean" in primary else primary


def _row(
    evidence: Evidence,
    items: tuple[EntryEvidence, ...],
    printed: Printed,
    deviations: tuple[Deviation, ...],
    hours: Hours,
) -> Row:
    entry = items[0].entry
    benchmark = entry.benchmark_params
    key = (entry.run.method, entry.run.recipe, entry.variant, entry.benchmark)
    taken = entry.run.params.weights == "masks"
    scopes = ("study", entry.benchmark, f"{entry.run.method}/{entry.run.recipe}", *(i.entry.run.key for i in items))
    scopes = scopes if taken else (*scopes, videos_of(benchmark))
    blocker = blocking(deviations, *scopes)
    origin = Origin(
        released=entry.run.params.weights == "imported",
        masks=taken,
        random=entry.run.method_params.random_inference,
        copies=len([i for i in items if i.scores]) - len(_distinct(items)),
        waiting=any(i.waiting for i in items),
        another=training_cost(hours, entry.run.stages),
    )
    papers = printed.of(evidence, items[0])
    cells: dict[str, Cell] = {}
    for metric in metrics_of(benchmark):
        cells[metric] = _cell(evidence.plan, items, metric, papers.get(metric), blocker, origin)
    speed = IMAGE_SPEED if benchmark.classifies else SPEED
    rates = {i.entry.run.seed: rate for i in items if (rate := getattr(i.timing, speed)) is not None}
    cells["FPS"] = Cell("FPS", rates, published=papers.get("FPS"))
    touching = tuple(d for d in deviations if d.scope in scopes and d.scope != "study")
    verdict = _summary(benchmark, cells, items)
    return Row(*key[:3], benchmark, items, cells, _cost(evidence, items), verdict, touching)


def _with_frames(row: Row, printed: Printed) -> Row:
    """A row of published masks with the check of its single frames, where any were published."""
    item = row.entries[0]
    frames = printed.frames.get(item.entry.published_name)
    if not row.taken or frames is None or not row.scored:
        return row
    try:
        check = check_published_frames(item, frames)
    except (ValueError, OSError, ImportError):  # damaged counts, or no reader of them: the means still speak
        return row
    return replace(row, frames=check, verdict=with_frames(row.verdict, check.agrees, check.sentence))


def _distinct(items: tuple[EntryEvidence, ...]) -> list[EntryEvidence]:
    """The scored entries whose masks no other seed gave already: copies are no results of their own."""
    found: dict[str | int, EntryEvidence] = {}
    for item in items:
        if item.scores:
            found.setdefault(item.made or item.entry.run.seed, item)
    return list(found.values())


def _summary(benchmark: BenchmarkParams, cells: Mapping[str, Cell], items: tuple[EntryEvidence, ...]) -> Verdict:
    measured = any(c.seeds for name, c in cells.items() if name != "FPS")
    waiting = any(i.waiting for i in items)
    return sum_up([cells[m].verdict for m in benchmark.primary_metrics], measured=measured, waiting=waiting)


def _adjusted(rows: list[Row]) -> tuple[Row, ...]:
    """Holm's adjustment over the primary metrics of all rows of a method, i.e. of one paper."""
    changed: dict[tuple[int, str], Verdict] = {}
    for method in dict.fromkeys(r.method for r in rows):
        places = [
            (number, metric, verdict)
            for number, row in enumerate(rows)
            if row.method == method
            for metric in row.benchmark.primary_metrics
            if (verdict := row.cells[metric].verdict) is not None
        ]
        for (number, metric, before), after in zip(places, adjusted([v for *_, v in places]), strict=True):
            if after is not before:
                changed[number, metric] = after
    result = list(rows)
    for (number, metric), verdict in changed.items():
        row = result[number]
        cells = {**row.cells, metric: replace(row.cells[metric], verdict=verdict)}
        result[number] = replace(row, cells=cells, verdict=_summary(row.benchmark, cells, row.entries))
    return tuple(result)


def _cell(
    plan: Plan,
    items: tuple[EntryEvidence, ...],
    metric: str,
    paper: Published | None,
    blocker: Deviation | None,
    origin: Origin,
) -> Cell:
    seeds = {i.entry.run.seed: 100 * i.scores[metric] for i in items if metric in i.scores}
    benchmark = items[0].entry.benchmark_params
    values = [100 * i.scores[metric] for i in _distinct(items) if metric in i.scores]
    verdict = None
    if paper is not None:
        margin = items[0].entry.margin_points.get(metric)
        verdict = judge_number(values, paper, margin, blocker=blocker.text if blocker else None, origin=origin)
    return Cell(
        metric=metric,
        seeds=seeds,
        over_seeds=summarize_runs(list(seeds.values())).interval if seeds else None,
        over_sequences=over_images(items, metric)
        if benchmark.classifies
        else over_sequences(items, metric, plan.study.statistics),
        published=paper,
        verdict=verdict,
    )


def _cost(evidence: Evidence, items: tuple[EntryEvidence, ...]) -> Cost:
    chains = [evidence.stages_of(i.entry.run) for i in items]
    records = [[stage.run for stage in chain if stage.run] for chain in chains]
    done = [found for chain, found in zip(chains, records, strict=True) if found and len(found) == len(chain)]
    walls = [sum(stage.wall_seconds for stage in chain) for chain in done]
    peaks = [stage.peak_memory_mb or 0.0 for chain in done for stage in chain]
    memory = [item.memory.peak_mb for item in items]
    devices = [stage.device for chain in done for stage in chain]
    devices += [item.infer.device for item in items if item.infer]
    return Cost(
        train_seconds=sum(walls) / len(walls) if walls else None,
        train_memory_mb=max(peaks) if peaks and max(peaks) > 0 else None,
        infer_memory_mb=max(memory) if memory and max(memory) > 0 else None,
        devices=tuple(dict.fromkeys(devices)),
    )
