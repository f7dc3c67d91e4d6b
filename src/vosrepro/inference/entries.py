"""The books of a run's inference: every variant on every benchmark with its weights.

`vosrepro.commands.infer` goes through them and fills the entries.

Finished videos and images are kept in `state/infer/<identity>/`, so a killed job goes on where it stopped, and an
added variant or benchmark does not repeat the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import begin_anew
from vosrepro.datasets.sets.catalog import benchmark_part
from vosrepro.inference.classify import CHECKPOINT, class_weights
from vosrepro.inference.complete import check_frame_count
from vosrepro.inference.run_record import begin_run_journal, keep_entry
from vosrepro.study import paths
from vosrepro.study.digests import code_of, data_digest, entry_identity
from vosrepro.study.integrity import intact, read_record, stage_weights
from vosrepro.study.records import (
    DataManifest,
    InferenceRecord,
    InferredEntry,
    Provenance,
    RunInference,
    SelectionRecord,
    WeightsFile,
)
from vosrepro.weights.files import weights_digest

if TYPE_CHECKING:
    from vosrepro.study.plan import Entry, Plan, Run


@dataclass(frozen=True)
class Begun:
    """An entry that is being filled.

    Attributes:
        kind: of result, see `vosrepro.study.digests.MAKERS`.
        weights: what it is made with; None for a method without weights.
        identity: what its results depend on.
        state: folder of those that are finished.
    """

    entry: Entry
    kind: str
    weights: WeightsFile | None
    identity: str
    state: Path


class Books:
    """The books of one run's inference: what each entry is made with, and what is written once it is made.

    Args:
        plan: the study.
        run: whose entries.
        anew: see `vosrepro.base.files.begin_anew`.

    Raises:
        DamagedError: if the selected weights or a record are not what the job that made them wrote.
    """

    def __init__(self, plan: Plan, run: Run, *, anew: int = 0) -> None:
        self._started = time.monotonic()
        self._plan, self._run, self._anew = plan, run, anew
        self._data = read_record(DataManifest, plan.data_manifest)
        self._selected = _selected(run)
        # Classification first: it fails at once where a recipe has no class head.
        self.entries = sorted(plan.entries_of(run), key=lambda e: not e.benchmark_params.classifies)
        self._records: dict[str, InferredEntry] = {}

    @contextmanager
    def journal(self) -> Iterator[None]:
        """Keep the run's journal while its entries are filled."""
        tags = {"weights_sha256": self._selected and self._selected.sha256, "data": self._data.digest}
        with begin_run_journal(self._run, self.entries, tags) as self._journal:
            yield
            self._journal.end()

    def begin(self, entry: Entry) -> Begun:
        """What an entry is made with.

        Raises:
            ConfigError: if a recipe cannot do what the entry asks for.
            DataError: if frames of its benchmark are missing.
            DamagedError: if a classifier's weights are not those of their record.
        """
        if entry.benchmark_params.classifies:
            return self._begun(entry, "classes", _class_weights(entry))
        if CHECKPOINT in entry.variant_params:
            raise ConfigError(
                f"{entry.key} names a checkpoint of a classifier, but {entry.benchmark} is segmented with selected "
                "weights: take it out of the study"
            )
        check_frame_count(entry.benchmark_params, self._plan.study.data, self._data, self._plan.data_manifest)
        return self._begun(entry, "masks", self._selected)

    def _begun(self, entry: Entry, kind: str, weights: WeightsFile | None) -> Begun:
        data = data_digest(self._data, [benchmark_part(entry.benchmark_params)])
        identity = entry_identity(entry, weights and weights.sha256, data)
        state = paths.inference_state(identity)
        begin_anew(state, self._anew)
        return Begun(entry, kind, weights, identity, state)

    def keep(self, begun: Begun, found: Mapping[str, Any]) -> None:
        """Write infer.json of an entry, with what was found and what it depends on; its rates to the journal."""
        entry = begun.entry
        record = InferenceRecord(
            **found,
            identity=begun.identity,
            code=code_of(begun.kind, entry.run.method),
            weights=begun.weights,
            data_digest=self._data.digest,
            provenance=Provenance.here(),
        )
        name = f"{entry.variant}/{self._plan.shown_benchmark(entry.benchmark)}"
        rates = {f"{name}/{k}": v for k, v in record.timing.stated().items() if v is not None}
        number = len(self._records)
        self._records[entry.key] = keep_entry(entry, record)
        self._journal.metrics(rates, step=number)

    def close(self) -> None:
        """Write inference.json of the run."""
        RunInference(
            run=self._run.key,
            entries=self._records,
            weights_sha256=self._selected and self._selected.sha256,
            wall_seconds=round(time.monotonic() - self._started, 3),
            provenance=Provenance.here(),
        ).write(self._run.inference)


def _class_weights(entry: Entry) -> WeightsFile:
    path, step = class_weights(entry)
    stages = entry.run.stages
    digest = stage_weights(stages[-1], step) if stages else weights_digest(path)
    return WeightsFile(path=str(path), sha256=digest, step=step)


def _selected(run: Run) -> WeightsFile | None:
    """The selected weights, which are those that selection recorded."""
    path = run.selected_weights
    if path is None:
        return None
    record = read_record(SelectionRecord, run.selection)
    digest = intact(path, record.weights_sha256, record=run.selection)
    return WeightsFile(path=str(path), sha256=digest, step=record.step)
