"""Scoring of a whole run: every entry by its benchmark's protocol, without torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest
from vosrepro.datasets import benchmark_images, benchmark_truth
from vosrepro.datasets.sets.catalog import benchmark_part, original_videos
from vosrepro.datasets.sets.davis import truth as davis_truth
from vosrepro.scoring import score_folder
from vosrepro.scoring.classification import score_predictions
from vosrepro.study.integrity import check_masks, damaged, intact, read_record
from vosrepro.study.paths import TRUTH_CACHE
from vosrepro.study.plan import Entry, Plan, Run
from vosrepro.study.records import (
    BesideScore,
    DataManifest,
    InferredEntry,
    Provenance,
    RunInference,
    RunScores,
    ScoreRecord,
)
from vosrepro.tracking.journal import Journal

if TYPE_CHECKING:
    from vosrepro.study.params import BenchmarkParams


def score_run(plan: Plan, run: Run, *, processes: int = 1) -> None:
    """Write scores.csv, score.json and (of masks) counts.parquet of every entry of a run, then scores.json.

    Entries of a benchmark that only a server scores get a score.json without values.

    Raises:
        ProtocolError: if masks are missing or malformed, naming sequence, frame and id, or predictions do
            not name each image once.
        DamagedError: if masks, predictions or their record are not what inference wrote.
    """
    started = time.monotonic()
    inference = read_record(RunInference, run.inference)
    journal = Journal(run.journal("score"))
    journal.start(
        key=f"{run.key}/score/{file_digest(run.inference)[:8]}",
        study=run.study,
        parent=run.key,
        kind="score",
        params={e.key: e.benchmark_params.scoring for e in plan.entries_of(run)},
        tags={f"benchmark.{e.benchmark}": e.benchmark_params.title for e in plan.entries_of(run)},
    )
    summary: dict[str, Mapping[str, float] | None] = {}
    with journal:
        for number, entry in enumerate(plan.entries_of(run)):
            values = _score_entry(plan, entry, _inferred(inference, entry), processes)
            summary[entry.key] = values
            name = f"{entry.variant}/{plan.shown_benchmark(entry.benchmark)}"
            journal.metrics({f"{name}/{k}": v for k, v in (values or {}).items()}, step=number)
        journal.end()
    wall_seconds = round(time.monotonic() - started, 3)
    RunScores(run=run.key, entries=summary, wall_seconds=wall_seconds, provenance=Provenance.here()).write(run.scores)


def _inferred(inference: RunInference, entry: Entry) -> InferredEntry:
    record = inference.entries.get(entry.key)
    if record is None:
        path = entry.run.inference
        raise damaged(path, f"does not list {entry.key}", made_with=path)
    return record


def _score_entry(plan: Plan, entry: Entry, inferred: InferredEntry, processes: int) -> Mapping[str, float] | None:
    benchmark = entry.benchmark_params
    extra: dict[str, Any] = {
        "entry": entry.key,
        "benchmark": benchmark.benchmark,
        "benchmark_version": benchmark.version,
        **inferred.digests,
        "provenance": Provenance.here(),
    }
    if benchmark.classifies:
        images, classes = benchmark_images(benchmark, plan.study.data)
        intact(entry.predictions, inferred.predictions_digest, record=entry.run.inference)
        found = score_predictions(entry.predictions, images, classes)
        found.write(entry.folder, extra=extra)
        return found.global_
    if benchmark.scoring is None:
        note = "scored by the challenge server only; pack the masks with `vosrepro submit zip`"
        ScoreRecord(protocol=None, global_=None, note=note, **extra).write(entry.score)
        return None
    check_masks(entry, inferred.masks_digest)
    truth = benchmark_truth(benchmark, plan.study.data)
    _require_truth(plan, benchmark)
    score = score_folder(
        entry.masks,
        truth.folder,
        benchmark.scoring,
        sequences=truth.sequences,
        meta=truth.meta,
        processes=processes,
        cache=TRUTH_CACHE,
    )
    beside = _beside(plan, entry)
    score.write(entry.folder, extra={**extra, "beside": beside} if beside else extra)
    return dict(score.global_)


def _require_truth(plan: Plan, benchmark: BenchmarkParams) -> None:
    """Refuse ground truth that lacks a mask which the manifest of the data counted: its frame would go unscored.

    Raises:
        DataError: naming the folder.
    """
    source = plan.data_manifest
    parts = read_record(DataManifest, source).parts if source.is_file() else {}  # by hand there may be none
    counted = parts.get(benchmark_part(benchmark), {}).get("masks")
    if counted is None:  # by an older version
        return
    videos = original_videos(benchmark, plan.study.data)
    found = sum(len(video.annotations) for video in videos)
    if found < counted:
        gap = next((video.name for video in videos if 1 < len(video.annotations) < len(video.frames)), None)
        where = f", perhaps in {gap}" if gap else ""
        raise DataError(
            f"{benchmark_part(benchmark)} has {found} masks of ground truth, but {source} counts {counted}{where}: "
            "restore the data and run again"
        )


def _beside(plan: Plan, entry: Entry) -> BesideScore | None:
    """The same masks against the benchmark's other ground truth: informative, so its data may be missing."""
    other = entry.benchmark_params.beside
    if other is None:
        return None
    try:
        truth = davis_truth(other.dataset, other.split, plan.study.data)
    except DataError as error:
        return BesideScore(title=other.title, protocol=other.scoring, global_=None, note=str(error))
    score = score_folder(entry.masks, truth.folder, other.scoring, sequences=truth.sequences, cache=TRUTH_CACHE)
    return BesideScore(title=other.title, protocol=other.scoring, global_=score.global_)
