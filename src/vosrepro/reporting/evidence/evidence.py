"""Reading what the jobs left behind: every artifact is optional, and a broken one becomes a sentence.

Nothing here interprets a number; see `vosrepro.reporting.evidence.table`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_json, value_digest
from vosrepro.study.paths import mlflow_outcome
from vosrepro.study.plan import Entry, Plan, Run, StageNode
from vosrepro.tracking.journal import read_events

Value = TypeVar("Value")


@dataclass(frozen=True)
class ObjectScore:
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
    score: Mapping[str, Any] | None
    objects: tuple[ObjectScore, ...]
    infer: Mapping[str, Any] | None
    problems: tuple[str, ...] = ()

    @property
    def scores(self) -> Mapping[str, float]:
        """Global values in 0..1 by metric name; empty when not scored."""
        values = (self.score or {}).get("global") or {}
        return {k: float(v) for k, v in values.items() if isinstance(v, int | float)}

    @property
    def made(self) -> str | None:
        """Digest of the masks or classes, by which copies are told from results."""
        found = (self.infer or {}).get("masks_digest") or (self.infer or {}).get("predictions_digest")
        return str(found) if found else None

    @property
    def waiting(self) -> bool:
        """Whether the masks wait for a server's answer."""
        return self.entry.benchmark_params.scoring is None and self.infer is not None and not self.scores

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the scorer wants beside the numbers."""
        return tuple(str(w) for w in (self.score or {}).get("warnings") or ())

    @property
    def timing(self) -> Mapping[str, Any]:
        """The timing block of infer.json, possibly empty."""
        return (self.infer or {}).get("timing") or {}

    @property
    def memory(self) -> Mapping[str, Any]:
        """The memory block of infer.json, possibly empty."""
        return (self.infer or {}).get("memory") or {}


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one training job."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class StageEvidence:
    """What is known of one training job: run.json and the curves of metrics.jsonl."""

    node: StageNode
    run: Mapping[str, Any] | None
    curves: Mapping[str, Curve]
    problems: tuple[str, ...] = ()

    def number(self, name: str) -> float | None:
        """A number of run.json, e.g. "wall_seconds"; None when it is not there."""
        value = (self.run or {}).get(name)
        return float(value) if isinstance(value, int | float) else None

    @property
    def resumed_from(self) -> Sequence[int]:
        """Steps from which the job was resumed."""
        return (self.run or {}).get("resumed_from") or ()


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
    selected: Mapping[str, Any] | None
    candidates: tuple[Candidate, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything that a study left on disk."""

    plan: Plan
    entries: Mapping[str, EntryEvidence]  # by Entry.key
    stages: Mapping[Path, StageEvidence]  # by StageNode.folder
    runs: Mapping[str, RunEvidence]  # by Run.key
    data: Mapping[str, Any] | None  # results/<study>/data.json
    data_digest: str | None
    mlflow: Mapping[str, Any] | None
    problems: tuple[str, ...] = ()

    @property
    def training_seconds(self) -> float:
        """Wall time of all training jobs together."""
        return sum(s.number("wall_seconds") or 0.0 for s in self.stages.values())

    def stages_of(self, run: Run) -> tuple[StageEvidence, ...]:
        """The training jobs of a run, from the first stage on (shared ones included)."""
        return tuple(self.stages[node.folder] for node in run.stages)


@dataclass
class _Reader:
    """Reads optional artifacts and collects sentences about those that are broken."""

    problems: list[str] = field(default_factory=list)

    def json(self, path: Path) -> Any:
        value = self._read(path, read_json)
        if value is not None and not isinstance(value, dict):
            self.problems.append(f"{path} does not hold a JSON object: delete it and run again")
            return None
        return value

    def rows(self, path: Path) -> list[dict[str, str]]:
        return self._read(path, _csv_rows) or []

    def _read(self, path: Path, read: Callable[[Path], Value]) -> Value | None:
        if not path.exists():
            return None
        try:
            return read(path)
        except (DataError, OSError, ValueError, KeyError) as error:
            self.problems.append(f"{path} cannot be read ({error}): delete it and run again")
            return None


def collect(plan: Plan) -> Evidence:
    """Read every artifact of a study that exists; paths are relative to the working directory."""
    reader = _Reader()
    data = reader.json(plan.data_manifest)
    mlflow = reader.json(mlflow_outcome(plan.study.study))
    return Evidence(
        plan=plan,
        entries={entry.key: read_entry(entry) for entry in plan.entries},
        stages={node.folder: read_stage(node) for node in plan.stages},
        runs={run.key: _read_run(run) for run in plan.runs},
        data=data,
        data_digest=_manifest_digest(data),
        mlflow=mlflow,
        problems=tuple(reader.problems),
    )


def read_entry(entry: Entry) -> EntryEvidence:
    """Read score.json, scores.csv and infer.json of one entry."""
    reader = _Reader()
    score = reader.json(entry.score)
    objects: list[ObjectScore] = []
    videos = not entry.benchmark_params.classifies
    for row in reader.rows(entry.score_table) if videos else ():
        try:
            objects.append(_object_score(row))
        except (KeyError, ValueError) as error:
            reader.problems.append(f"{entry.score_table} has a malformed row ({error}): score this entry again")
            objects = []
            break
    infer = reader.json(entry.inference)
    if entry.benchmark_params.scoring is None:
        score = _with_server_scores(reader, entry, score, infer)
    return EntryEvidence(entry, score, tuple(objects), infer, tuple(reader.problems))


def _with_server_scores(
    reader: _Reader, entry: Entry, score: Mapping[str, Any] | None, infer: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The score of an entry with what a server answered, if that was recorded of these very masks."""
    record = reader.json(entry.server_scores)
    if record is None:
        return score
    if record.get("masks_digest") != (infer or {}).get("masks_digest"):
        reader.problems.append(
            f"{entry.server_scores} is of other masks than today's: submit again and record the answer"
        )
        return score
    return {**(score or {}), **record}


def read_stage(node: StageNode) -> StageEvidence:
    """Read run.json and metrics.jsonl of one training job."""
    reader = _Reader()
    run = reader.json(node.record)
    curves = _curves(node.metrics if node.metrics.exists() else node.journal)
    return StageEvidence(node, run, curves, tuple(reader.problems))


def _read_run(run: Run) -> RunEvidence:
    reader = _Reader()
    selected = reader.json(run.selection)
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


def _object_score(row: Mapping[str, str]) -> ObjectScore:
    named = {"sequence", "object", "frames"}
    values = {k: float(v) for k, v in row.items() if k not in named and v and _is_number(v)}
    frames = int(float(row.get("frames") or 0))
    return ObjectScore(row["sequence"], int(row["object"]), frames, values)


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


def _manifest_digest(data: Mapping[str, Any] | None) -> str | None:
    if data is None:
        return None
    digest = data.get("digest")
    if isinstance(digest, str):
        return digest
    return value_digest(data)
