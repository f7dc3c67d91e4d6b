"""Reading what the jobs left behind: every artifact is optional, and a broken one becomes a sentence.

Nothing here interprets a number; see `vosrepro.reporting.evidence.table`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vosrepro.base.errors import DataError
from vosrepro.study.paths import mlflow_outcome
from vosrepro.study.plan import Entry, Plan, Run, StageNode
from vosrepro.study.records import (
    DataManifest,
    InferenceRecord,
    MlflowOutcome,
    PeakMemory,
    Provenance,
    Record,
    ScoreRecord,
    SelectionRecord,
    ServerAnswer,
    StageRecord,
    Timing,
)
from vosrepro.tracking.journal import read_events

FoundRecord = TypeVar("FoundRecord", bound=Record)


@dataclass(frozen=True)
class ScoredObject:
    """One row of scores.csv: an object of a sequence; values in 0..1."""

    sequence: str
    object: int
    frames: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class EntryEvidence:
    """What is known of one cell of the report.

    Attributes:
        entry: the planned cell.
        score: score.json, or None when it was not scored.
        objects: rows of scores.csv; empty for single images.
        infer: infer.json, or None when inference did not finish.
        problems: sentences about artifacts that are missing or cannot be read.
    """

    entry: Entry
    score: ScoreRecord | None
    objects: tuple[ScoredObject, ...]
    infer: InferenceRecord | None
    problems: tuple[str, ...] = ()

    @property
    def scores(self) -> Mapping[str, float]:
        """Global values in 0..1 by metric name; empty when not scored."""
        return (self.score.global_ if self.score else None) or {}

    @property
    def made(self) -> str | None:
        """Digest of the masks or classes, by which copies are told from results."""
        return (self.infer.masks_digest or self.infer.predictions_digest) if self.infer else None

    @property
    def waiting(self) -> bool:
        """Whether the masks wait for a server's answer."""
        return self.entry.benchmark_params.scoring is None and self.infer is not None and not self.scores

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the scorer wants beside the numbers."""
        return self.score.warnings if self.score else ()

    @property
    def timing(self) -> Timing:
        """The timing block of infer.json, possibly empty."""
        return self.infer.timing if self.infer else Timing()

    @property
    def memory(self) -> PeakMemory:
        """The memory block of infer.json, possibly empty."""
        return self.infer.memory if self.infer else PeakMemory()


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one training job."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class StageEvidence:
    """What is known of one training job: run.json and the curves of metrics.jsonl."""

    node: StageNode
    run: StageRecord | None
    curves: Mapping[str, Curve]
    problems: tuple[str, ...] = ()

    @property
    def resumed_from(self) -> tuple[int, ...]:
        """Steps from which the job was resumed."""
        return self.run.resumed_from if self.run else ()


@dataclass(frozen=True)
class Candidate:
    """One checkpoint on the selection split; values in 0..1."""

    step: int
    values: Mapping[str, float]
    selected: bool
    last: bool


@dataclass(frozen=True)
class RunEvidence:
    """What is known of one method / recipe / seed beyond its entries."""

    run: Run
    selected: SelectionRecord | None
    candidates: tuple[Candidate, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything that a study left on disk."""

    plan: Plan
    entries: Mapping[str, EntryEvidence]  # by Entry.key
    stages: Mapping[Path, StageEvidence]  # by StageNode.folder
    runs: Mapping[str, RunEvidence]  # by Run.key
    data: DataManifest | None
    mlflow: MlflowOutcome | None
    problems: tuple[str, ...] = ()

    @property
    def data_digest(self) -> str | None:
        """What the manifest states of the data; None without a manifest."""
        return self.data.digest if self.data else None

    @property
    def training_seconds(self) -> float:
        """Wall time of all training jobs together."""
        return sum(s.run.wall_seconds for s in self.stages.values() if s.run)

    def provenances(self) -> Iterator[Provenance]:
        """Of every record of training, selection, inference and scoring."""
        yield from (s.run.provenance for s in self.stages.values() if s.run)
        yield from (r.selected.provenance for r in self.runs.values() if r.selected)
        for entry in self.entries.values():
            yield from (record.provenance for record in (entry.infer, entry.score) if record)

    def stages_of(self, run: Run) -> tuple[StageEvidence, ...]:
        """The training jobs of a run, from the first stage on (shared ones included)."""
        return tuple(self.stages[node.folder] for node in run.stages)


@dataclass
class _Reader:
    """Reads optional artifacts and collects sentences about those that are broken."""

    problems: list[str] = field(default_factory=list)

    def record(self, kind: type[FoundRecord], path: Path) -> FoundRecord | None:
        try:
            return kind.read(path) if path.exists() else None
        except DataError as error:
            self.problems.append(str(error))
        except OSError as error:
            self.problems.append(_unreadable(path, error))
        return None

    def rows(self, path: Path) -> list[dict[str, str]]:
        try:
            return _csv_rows(path) if path.exists() else []
        except (OSError, ValueError, csv.Error) as error:
            self.problems.append(_unreadable(path, error))
            return []


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read ({error}): delete it and run again"


