"""What of the journals goes into the MLflow store, and how a run there is recognised.

Experiment = study; parent run = method/recipe/seed<k>; child run = journal (a training stage, selection,
inference, scoring). A run is known by its tags `vosrepro.key` and `vosrepro.started` (when the job began
its journal), never by a file of ours, so mirroring again adds nothing, from whichever process. A resumed
job goes on in its run: steps that an earlier attempt has shown keep their first values. A job that was
begun from nothing again is a new run, and the run before it is tagged `vosrepro.superseded`.

Journals are the truth; the store may be deleted and is rebuilt by the next mirroring.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, value_digest
from vosrepro.study import paths
from vosrepro.study.records import DataManifest
from vosrepro.tracking.inputs import datasets_of, model_of
from vosrepro.tracking.processes import lived_at
from vosrepro.tracking.store import Store, StoredRun, mlflow_metric_name
from vosrepro.tracking.tail import JournalState, JournalTail, MetricRow

_ARTIFACTS = {
    "select": (paths.SELECTION_RECORD, paths.SELECTION_TABLE),
    "infer": (f"*/*/{paths.ENTRY_INFERENCE}",),
    "score": (f"*/*/{paths.ENTRY_SCORE}", f"*/*/{paths.ENTRY_TABLE}"),
}
_LARGEST_ARTIFACT_BYTES = 1 << 20
_WORST_FIRST = ("RUNNING", "FAILED", "KILLED", "FINISHED")
_MIRRORED = "vosrepro.mirrored"


@dataclass
class _Job:
    """A child run; `shown` are the steps per metric that the store has, None until they are needed."""

    run: StoredRun
    started: float
    shown: dict[str, set[int]] | None


class Mirror:
    """An open store, and how far each journal of a study is mirrored into it.

    Args:
        study: name of the study.
        store: where to, e.g. `Store(study)`.
    """

    def __init__(self, study: str, store: Store) -> None:
        self.study = study
        self.store = store
        self._tails: dict[Path, JournalTail] = {}
        self._jobs: dict[str, _Job] = {}
        self._parents: dict[str, StoredRun] = {}
        self._known: dict[tuple[str, str], StoredRun] = {}
        for run in store.runs():  # newest first, so that of accidental duplicates the oldest stays
            self._known[run.tags["vosrepro.key"], run.tags.get("vosrepro.started", "")] = run

    def runs(self) -> dict[str, str]:
        """Key of each parent and job that has a journal now -> MLflow run id."""
        found = {key: run.run_id for key, run in self._parents.items()}
        return dict(sorted((found | {k: job.run.run_id for k, job in self._jobs.items()}).items()))

    def sync(self, *, final: bool = False) -> None:
        """Mirror what is new.

        Args:
            final: no more is expected of this workflow: close the parents, and jobs of other machines
                that never ended.
        """
        jobs: dict[str, _Job] = {}
        children: dict[str, list[tuple[JournalState, _Job]]] = {}
        for path in journals(self.study):
            tail = self._tails.setdefault(path, JournalTail(path))
            metrics = tail.read()
            if tail.state is None:
                continue
            job = self._job(tail, tail.state, metrics)
            self._close(tail, tail.state, job, final=final)
            jobs[tail.state.key] = job
            children.setdefault(tail.state.parent, []).append((tail.state, job))
        self._jobs = jobs
        self._parents = {key: self._parent(family[0][0]) for key, family in children.items()}
        for key, family in children.items():
            self._settle(self._parents[key], family, final=final)

    # --------------------------------------------------------------------------------- child runs

    def _job(self, tail: JournalTail, state: JournalState, metrics: Sequence[MetricRow]) -> _Job:
        job = self._jobs.get(state.key)
        if job is None or job.started != state.started:
            job = self._attach(tail, state)
        if metrics and not _is_mirrored(job.run, tail):
            self._log(job, metrics)
            if state.kind == "score":
                self._show_scores(self._parent(state), metrics)
        return job

    def _attach(self, tail: JournalTail, state: JournalState) -> _Job:
        """Find the run of a journal, or create it."""
        started = f"{state.started:.3f}"
        run = self._known.get((state.key, started))
        shown = None
        if run is None:
            parent = self._parent(state)
            self._supersede(tail.path)
            tags = {
                **_data_tag(self.study, state),
                **state.tags,
                "mlflow.parentRunId": parent.run_id,
                "mlflow.source.name": f"vosrepro {state.kind}",
                "mlflow.source.type": "LOCAL",
                "mlflow.source.git.commit": state.tags.get("git_commit", ""),
                "vosrepro.key": state.key,
                "vosrepro.kind": state.kind,
                "vosrepro.started": started,
                "vosrepro.journal": tail.path.as_posix(),
            }
            run = self.store.create(tail.path.stem, start_s=state.started, tags=tags)
            self._known[state.key, started] = run
            shown = {}
        self.store.log_params(run, state.params)
        return _Job(run, state.started, shown)

    def _supersede(self, journal: Path) -> None:
        """Mark the earlier runs of a journal that was begun anew."""
        for run in self._known.values():
            if run.tags.get("vosrepro.journal") != journal.as_posix():
                continue
            if "vosrepro.superseded" not in run.tags:
                self.store.tag(run, "vosrepro.superseded", "true")
            if run.status == "RUNNING":
                self.store.set_status(run, "KILLED")

    def _log(self, job: _Job, metrics: Sequence[MetricRow]) -> None:
        if job.shown is None:
            job.shown = {name: self.store.steps(job.run, name) for name in job.run.metrics}
        new = []
        for name, value, seconds, step in metrics:
            name = mlflow_metric_name(name)
            steps = job.shown.setdefault(name, set())
            if step not in steps:
                steps.add(step)
                new.append((name, value, seconds, step))
        self.store.log_metrics(job.run, new)

    def _close(self, tail: JournalTail, state: JournalState, job: _Job, *, final: bool) -> None:
        """Bring a run's status up to date; once it is over, add its artifacts."""
        status = _status(state, final=final)
        if status != job.run.status:
            self.store.set_status(job.run, status, end_s=state.time)
        if status == "RUNNING" or (_is_mirrored(job.run, tail) and not final):
            return
        files = list(_artifacts(self.study, tail.path, state))
        digests = value_digest([[str(path), file_digest(path)] for path, _ in files])
        mark = f"{digests} {tail.digest()}"
        if job.run.tags.get(_MIRRORED) == mark:
            return
        for path, folder in files:
            self.store.add_file(job.run, path, folder)
        self.store.add_datasets(job.run, datasets_of(self.study, state))
        model = model_of(self.study, state)
        if model is not None:
            self.store.add_model(self._parent(state), model)
        self.store.tag(job.run, _MIRRORED, mark)

    # -------------------------------------------------------------------------------- parent runs

    def _parent(self, state: JournalState) -> StoredRun:
        run = self._known.get((state.parent, ""))
        if run is None:
            tags = {
                "mlflow.source.name": "vosrepro",
                "mlflow.source.type": "LOCAL",
                "mlflow.source.git.commit": state.tags.get("git_commit", ""),
                "vosrepro.key": state.parent,
                "vosrepro.kind": "run",
            }
            run = self.store.create(state.parent, start_s=state.started, tags=tags)
            self._known[state.parent, ""] = run
            method, recipe, seed = [*state.parent.split("/"), "", ""][:3]
            params = {"method": method, "recipe": recipe, "seed": seed.removeprefix("seed")}
            self.store.log_params(run, params)
        return run

    def _show_scores(self, parent: StoredRun, metrics: Sequence[MetricRow]) -> None:
        """Scores are wanted beside the method's name: the parent carries the latest of them."""
        latest = {mlflow_metric_name(name): (value, time) for name, value, time, _ in metrics}
        self.store.log_metrics(
            parent,
            [
                (name, value, seconds, 0)
                for name, (value, seconds) in latest.items()
                if value is not None and parent.metrics.get(name) != value
            ],
        )

    def _settle(self, parent: StoredRun, family: Sequence[tuple[JournalState, _Job]], *, final: bool) -> None:
        """A parent runs while a child runs, and until the workflow is over."""
        statuses = {job.run.status for _, job in family}
        status = next(s for s in _WORST_FIRST if s in statuses)
        if status != parent.status and (final or status == "RUNNING"):
            end_s = max(state.time for state, _ in family)
            self.store.set_status(parent, status, end_s=end_s)


