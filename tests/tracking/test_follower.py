from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from vosrepro.base.files import write_json
from vosrepro.tracking.follower import complete, follow, mirror_once
from vosrepro.tracking.journal import Journal
from vosrepro.tracking.store import Store

pytestmark = pytest.mark.workflow

PARENT = "stm/s012/seed0"
OUT = Path("results/mini/mlflow.json")


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def workflow() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for snakemake."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def start_thread(workflow: subprocess.Popen[bytes]) -> threading.Thread:
    """A follower in this process, which has paid for MLflow already."""
    thread = threading.Thread(target=follow, args=("mini",), kwargs={"parent_pid": workflow.pid, "poll_s": 0.05})
    thread.start()
    return thread


def start_process(workflow: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """A follower that has nothing to do yet, so it never loads MLflow."""
    code = f"from vosrepro.tracking.follower import follow; follow('mini', parent_pid={workflow.pid})"
    process = subprocess.Popen([sys.executable, "-c", code])
    lock = Path("state/tracking/mini.lock")
    wait_for(lambda: lock.exists() and str(process.pid) in lock.read_text())
    return process


def statuses() -> dict[str, str]:
    return {run.tags["mlflow.runName"]: run.status for run in Store("mini").runs()}


def test_the_store_grows_with_the_journal_and_the_follower_ends_with_the_workflow(
    store: SimpleNamespace, begin: Callable[..., Journal], workflow: subprocess.Popen[bytes]
) -> None:
    thread = start_thread(workflow)
    journal = begin()
    journal.metrics({"train/loss": 2.0}, step=1)
    reader = store.open()
    wait_for(lambda: any(run.metrics.get("train/loss") == 2.0 for run in reader.runs()))
    journal.metrics({"train/loss": 1.0}, step=2)
    wait_for(lambda: any(run.metrics.get("train/loss") == 1.0 for run in reader.runs()))
    assert statuses() == {PARENT: "RUNNING", "s0": "RUNNING"}
    journal.end()
    workflow.kill()  # and nobody reaps it for a while: a zombie is not alive
    thread.join(20)
    assert not thread.is_alive()
    assert statuses() == {PARENT: "FINISHED", "s0": "FINISHED"}


def test_complete_asks_the_follower_and_never_loads_mlflow_itself(
    store: SimpleNamespace, begin: Callable[..., Journal], workflow: subprocess.Popen[bytes]
) -> None:
    thread = start_thread(workflow)
    begin().end()
    code = (
        "import sys; from vosrepro.tracking.follower import complete;"
        f"print(complete('mini', '{OUT}').status, 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["complete", "False"]
    thread.join(20)
    assert not thread.is_alive()
    written = json.loads(OUT.read_text())
    assert written["status"] == "complete"
    assert written["experiment_id"]
    assert sorted(written["runs"]) == [PARENT, f"{PARENT}/s0/00000000"]
    assert not list(Path("state/tracking").glob("*.request.json"))


def test_complete_without_a_follower_does_the_work(store: SimpleNamespace, begin: Callable[..., Journal]) -> None:
    begin().end()
    first = complete("mini", OUT)
    assert first.status == "complete"
    assert json.loads(OUT.read_text())["runs"] == first.runs
    assert complete("mini", OUT) == first


def test_a_follower_killed_or_hanging_loses_nothing(
    store: SimpleNamespace,
    begin: Callable[..., Journal],
    workflow: subprocess.Popen[bytes],
) -> None:
    killed = start_process(workflow)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    hanging = start_process(workflow)  # the kernel gave the lock back
    hanging.send_signal(signal.SIGSTOP)
    begin().end()
    assert complete("mini", OUT, answer_s=0.3).status == "complete"
    assert hanging.wait(10) == -signal.SIGKILL
    assert statuses() == {PARENT: "FINISHED", "s0": "FINISHED"}


def test_the_request_of_a_killed_complete_ends_no_later_follower(
    store: SimpleNamespace, begin: Callable[..., Journal], workflow: subprocess.Popen[bytes]
) -> None:
    stale = Path("state/tracking/mini.request.json")
    write_json(stale, {"id": "old", "out": "old.json"})
    thread = start_thread(workflow)
    begin().end()
    wait_for(lambda: "s0" in statuses())
    assert thread.is_alive()
    write_json(stale, {"id": "old", "out": "old.json"})
    assert complete("mini", OUT).status == "complete"
    thread.join(20)
    assert OUT.exists()


def test_a_second_follower_stands_by_and_takes_over(
    store: SimpleNamespace, begin: Callable[..., Journal], workflow: subprocess.Popen[bytes]
) -> None:
    first = start_process(workflow)
    thread = start_thread(workflow)
    time.sleep(0.3)
    lock = Path("state/tracking/mini.lock")
    assert str(first.pid) in lock.read_text()
    assert mirror_once("mini").status == "followed"
    first.kill()
    first.wait()
    wait_for(lambda: str(os.getpid()) in lock.read_text())
    workflow.kill()
    thread.join(20)
    assert not thread.is_alive()


def test_a_follower_of_a_dead_workflow_or_with_tracking_off_ends_at_once(
    workplace: Path, begin: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOSREPRO_MLFLOW", "off")
    begin()
    follow("mini", parent_pid=os.getpid())
    assert complete("mini", OUT).status == "off"
    assert json.loads(OUT.read_text())["note"] == "switched off by VOSREPRO_MLFLOW"
    assert not Path("mlflow.db").exists()
    assert not Path("state/tracking").exists()


@pytest.mark.parametrize(
    ("uri", "note"),
    [
        ("sqlite:///{folder}/broken.db", "file is not a database"),
        ("sqlite:///{folder}/absent/mlflow.db", "File exists"),
        ("nonsense://user:secret@host/store", "nonsense"),
    ],
)
def test_a_broken_store_is_one_warning_and_an_outcome(
    workplace: Path,
    begin: Callable[..., Journal],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uri: str,
    note: str,
) -> None:
    (workplace / "broken.db").write_text("not a database at all" * 100)
    (workplace / "absent").write_text("a file where a folder should be")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=workplace))
    begin().end()
    with caplog.at_level(logging.WARNING):
        outcome = complete("mini", OUT)
    assert outcome.status == "broken"
    assert note in outcome.note
    assert "secret" not in OUT.read_text()
    assert len([r for r in caplog.records if r.name.startswith("vosrepro")]) == 1


@pytest.mark.slow
def test_two_processes_that_make_the_database_at_once_both_succeed(
    workplace: Path, begin: Callable[..., Journal]
) -> None:
    begin().end()
    code = "from vosrepro.tracking.follower import complete; complete('{0}', '{0}.json')"
    both = [subprocess.Popen([sys.executable, "-c", code.format(study)]) for study in ("mini", "other")]
    assert [process.wait(120) for process in both] == [0, 0]
    for study in ("mini", "other"):
        written = json.loads(Path(f"{study}.json").read_text())
        assert (written["status"], written["note"]) == ("complete", "")
        assert written["tracking_uri"] == "sqlite:///mlflow.db"
    assert Path("mlflow.db").exists()
