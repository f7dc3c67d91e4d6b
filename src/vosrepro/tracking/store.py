"""The MLflow store; the only module that imports mlflow.

`vosrepro.tracking.mirror` decides what is written, `vosrepro.tracking.follower` when. Importing mlflow takes
seconds, so it is imported when a store is opened. Telemetry is switched off before that.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import BusyError
from vosrepro.study.paths import TRACKING
from vosrepro.tracking.inputs import DatasetRecord, ModelRecord
from vosrepro.tracking.processes import Lock

if TYPE_CHECKING:
    from mlflow.entities import Run

DEFAULT_STORE = "sqlite:///mlflow.db"

# With this location `mlflow ui` reads artifacts from its own working directory, wherever the checkout
# lies; a relative folder would be stored as the absolute path of this checkout.
_SERVED = "mlflow-artifacts:/"
_SERVED_FROM = Path("mlartifacts")
_OFF = {"off", "0", "false", "no"}
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its faces the UI shows
_MODEL = "vosrepro.model"
_OPENING_S = 120.0
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100
_LONGEST_NAME = 250


def enabled() -> bool:
    """Whether tracking is on; VOSREPRO_MLFLOW=off switches it off."""
    return os.environ.get("VOSREPRO_MLFLOW", "").strip().lower() not in _OFF


def tracking_uri() -> str:
    """The store: MLFLOW_TRACKING_URI, or a database in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


def made() -> bool:
    """Whether there is a store: a database is a file that exists; of other addresses nothing is known before."""
    return not tracking_uri().startswith("sqlite:///") or _database_identity() is not None


def without_password(text: str) -> str:
    """A text without the user and password of addresses in it."""
    return re.sub(r"//[^/@\s]*@", "//", text)


