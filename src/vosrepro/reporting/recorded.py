"""What MLflow gets of a report: what became of the published numbers, and pages and figures as artifacts.

A run of its own stands for the study; the parent runs of its methods get the verdicts of their rows, and a table of
them as the description that MLflow shows above a run. A study that was not mirrored gets nothing, and a store that does
not work is a warning.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, value_digest
from vosrepro.reporting.evidence.claims import claims, counted, statement
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.formats import points, signed
from vosrepro.study import paths
from vosrepro.study.records import MlflowOutcome
from vosrepro.tracking.store import Store, StoredRun, enabled, made, mlflow_metric_name, without_password

log = logging.getLogger(__name__)

#: Key of the run of a study, which no method has.
REPORT = "report"
_NOTE = "mlflow.note.content"


def record_report(table: Table, pages: Sequence[Path]) -> None:
    """Give MLflow verdicts, scores and pages of a study, from the files of `render_pages`, its first page first."""
    root = pages[0].parent
    shown = [page for page in pages if page.suffix == ".html"]
    files = [(page, "" if page.parent == root else page.parent.relative_to(root).as_posix()) for page in shown]

    def record(store: Store) -> None:
        runs = {run.tags["vosrepro.key"]: run for run in store.runs() if run.tags.get("vosrepro.kind") == "run"}
        for key, rows in _by_run(table).items():
            if key in runs:
                kinds = Counter(row.verdict.kind for row in rows if any(c.verdict for c in row.cells.values()))
                _show(store, runs[key], {f"verdicts/{kind}": n for kind, n in kinds.items()}, _described(rows))
        whole = _run_of_study(store, table.plan.study.study)
        values = {f"verdicts/{kind}": float(n) for kind, n in counted(claims(table)).items()}
        for row in table.rows:
            if row.headline.mean is not None:
                name = f"{row.name}/{table.plan.shown_benchmark(row.benchmark.benchmark)}/{row.headline.metric}"
                values[mlflow_metric_name(name)] = row.headline.mean / 100
        _show(store, whole, values, f"{statement(table)}\n\nThe report: artifact `{pages[0].name}`.")
        _add(store, whole, "vosrepro.pages", files)

    _attempt(table.plan.study.study, record)


def record_figures(study: str, figures: Iterable[Path]) -> None:
    """Give MLflow the figures of a study, as artifacts of its run."""
    files = [(path, "figures") for path in figures]
    _attempt(study, lambda store: _add(store, _run_of_study(store, study), "vosrepro.figures", files))


def _attempt(study: str, work: Callable[[Store], None]) -> None:
    """Do something with the store of a study that was mirrored; whatever goes wrong is one warning."""
    try:
        if not (enabled() and made()) or MlflowOutcome.read(paths.mlflow_outcome(study)).status != "complete":
            return
    except (OSError, DataError):
        return
    try:
        work(Store(study))
    except Exception as error:  # the report is complete without it
        text = " ".join(str(error).split()) or type(error).__name__
        log.warning("MLflow does not have the report (%s)", without_password(text)[:300])


def _by_run(table: Table) -> Mapping[str, list[Row]]:
    """Rows by the key of each of their parent runs, method/recipe/seed<k>."""
    found: dict[str, list[Row]] = {}
    for row in table.rows:
        for entry in row.entries:
            run = entry.entry.run
            found.setdefault(f"{run.method}/{run.recipe}/seed{run.seed}", []).append(row)
    return found


def _described(rows: Iterable[Row]) -> str:
    """Markdown: ours beside what was published, row by row."""
    lines = ["| variant | benchmark | ours | published | difference | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        cell = row.headline
        known = points(cell.published.value if cell.published else None)
        ours = f"{points(cell.mean)} ({cell.metric.removesuffix('-Mean')})"
        facts = (row.variant, row.benchmark.title, ours, known, signed(cell.difference), row.verdict.label)
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def _run_of_study(store: Store, study: str) -> StoredRun:
    found = next((run for run in store.runs() if run.tags["vosrepro.key"] == REPORT), None)
    if found is not None:
        return found
    tags = {"vosrepro.key": REPORT, "vosrepro.kind": REPORT, "mlflow.source.name": "vosrepro report"}
    run = store.create(f"{study}: report", start_s=time.time(), tags=tags)
    store.set_status(run, "FINISHED")
    return run


def _show(store: Store, run: StoredRun, values: Mapping[str, float], note: str) -> None:
    """Bring metrics and description up to date; a verdict that nothing has any more is 0."""
    gone = {name: 0.0 for name in run.metrics if name.startswith("verdicts/") and name not in values}
    changed = {name: value for name, value in {**gone, **values}.items() if run.metrics.get(name) != value}
    store.log_metrics(run, [(name, value, time.time(), 0) for name, value in changed.items()])
    if run.tags.get(_NOTE) != note:
        store.tag(run, _NOTE, note)


def _add(store: Store, run: StoredRun, mark: str, files: Sequence[tuple[Path, str]]) -> None:
    """Add files to the artifacts of a run, unless it has the same already."""
    digest = value_digest([[path.name, folder, file_digest(path)] for path, folder in files])
    if run.tags.get(mark) == digest:
        return
    for path, folder in files:
        store.add_file(run, path, folder)
    store.tag(run, mark, digest)
