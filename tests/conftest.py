"""Shared fixtures; every test runs without a GPU and without network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Seconds on a shared machine say little; seconds of a processor can be compared."""
    parser.addoption("--cpu", type=int, default=0, metavar="N", help="show the N tests that cost most processor time")


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGAN] = _processor_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    if call.when == "teardown":
        item.user_properties.append(("cpu", _processor_seconds() - item.stash.get(_BEGAN, 0.0)))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = terminalreporter.stats.get("", ()) if config.getoption("cpu") else ()
    costs = sorted(((dict(r.user_properties).get("cpu", 0.0), r.nodeid) for r in reports), reverse=True)
    if costs:
        terminalreporter.section(f"{sum(cost for cost, _ in costs):.0f} s of processor time, the most in")
    for cost, name in costs[: config.getoption("cpu")]:
        terminalreporter.line(f"{cost:8.2f} s  {name}")


_BEGAN = pytest.StashKey[float]()


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.fixture(autouse=True)
def _one_thread():
    """One torch thread in every test, whatever an earlier one set; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in the repository's root, where params/ lies."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once because that takes seconds."""
    from shared import once

    return once(tmp_path_factory, "store", _make_database) / "mlflow.db"


def _make_database(folder: Path) -> None:
    from vosrepro.tracking import store

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        store._open()
