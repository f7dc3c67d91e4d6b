"""Which data sets a job read and which weights it gave, as records that MLflow's pages list beside its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from vosrepro.base.errors import DataError
from vosrepro.study import paths
from vosrepro.study.records import DataManifest, SelectionRecord
from vosrepro.tracking.tail import JournalState


@dataclass(frozen=True)
class DatasetRecord:
    """A data set by its name and the digest of the manifest that it is part of.

    Attributes:
        context: "training", "selection" or "evaluation".
        source: what else is known of it: title, folder, what the stage takes of it.
    """

    name: str
    digest: str
    context: str
    source: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecord:
    """The weights that a run ends with."""

    name: str
    sha256: str
    params: Mapping[str, str]


def datasets_of(study: str, state: JournalState) -> list[DatasetRecord]:
    """The data sets of a job: of a training stage, a selection, or the benchmarks of a scoring."""
    try:
        manifest = DataManifest.read(paths.data_manifest(study))
    except (OSError, DataError):
        return []
    root = {"root": manifest.root}
    if state.kind == "train":
        taken = _listed(state.params.get("data", ""))
        digest = state.tags.get("data_digest", manifest.digest)
        return [
            DatasetRecord(str(one["set"]), digest, "training", {**root, **{k: str(v) for k, v in one.items() if v}})
            for one in taken
        ]
    if state.kind == "select" and state.params.get("set"):
        of = {**root, "sequences": state.params.get("sequences", "")}
        return [DatasetRecord(state.params["set"], manifest.digest, "selection", of)]
    named = ((name.removeprefix("benchmark."), title) for name, title in state.tags.items() if "benchmark." in name)
    return [DatasetRecord(name, manifest.digest, "evaluation", {**root, "title": title}) for name, title in named]


def model_of(study: str, state: JournalState) -> ModelRecord | None:
    """The weights that a selection chose; None of other jobs."""
    if state.kind != "select":
        return None
    path = paths.study_folder(study) / state.parent / paths.SELECTION_RECORD
    try:
        record = SelectionRecord.read(path)
    except (OSError, DataError):
        return None
    facts = {"weights": record.weights, "step": record.step, "rule": record.rule, record.metric: record.value}
    params = {"sha256": record.weights_sha256, **{name: str(value) for name, value in facts.items() if value}}
    return ModelRecord(state.parent.replace("/", "-"), record.weights_sha256, params)


def _listed(text: str) -> list[Mapping[str, object]]:
    """The data sets of a stage as its journal lists them; none where a long list was cut."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict) and "set" in one] if isinstance(found, list) else []
