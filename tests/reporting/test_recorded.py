"""What MLflow's own client finds of a report."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from vosrepro.cli import main
from vosrepro.reporting import load_table
from vosrepro.reporting.evidence.claims import claims
from vosrepro.study import paths
from vosrepro.study.plan import Plan
from vosrepro.study.records import MlflowOutcome
from vosrepro.tracking.store import Store

PARENT = "stm/s02/seed1"
REPORT = ["report", "--study", "params/studies/tiny.yaml"]

pytestmark = pytest.mark.workflow


@pytest.fixture
def client(own_copy: Plan, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store in which the study was mirrored, as far as one parent run."""
    shutil.copyfile(mlflow_database, "own.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('own.db').resolve()}")
    for name in ("MLFLOW_EXPERIMENT_NAME", "VOSREPRO_MLFLOW"):
        monkeypatch.delenv(name, raising=False)
    Store("tiny").create(PARENT, start_s=1.0, tags={"vosrepro.key": PARENT, "vosrepro.kind": "run"})
    MlflowOutcome(status="complete", tracking_uri="").write(paths.mlflow_outcome("tiny"))
    return MlflowClient(f"sqlite:///{Path('own.db').resolve()}")


def runs(client: MlflowClient) -> dict:
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return {run.data.tags["vosrepro.key"]: run for run in client.search_runs([experiment])}


def files(client: MlflowClient, run: str, folder: str | None = None) -> set[str]:
    found = client.list_artifacts(run, folder)
    below = {name for one in found if one.is_dir for name in files(client, run, one.path)}
    return {one.path for one in found if not one.is_dir} | below


def test_the_run_of_a_study_has_verdicts_scores_and_pages(own_copy: Plan, client: MlflowClient):
    assert main([*REPORT, "--record"]) == 0
    run = runs(client)["report"]
    table = load_table(own_copy)
    counts = Counter(f"verdicts/{claim.kind}" for claim in claims(table))
    assert counts
    shown = {name: n for name, n in run.data.metrics.items() if name.startswith("verdicts/") and n}
    assert shown == counts
    row = next(row for row in table.rows if row.scored)
    score = f"{row.name}/generated-{row.benchmark.benchmark}/JandF-Mean"
    assert run.data.metrics[score] == pytest.approx(row.headline.mean / 100)
    written = {path.relative_to("reports").as_posix() for path in Path("reports").rglob("*.html")}
    assert files(client, run.info.run_id) == written >= {"all.html", "tiny/stm.html"}


def test_a_parent_run_has_the_verdicts_of_its_rows_and_a_table_of_them(own_copy: Plan, client: MlflowClient):
    assert main([*REPORT, "--record"]) == 0
    run = runs(client)[PARENT]
    rows = [row for row in load_table(own_copy).rows if (row.method, row.recipe) == ("stm", "s02")]
    judged = [row for row in rows if any(cell.verdict for cell in row.cells.values())]
    assert judged
    assert {n: v for n, v in run.data.metrics.items() if v} == Counter(f"verdicts/{r.verdict.kind}" for r in judged)
    assert len(run.data.tags["mlflow.note.content"].splitlines()) == 2 + len(rows)


def test_figures_are_artifacts_of_the_run_of_their_study(client: MlflowClient):
    assert main([*REPORT, "--figures", "drawn"]) == 0
    drawn = {f"figures/{path.name}" for path in Path("drawn").iterdir()}
    assert files(client, runs(client)["report"].info.run_id) == drawn
    assert any(name.endswith(".pdf") for name in drawn)


def test_recording_again_adds_nothing(client: MlflowClient):
    for _ in range(2):
        assert main([*REPORT, "--record"]) == 0
    assert set(runs(client)) == {"report", PARENT}
    run = runs(client)["report"]
    assert {len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics} == {1}


def test_results_that_were_copied_without_their_store_get_none(own_copy: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert MlflowOutcome.read(paths.mlflow_outcome("tiny")).status == "complete"
    assert main([*REPORT, "--record"]) == 0
    assert not Path("mlflow.db").exists()


def test_a_study_that_was_not_mirrored_is_left_alone(client: MlflowClient):
    MlflowOutcome(status="off", tracking_uri="").write(paths.mlflow_outcome("tiny"))
    assert main([*REPORT, "--record"]) == 0
    assert set(runs(client)) == {PARENT}


def test_a_store_that_does_not_work_is_a_warning(own_copy: Plan, monkeypatch: pytest.MonkeyPatch, caplog):
    MlflowOutcome(status="complete", tracking_uri="").write(paths.mlflow_outcome("tiny"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://somebody:secret@host")
    assert main([*REPORT, "--record"]) == 0
    assert "MLflow does not have the report" in caplog.text
    assert "secret" not in caplog.text
