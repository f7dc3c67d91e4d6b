"""A working directory with an empty MLflow store, and journals written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vosrepro.study import paths
from vosrepro.tracking import store as tracking
from vosrepro.tracking.journal import Journal

PARENT = "stm/s012/seed0"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory without settings of MLflow."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VOSREPRO_MLFLOW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path


@pytest.fixture
def store(workplace: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The default store of a working directory; its address is absolute as MLflow keeps it open."""
    shutil.copyfile(mlflow_database, workplace / "mlflow.db")
    monkeypatch.setattr(tracking, "DEFAULT_STORE", f"sqlite:///{workplace / 'mlflow.db'}")
    return SimpleNamespace(open=lambda: tracking.Store("mini"), folder=workplace)


@pytest.fixture
def begin(workplace: Path) -> Callable[..., Journal]:
    """Begin a journal of run stm/s012/seed0."""

    def _begin(name: str = "s0", *, kind: str = "train", digest: str = "0" * 8, **more: Any) -> Journal:
        method, recipe, seed = PARENT.split("/")
        journal = Journal(paths.journal("mini", method, recipe, seed.removeprefix("seed"), name))
        more = {"params": {"optimizer": {"lr": 0.001}}, "tags": {"data_digest": "d1"}, **more}
        key = f"{PARENT}/{name}/{digest}"
        journal.start(key=key, study="mini", parent=PARENT, kind=kind, **more)
        return journal

    return _begin