def journals(study: str) -> list[Path]:
    """All journals of a study."""
    return sorted(paths.journals_folder(study).rglob("*.jsonl"))


def _status(state: JournalState, *, final: bool) -> str:
    """The end that the journal tells; without one, whether its writer still lives."""
    if state.status != "RUNNING":
        return state.status if state.status in _WORST_FIRST else "FAILED"
    host, pid = state.writer or ("", 0)
    if host == platform.node():
        return "RUNNING" if lived_at(pid, state.began) else "KILLED"
    return "KILLED" if final else "RUNNING"


def _is_mirrored(run: StoredRun, tail: JournalTail) -> bool:
    return run.tags.get(_MIRRORED, "").endswith(f" {tail.digest()}")


def _artifacts(study: str, journal: Path, state: JournalState) -> Iterator[tuple[Path, str]]:
    """Small result files of a job, each with its folder among the run's artifacts."""
    root = paths.study_folder(study) / state.parent
    patterns = _ARTIFACTS.get(state.kind, ())
    if state.kind == "train":
        root, patterns = root / journal.stem, (paths.STAGE_RECORD,)
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.stat().st_size <= _LARGEST_ARTIFACT_BYTES:
                folder = path.relative_to(root).parent.as_posix()
                yield path, "" if folder == "." else folder


def _data_tag(study: str, state: JournalState) -> dict[str, str]:
    """The digest of the data manifest, if the manifest is older than the job."""
    path = paths.data_manifest(study)
    try:
        if path.stat().st_mtime > state.started:
            return {}
        return {"data_digest": DataManifest.read(path).digest}
    except (OSError, DataError):
        return {}
