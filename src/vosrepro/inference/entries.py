"""Inference of a whole run: every variant on every benchmark with its weights.

Finished videos and images are kept in `state/infer/<identity>/`, so a killed job goes on where it stopped, and an
added variant or benchmark does not repeat the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import begin_anew
from vosrepro.datasets.sets.catalog import benchmark_part
from vosrepro.inference.classify import CHECKPOINT, class_weights, classify_entry
from vosrepro.inference.complete import check_frames
from vosrepro.inference.correspondence import write_pairs
from vosrepro.inference.run_record import begin_journal, keep_entry
from vosrepro.inference.videos import network_of, segment_entry
from vosrepro.inference.views import write_view
from vosrepro.study import paths
from vosrepro.study.digests import code_of, data_digest, entry_identity
from vosrepro.study.integrity import intact, read_record, stage_weights
from vosrepro.study.records import (
    DataManifest,
    InferenceRecord,
    Provenance,
    RunInference,
    SelectionRecord,
    WeightsFile,
)
from vosrepro.weights.files import weights_digest

if TYPE_CHECKING:
    import torch

    from vosrepro.study.plan import Entry, Plan, Run


def infer_run(plan: Plan, run: Run, *, device: torch.device, anew: int = 0) -> None:
    """Write masks and timing.csv, or predictions.csv, and infer.json of every entry, then inference.json.

    Args:
        plan: the study.
        run: whose entries.
        device: where to compute.
        anew: see `vosrepro.base.files.begin_anew`.

    Raises:
        ConfigError: if a recipe cannot do what an entry asks for.
        DataError: if a video, mask or list of images is broken.
        CheckpointError: if the weights do not fit.
        DamagedError: if weights or a record are not what the job that made them wrote.
    """
    started = time.monotonic()
    data = read_record(DataManifest, plan.data_manifest)
    selected = _selected(run)
    weights, digest = run.selected_weights, selected and selected.sha256
    # Classification first: it fails at once where a recipe has no class head.
    entries = sorted(plan.entries_of(run), key=lambda e: not e.benchmark_params.classifies)
    model = network_of(run, weights, device) if plan.video_entries_of(run) else None
    journal = begin_journal(run, entries, {"weights_sha256": digest, "data": data.digest})
    with journal:
        records = {}
        for number, entry in enumerate(entries):
            record = _entry_record(plan, entry, model, device, selected, data, anew=anew)
            records[entry.key] = keep_entry(entry, record)
            name = f"{entry.variant}/{plan.shown_benchmark(entry.benchmark)}"
            rates = {k: v for k, v in record.timing.stated().items() if v is not None}
            journal.metrics({f"{name}/{k}": v for k, v in rates.items()}, step=number)
        journal.end()
    write_pairs(plan, run, model, device=device)
    write_view(plan, run, model, device=device)
    RunInference(
        run=run.key,
        entries=records,
        weights_sha256=digest,
        wall_seconds=round(time.monotonic() - started, 3),
        provenance=Provenance.here(),
    ).write(run.inference)


def _entry_record(
    plan: Plan,
    entry: Entry,
    model: torch.nn.Module | None,
    device: torch.device,
    selected: WeightsFile | None,
    data: DataManifest,
    *,
    anew: int,
) -> InferenceRecord:
    """What is written to infer.json, with the weights that were used."""
    if entry.benchmark_params.classifies:
        path, step = class_weights(entry)
        stages = entry.run.stages
        digest = stage_weights(stages[-1], step) if stages else weights_digest(path)
        identity, state = _state(entry, digest, data, anew=anew)
        found = classify_entry(plan, entry, weights=path, device=device, state=state)
        return _record(found, entry, "classes", identity, WeightsFile(path=str(path), sha256=digest, step=step), data)
    if CHECKPOINT in entry.variant_params:
        raise ConfigError(
            f"{entry.key} names a checkpoint of a classifier, but {entry.benchmark} is segmented with selected "
            "weights: take it out of the study"
        )
    check_frames(entry.benchmark_params, plan.study.data, data, plan.data_manifest)
    identity, state = _state(entry, selected and selected.sha256, data, anew=anew)
    found = segment_entry(entry, plan.study.data, model, device=device, state=state)
    return _record(found, entry, "masks", identity, selected, data)


def _record(
    found: Mapping[str, Any], entry: Entry, kind: str, identity: str, weights: WeightsFile | None, data: DataManifest
) -> InferenceRecord:
    """What was found, with what it depends on."""
    return InferenceRecord(
        **found,
        identity=identity,
        code=code_of(kind, entry.run.method),
        weights=weights,
        data_digest=data.digest,
        provenance=Provenance.here(),
    )


def _state(entry: Entry, weights: str | None, data: DataManifest, *, anew: int) -> tuple[str, Path]:
    """The identity of an entry's results, and the folder of those that are finished."""
    identity = entry_identity(entry, weights, data_digest(data, [benchmark_part(entry.benchmark_params)]))
    state = paths.inference_state(identity)
    begin_anew(state, anew)
    return identity, state


def _selected(run: Run) -> WeightsFile | None:
    """The selected weights, which are those that selection recorded."""
    path = run.selected_weights
    if path is None:
        return None
    record = read_record(SelectionRecord, run.selection)
    digest = intact(path, record.weights_sha256, record=run.selection)
    return WeightsFile(path=str(path), sha256=digest, step=record.step)
