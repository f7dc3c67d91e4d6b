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
from vosrepro.inference.correspondence import write_pairs
from vosrepro.inference.videos import network_of, segment_entry
from vosrepro.inference.views import write_view
from vosrepro.study import paths
from vosrepro.study.digests import asked_inference, code_of, data_digest, entry_identity
from vosrepro.study.records import (
    DataManifest,
    InferenceRecord,
    InferredEntry,
    Provenance,
    RunInference,
    SelectionRecord,
    WeightsFile,
)
from vosrepro.tracking.journal import Journal
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
    """
    started = time.monotonic()
    weights = run.selected_weights
    digest = weights_digest(weights) if weights else None
    data = DataManifest.read(plan.data_manifest)
    # Classification first: it fails at once where a recipe has no class head.
    entries = sorted(plan.entries_of(run), key=lambda e: not e.benchmark_params.classifies)
    model = network_of(run, weights, device) if plan.video_entries_of(run) else None
    journal = Journal(run.journal("infer"))
    journal.start(
        key=f"{run.key}/infer/{asked_inference(entries)[:8]}",
        study=run.study,
        parent=run.key,
        kind="infer",
        params={e.key: dict(e.variant_params) for e in entries},
        tags={"weights_sha256": digest, "data": data.digest},
    )
    with journal:
        records = {}
        for number, entry in enumerate(entries):
            record = _entry_record(plan, entry, model, device, digest, data, anew=anew)
            record.write(entry.inference)
            records[entry.key] = InferredEntry(infer=str(entry.inference), **record.digests)
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
    digest: str | None,
    data: DataManifest,
    *,
    anew: int,
) -> InferenceRecord:
    """What is written to infer.json, with the weights that were used."""
    if entry.benchmark_params.classifies:
        path, step = class_weights(entry)
        digest = weights_digest(path)
        identity, state = _state(entry, digest, data, anew=anew)
        found = classify_entry(plan, entry, weights=path, device=device, state=state)
        return _record(found, entry, "classes", identity, WeightsFile(path=str(path), sha256=digest, step=step), data)
    if CHECKPOINT in entry.variant_params:
        raise ConfigError(
            f"{entry.key} names a checkpoint of a classifier, but {entry.benchmark} is segmented with selected "
            "weights: take it out of the study"
        )
    identity, state = _state(entry, digest, data, anew=anew)
    found = segment_entry(entry, plan.study.data, model, device=device, state=state)
    return _record(found, entry, "masks", identity, _selected(entry.run, digest), data)


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


def _selected(run: Run, digest: str | None) -> WeightsFile | None:
    if run.selected_weights is None:
        return None
    step = SelectionRecord.read(run.selection).step
    return WeightsFile(path=str(run.selected_weights), sha256=digest, step=step)