def collect(plan: Plan) -> Evidence:
    """Read every artifact of a study that exists; paths are relative to the working directory."""
    reader = _Reader()
    data = reader.record(DataManifest, plan.data_manifest)
    mlflow = reader.record(MlflowOutcome, mlflow_outcome(plan.study.study))
    return Evidence(
        plan=plan,
        entries={entry.key: read_entry(entry) for entry in plan.entries},
        stages={node.folder: read_stage(node) for node in plan.stages},
        runs={run.key: read_run(run) for run in plan.runs},
        data=data,
        mlflow=mlflow,
        problems=tuple(reader.problems),
    )


def read_entry(entry: Entry) -> EntryEvidence:
    """Read score.json, scores.csv and infer.json of one entry."""
    reader = _Reader()
    score = reader.record(ScoreRecord, entry.score)
    objects: list[ScoredObject] = []
    videos = not entry.benchmark_params.classifies
    for row in reader.rows(entry.score_table) if videos else ():
        try:
            objects.append(_object_score(row))
        except (KeyError, ValueError) as error:
            reader.problems.append(f"{entry.score_table} has a malformed row ({error}): score this entry again")
            objects = []
            break
    infer = reader.record(InferenceRecord, entry.inference)
    if entry.benchmark_params.scoring is None:
        score = _with_server_scores(reader, entry, score, infer)
    return EntryEvidence(entry, score, tuple(objects), infer, tuple(reader.problems))


def _with_server_scores(
    reader: _Reader, entry: Entry, score: ScoreRecord | None, infer: InferenceRecord | None
) -> ScoreRecord | None:
    """The score of an entry with what a server answered, if that was recorded of these very masks."""
    answer = reader.record(ServerAnswer, entry.server_scores)
    if answer is None:
        return score
    if answer.masks_digest != (infer.masks_digest if infer else None):
        reader.problems.append(
            f"{entry.server_scores} is of other masks than today's: submit again and record the answer"
        )
        return score
    found = {"protocol": answer.protocol, "global_": answer.global_, "provenance": answer.provenance}
    return (score or ScoreRecord(protocol=None, global_=None)).model_copy(update=found)


def read_stage(node: StageNode) -> StageEvidence:
    """Read run.json and metrics.jsonl of one training job."""
    reader = _Reader()
    run = reader.record(StageRecord, node.record)
    curves = _curves(node.metrics if node.metrics.exists() else node.journal)
    return StageEvidence(node, run, curves, tuple(reader.problems))


def read_run(run: Run) -> RunEvidence:
    """Read selected.json and selection.csv of one run."""
    reader = _Reader()
    selected = reader.record(SelectionRecord, run.selection)
    candidates: list[Candidate] = []
    for row in reader.rows(run.candidates):
        try:
            candidates.append(_candidate(row))
        except (KeyError, ValueError) as error:
            reader.problems.append(f"{run.candidates} has a malformed row ({error}): select again")
    candidates.sort(key=lambda c: c.step)
    return RunEvidence(run, selected, tuple(candidates), tuple(reader.problems))


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _object_score(row: Mapping[str, str]) -> ScoredObject:
    named = {"sequence", "object", "frames"}
    values = {k: float(v) for k, v in row.items() if k not in named and v and _is_number(v)}
    frames = int(float(row.get("frames") or 0))
    return ScoredObject(row["sequence"], int(row["object"]), frames, values)


def _candidate(row: Mapping[str, str]) -> Candidate:
    named = {"step", "selected", "last"}
    values = {k: float(v) for k, v in row.items() if k not in named and _is_number(v)}
    return Candidate(int(float(row["step"])), values, _flag(row, "selected"), _flag(row, "last"))


def _flag(row: Mapping[str, str], name: str) -> bool:
    return (row.get(name) or "").strip().lower() in {"1", "1.0", "true", "yes"}


def _is_number(text: str | None) -> bool:
    try:
        return float(text or "nan") == float(text or "nan")
    except ValueError:
        return False


def _curves(path: Path) -> dict[str, Curve]:
    found: dict[str, dict[int, float]] = {}
    for event in read_events(path):
        if event.get("event") != "metrics":
            continue
        for name, value in event.get("metrics", {}).items():
            if value is not None:
                found.setdefault(name, {})[int(event["step"])] = float(value)
    return {
        name: Curve(tuple(sorted(points)), tuple(points[s] for s in sorted(points)))
        for name, points in sorted(found.items())
    }