@dataclass
class StoredRun:
    """A run as the store has it.

    Attributes:
        status: "RUNNING", "FINISHED", "FAILED" or "KILLED".
        metrics: the latest value of each metric.
    """

    run_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Store:
    """An open MLflow store and one experiment in it.

    Args:
        study: name of the experiment unless MLFLOW_EXPERIMENT_NAME says otherwise.

    Raises:
        Exception: of many kinds, if the store cannot be opened.
    """

    def __init__(self, study: str) -> None:
        self._client = _open()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = f"{_SERVED}{name}" if tracking_uri() == DEFAULT_STORE else None
            self._client.create_experiment(name, artifact_location=location, tags=_KIND)
            found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise ValueError(
                f"the experiment '{name}' was deleted: restore it with `mlflow experiments restore "
                f"-x {found.experiment_id}` or set MLFLOW_EXPERIMENT_NAME"
            )
        self.experiment_id = str(found.experiment_id)
        self._copies = found.artifact_location.startswith(_SERVED) and not _is_server()
        self._identity = _database_identity()

    def lost(self) -> bool:
        """Whether the database was removed or replaced since it was opened."""
        return _database_identity() != self._identity

    def runs(self) -> Iterator[StoredRun]:
        """Runs that this project made and nobody deleted, newest first."""
        page = None
        while True:
            found = self._client.search_runs(
                [self.experiment_id],
                "tags.`vosrepro.key` != ''",
                max_results=1000,
                order_by=["attributes.start_time DESC"],
                page_token=page,
            )
            yield from (_stored(run) for run in found)
            page = found.token
            if not page:
                return

    def create(self, name: str, *, start_s: float, tags: Mapping[str, str]) -> StoredRun:
        """Begin a run."""
        tags = {_name(key): value[:8000] for key, value in tags.items()}
        run = self._client.create_run(self.experiment_id, start_time=_ms(start_s), tags=tags, run_name=name)
        return _stored(run)

    def log_params(self, run: StoredRun, params: Mapping[str, str]) -> None:
        """Add the parameters that the run lacks; parameters never change."""
        from mlflow.entities import Param

        missing = {_name(k): v for k, v in params.items()}
        items = [Param(k, v) for k, v in missing.items() if k not in run.params]
        for chunk in _chunks(items, _PARAMS_PER_CALL):
            self._client.log_batch(run.run_id, params=chunk)
        run.params.update(missing)

    def log_metrics(self, run: StoredRun, metrics: Iterable[tuple[str, float | None, float, int]]) -> None:
        """Add metrics.

        Args:
            run: where to.
            metrics: name (see `mlflow_metric_name`), value or None, seconds since the epoch, step.
        """
        from mlflow.entities import Metric

        items = [
            Metric(name, math.nan if value is None else float(value), _ms(seconds), step)
            for name, value, seconds, step in metrics
        ]
        for chunk in _chunks(items, _METRICS_PER_CALL):
            self._client.log_batch(run.run_id, metrics=chunk)
        run.metrics.update({item.key: item.value for item in items})

    def steps(self, run: StoredRun, metric: str) -> set[int]:
        """Steps at which a run has a metric."""
        return {item.step for item in self._client.get_metric_history(run.run_id, metric)}

    def set_status(self, run: StoredRun, status: str, *, end_s: float | None = None) -> None:
        """Close a run, or open it again with "RUNNING"."""
        if status == "RUNNING":
            self._client.update_run(run.run_id, status=status)
        else:
            end = _ms(time.time() if end_s is None else end_s)
            self._client.set_terminated(run.run_id, status, end)
        run.status = status

    def tag(self, run: StoredRun, name: str, value: str) -> None:
        """Set a tag."""
        self._client.set_tag(run.run_id, name, value)
        run.tags[name] = value

    def add_file(self, run: StoredRun, path: Path, folder: str) -> None:
        """Add a file to a run's artifacts, or replace it."""
        if not self._copies:
            self._client.log_artifact(run.run_id, str(path), folder or None)
            return
        root = self._client.get_run(run.run_id).info.artifact_uri.removeprefix(_SERVED)
        target = _SERVED_FROM / root / folder
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)

    def add_datasets(self, run: StoredRun, records: Iterable[DatasetRecord]) -> None:
        """Name the data sets that a run read; what it names already stays as it is."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one.name, one.digest, source_type="local", source=json.dumps(dict(one.source))),
                [InputTag("mlflow.data.context", one.context)],
            )
            for one in records
        ]
        if inputs:
            self._client.log_inputs(run.run_id, datasets=inputs)

    def add_model(self, run: StoredRun, record: ModelRecord) -> None:
        """Name the weights of a run once; other weights later are another model."""
        if run.tags.get(_MODEL) == record.sha256:
            return
        params = {_name(name): value for name, value in record.params.items()}
        made = self._client.create_logged_model(
            self.experiment_id, record.name, source_run_id=run.run_id, params=params, model_type="segmentation"
        )
        self._client.finalize_logged_model(made.model_id, "READY")
        self.tag(run, _MODEL, record.sha256)


def mlflow_metric_name(name: str) -> str:
    """A metric's name as MLflow allows it: "J&F-Mean" becomes "JandF-Mean"."""
    return _name(name.replace("&", "and"))


def _open() -> Any:
    """A client whose database exists and is up to date; one process at a time makes a new database."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    lock = Lock(TRACKING / "store.lock", needed=False)
    deadline = time.monotonic() + _OPENING_S
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise BusyError(f"process {lock.holder().get('pid')} is opening the MLflow store for long")
        time.sleep(0.1)
    try:
        client = MlflowClient(tracking_uri())
        client.search_experiments(max_results=1)
    finally:
        lock.release()
    return client


def _stored(run: Run) -> StoredRun:
    data = run.data
    return StoredRun(run.info.run_id, run.info.status, dict(data.tags), dict(data.params), dict(data.metrics))


def _is_server() -> bool:
    return tracking_uri().startswith(("http:", "https:", "databricks"))


def _database_identity() -> tuple[int, int] | None:
    if not tracking_uri().startswith("sqlite:///"):
        return None
    try:
        stat = Path(tracking_uri().removeprefix("sqlite:///")).stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _name(name: str) -> str:
    """A parameter's, tag's or metric's name without characters that MLflow refuses."""
    clean = re.sub(r"[^\w\-./: ]", "_", name)
    clean = "/".join(part for part in clean.split("/") if part not in ("", ".", ".."))
    return clean[:_LONGEST_NAME] or "_"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
