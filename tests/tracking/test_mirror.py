from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient

from vosrepro.base.files import write_json
from vosrepro.study import paths
from vosrepro.study.records import DataManifest, SelectionRecord
from vosrepro.tracking import processes
from vosrepro.tracking.journal import Journal
from vosrepro.tracking.mirror import Mirror
from vosrepro.tracking.store import StoredRun

pytestmark = pytest.mark.workflow

PARENT = "stm/s012/seed0"
KEY = f"{PARENT}/s0/00000000"


def counts(store: SimpleNamespace) -> dict[str, int]:
    tables = ("runs", "metrics", "params", "tags")
    with sqlite3.connect(store.folder / "mlflow.db") as database:
        return {t: database.execute(f"select count(*) from {t}").fetchone()[0] for t in tables}


def runs(mirror: Mirror) -> dict[str, StoredRun]:
    """Runs by name as a new reader of the store finds them."""
    return {run.tags["mlflow.runName"]: run for run in mirror.store.runs()}


def history(mirror: Mirror, run: StoredRun, metric: str) -> list[tuple[int, float]]:
    found = mirror.store._client.get_metric_history(run.run_id, metric)
    return sorted((item.step, item.value) for item in found)


def test_a_study_becomes_an_experiment_with_parents_and_children(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    journal = begin(tags={"data_digest": "d1", "protocol": "davis2017"})
    journal.metrics({"train/loss": 2.0, "train/lr": 0.1}, step=10)
    journal.metrics({"train/loss": 1.0, "train/lr": 0.1}, step=20)
    journal.end(metrics={"J&F-Mean": 0.5})
    mirror = Mirror("mini", store.open())
    mirror.sync(final=True)
    found = runs(mirror)
    assert set(found) == {PARENT, "s0"}
    child = found["s0"]
    assert child.tags["mlflow.parentRunId"] == found[PARENT].run_id
    assert child.params["optimizer.lr"] == "0.001"
    assert child.tags["data_digest"] == "d1"
    assert child.tags["protocol"] == "davis2017"
    assert "git_commit" in child.tags
    assert history(mirror, child, "train/loss") == [(10, 2.0), (20, 1.0)]
    assert child.metrics["JandF-Mean"] == 0.5
    assert (child.status, found[PARENT].status) == ("FINISHED", "FINISHED")
    assert found[PARENT].params == {"method": "stm", "recipe": "s012", "seed": "0"}
    assert mirror.runs() == {PARENT: found[PARENT].run_id, KEY: child.run_id}


def test_runs_name_their_data_sets_and_weights_as_records_that_mlflow_lists(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    DataManifest(digest="d2", root="data").write(paths.data_manifest("mini"))
    selected = paths.study_folder("mini") / PARENT / paths.SELECTION_RECORD
    record = SelectionRecord(
        step=40, metric="J&F-Mean", value=0.5, last_step=60, last_value=0.4, weights_sha256="ab" * 32, rule="best"
    )
    record.write(selected)
    begin(params={"data": [{"set": "davis17-train", "repeat": 3}, {"set": "ytvos-train"}]}).end()
    begin("select", kind="select", params={"set": "davis17-train", "sequences": ["a"]}).end()
    begin("score", kind="score", tags={"benchmark.davis16-val": "DAVIS 2016 val"}).end()
    for _ in range(2):  # the second adds nothing
        Mirror("mini", store.open()).sync(final=True)
        client = MlflowClient(f"sqlite:///{store.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("mini").experiment_id
        found = {run.info.run_name: run for run in client.search_runs([experiment])}
        named = {
            name: [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs]
            for name, run in found.items()
        }
        assert sorted(named["s0"]) == [("davis17-train", "d1", "training"), ("ytvos-train", "d1", "training")]
        assert named["select"] == [("davis17-train", "d2", "selection")]
        assert named["score"] == [("davis16-val", "d2", "evaluation")]
        (model,) = client.search_logged_models([experiment])
        assert (model.name, model.source_run_id) == ("stm-s012-seed0", found[PARENT].info.run_id)
        assert (model.params["sha256"], model.params["step"]) == ("ab" * 32, "40")
    record.model_copy(update={"weights_sha256": "cd" * 32}).write(selected)
    Mirror("mini", store.open()).sync(final=True)
    assert {m.params["sha256"] for m in client.search_logged_models([experiment])} == {"ab" * 32, "cd" * 32}


def test_mirroring_again_adds_nothing(store: SimpleNamespace, begin: Callable[..., Journal]) -> None:
    journal = begin()
    for step in range(1, 30):
        journal.metrics({"train/loss": 1 / step}, step=step)
    begin("s1").metrics({"train/loss": 1.0}, step=1)
    mirror = Mirror("mini", store.open())
    mirror.sync(final=True)
    before = counts(store)
    mirror.sync(final=True)
    again = Mirror("mini", store.open())
    again.sync(final=True)
    assert counts(store) == before
    assert again.runs() == mirror.runs()
    assert before["metrics"] == 30


def test_a_follower_that_dies_between_two_writes_loses_and_doubles_nothing(
    store: SimpleNamespace, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(params={f"p{i}": i for i in range(250)})
    for step in range(2500):
        journal.metrics({"train/loss": float(step)}, step=step)
    journal.end()
    mirror = Mirror("mini", store.open())
    client, calls = mirror.store._client, []
    original = client.log_batch

    def dies(*arguments: object, **more: object) -> None:
        calls.append(1)
        if len(calls) == 5:  # after all parameters and half of the metrics
            raise KeyboardInterrupt
        original(*arguments, **more)

    monkeypatch.setattr(client, "log_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        mirror.sync()
    fresh = Mirror("mini", store.open())
    fresh.sync(final=True)
    child = runs(fresh)["s0"]
    assert len(history(fresh, child, "train/loss")) == 2500
    assert len(child.params) == 250
    assert counts(store)["runs"] == 2


def test_a_resumed_job_goes_on_in_its_run_without_double_steps(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    journal = begin()
    for step in (10, 20, 30):
        journal.metrics({"train/loss": float(step)}, step=step)
    mirror = Mirror("mini", store.open())
    mirror.sync()
    run = runs(mirror)["s0"]
    journal.resume(step=10)
    for step in (20, 30, 40):
        journal.metrics({"train/loss": step + 0.5}, step=step)
    journal.end()
    fresh = Mirror("mini", store.open())
    for each in (mirror, fresh):  # the follower that saw it, and one that did not
        each.sync(final=True)
        child = runs(each)["s0"]
        assert child.run_id == run.run_id
        assert child.status == "FINISHED"
        assert history(each, child, "train/loss") == [
            (10, 10.0),
            (20, 20.0),
            (30, 30.0),
            (40, 40.5),
        ]


def test_a_finished_job_that_trains_on_keeps_its_run(store: SimpleNamespace, begin: Callable[..., Journal]) -> None:
    journal = begin()
    journal.metrics({"train/loss": 1.0}, step=10)
    journal.end("FAILED")
    Mirror("mini", store.open()).sync(final=True)
    fresh = Mirror("mini", store.open())
    fresh.sync(final=True)
    assert runs(fresh)["s0"].status == "FAILED"
    assert runs(fresh)[PARENT].status == "FAILED"
    journal.resume(step=0)
    fresh.sync()
    assert runs(fresh)["s0"].status == "RUNNING"
    assert runs(fresh)[PARENT].status == "RUNNING"
    journal.metrics({"train/loss": 3.0}, step=10)
    journal.metrics({"train/loss": 0.5}, step=20)
    journal.end()
    fresh.sync(final=True)
    assert history(fresh, runs(fresh)["s0"], "train/loss") == [(10, 1.0), (20, 0.5)]
    assert runs(fresh)["s0"].status == "FINISHED"


def test_a_journal_without_end_is_killed_when_its_process_is_dead(
    store: SimpleNamespace, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin().metrics({"train/loss": 1.0}, step=1)
    mirror = Mirror("mini", store.open())
    mirror.sync(final=True)
    assert runs(mirror)["s0"].status == "RUNNING"  # this very process began it, and lives
    monkeypatch.setattr(processes, "_start_ticks", lambda pid: None)
    mirror.sync()
    assert runs(mirror)["s0"].status == "KILLED"
    assert runs(mirror)[PARENT].status == "RUNNING"  # the workflow may still start it anew
    mirror.sync(final=True)
    assert runs(mirror)[PARENT].status == "KILLED"


def test_a_job_of_another_machine_is_killed_only_when_the_workflow_is_over(
    store: SimpleNamespace, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "node7")
    begin()
    monkeypatch.setattr("platform.node", lambda: "head")
    mirror = Mirror("mini", store.open())
    mirror.sync()
    assert runs(mirror)["s0"].status == "RUNNING"
    mirror.sync(final=True)
    assert runs(mirror)["s0"].status == "KILLED"


def test_a_job_begun_from_nothing_again_is_a_new_run(
    store: SimpleNamespace, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin().metrics({"train/loss": 9.0}, step=10)
    mirror = Mirror("mini", store.open())
    mirror.sync()
    first = mirror.runs()[KEY]
    monkeypatch.setattr("time.time", lambda: 4e9)
    journal = begin()
    journal.metrics({"train/loss": 1.0}, step=10)
    journal.end()
    mirror.sync(final=True)
    second = mirror.runs()[KEY]
    assert second != first
    found = {run.run_id: run for run in mirror.store.runs()}
    assert found[first].tags["vosrepro.superseded"] == "true"
    assert found[first].status == "KILLED"
    assert found[second].status == "FINISHED"
    assert history(mirror, found[second], "train/loss") == [(10, 1.0)]


def test_odd_names_and_values_are_kept_as_far_as_the_store_allows(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    journal = begin(params={"a b/c&d": {"..": "x" * 9000}}, tags={"long": "y" * 9000, "none": None})
    journal.metrics({"top50/davis17-val/J&F-Mean": float("nan"), "//": 1.0}, step=0)
    journal.end()
    mirror = Mirror("mini", store.open())
    mirror.sync(final=True)
    child = runs(mirror)["s0"]
    assert len(child.params) == 1
    assert "sha256:" in next(iter(child.params.values()))
    assert "none" not in child.tags
    assert child.metrics["top50/davis17-val/JandF-Mean"] != child.metrics["_"]


def test_scores_stand_beside_the_parent_and_small_files_are_artifacts(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    results = Path("results/mini") / PARENT
    write_json(results / "selected.json", {"step": 80})
    write_json(results / "top50/davis17-val/score.json", {"protocol": "davis2017"})
    (results / "top50/davis17-val/scores.csv").write_text("sequence\n" + "x" * (1 << 20))
    begin("select", kind="select").end()
    journal = begin("score", kind="score")
    journal.metrics({"top50/davis17-val/J&F-Mean": 0.5}, step=0)
    journal.end()
    mirror = Mirror("mini", store.open())
    mirror.sync()
    found = runs(mirror)
    assert found[PARENT].metrics == {"top50/davis17-val/JandF-Mean": 0.5}
    files = {p.relative_to("mlartifacts").as_posix() for p in Path("mlartifacts").rglob("*.*")}
    assert files == {
        f"mini/{found['select'].run_id}/artifacts/selected.json",
        f"mini/{found['score'].run_id}/artifacts/top50/davis17-val/score.json",
    }
    uri = mirror.store._client.get_run(found["score"].run_id).info.artifact_uri
    assert uri == f"mlflow-artifacts:/mini/{found['score'].run_id}/artifacts"
    assert str(store.folder) not in uri  # the checkout may move

    write_json(results / "selected.json", {"step": 160})
    mirror.sync(final=True)
    copy = Path(f"mlartifacts/mini/{found['select'].run_id}/artifacts/selected.json")
    assert "160" in copy.read_text()


def test_the_data_manifest_gives_a_tag_if_it_is_older_than_the_job(
    store: SimpleNamespace, begin: Callable[..., Journal]
) -> None:
    write_json("results/mini/data.json", {"digest": "abc"})
    os.utime("results/mini/data.json", (1, 1))
    begin(tags={})
    mirror = Mirror("mini", store.open())
    mirror.sync()
    assert runs(mirror)["s0"].tags["data_digest"] == "abc"


def test_the_experiment_can_be_named_and_a_deleted_one_is_said_to_be(
    store: SimpleNamespace, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    mirror = Mirror("mini", store.open())
    mirror.sync()
    client = mirror.store._client
    assert client.get_experiment(mirror.store.experiment_id).name == "mine"
    client.delete_experiment(mirror.store.experiment_id)
    with pytest.raises(ValueError, match="'mine' was deleted: restore it"):
        store.open()
