"""Checkpoint selection on held-out training sequences, recorded as a step of its own."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.files import atomic, file_digest, write_text
from vosrepro.datasets import Video, benchmark_videos, read_annotation, training_videos
from vosrepro.datasets.sets.catalog import benchmark_part, training_parts
from vosrepro.inference.complete import check_frame_count, require_frames
from vosrepro.inference.runner import segment_video
from vosrepro.methods import get_method
from vosrepro.study import paths
from vosrepro.study.digests import code_of, data_digest, selection_identity
from vosrepro.study.integrity import read_record, stage_weights
from vosrepro.study.records import DataManifest, Provenance, SelectionRecord, StageRecord
from vosrepro.tracking.journal import Journal
from vosrepro.weights.files import build_model, inference_model, save_weights, weights_digest

if TYPE_CHECKING:
    from vosrepro.scoring import Score
    from vosrepro.study.params import BenchmarkParams
    from vosrepro.study.plan import Plan, Run

    Scorer = Callable[..., Score]

log = logging.getLogger(__name__)
_METRICS = ("J&F-Mean", "J-Mean", "F-Mean")


def select_run(plan: Plan, run: Run, *, device: torch.device, score: Scorer) -> None:
    """Write selected.safetensors, selection.csv and selected.json of a run.

    Every checkpoint of the last stage segments the study's held-out training sequences with the
    method's default variant; the best value of the study's metric wins, the later one on a tie. A recipe that takes
    the last checkpoint has no other candidate. On the benchmarks of `selection.columns` that the run fills, candidates
    are scored too, for a look at what choosing does; the choice is made before and does not see it.

    Args:
        plan: the study.
        run: of whose last stage's checkpoints one is chosen.
        device: where to compute.
        score: `vosrepro.scoring.score_arrays`. It is given, not imported: like a training, a choice keeps the
            scorer with which it was made, whose digest is recorded, and a change of the scorer does not
            segment everything again.

    Raises:
        DataError: if a held-out sequence or imported weights are missing.
        DamagedError: if weights or a record are not what the job that made them wrote.
    """
    started = time.monotonic()
    candidates, digests = _candidates(run, device)
    journal = Journal(run.journal("select"))
    selection = plan.study.selection
    watched = watched_benchmarks(plan, run) if len(candidates) > 1 else ()
    parts = [*training_parts(selection.set), *map(benchmark_part, watched)]
    manifest = read_record(DataManifest, plan.data_manifest)
    identity = selection_identity(run, selection, digests, data_digest(manifest, parts))
    journal.start(
        key=f"{run.key}/select/{identity[:8]}",
        study=run.study,
        parent=run.key,
        kind="select",
        params=selection.model_dump(mode="json"),
        tags={},
    )
    with journal:
        videos = held_out(plan) if len(candidates) > 1 else []
        rows = []
        for step, path in candidates:
            scores = (
                _evaluate(run, path, videos, device, partial(score, protocol=selection.scoring))
                if len(candidates) > 1
                else {}
            )
            rows.append({"step": step, **scores})
            journal.metrics({f"selection/{k}": v for k, v in scores.items()}, step=step)
            log.info("%s step %d: %s", run.key, step, scores)
        best = best_row(rows, selection.metric)
        for benchmark in watched:
            assert benchmark.scoring is not None
            check_frame_count(benchmark, plan.study.data, manifest, plan.data_manifest)
            videos = benchmark_videos(benchmark, plan.study.data)
            for row, (_, path) in zip(rows, candidates, strict=True):
                scores = _evaluate(run, path, videos, device, partial(score, protocol=benchmark.scoring))
                row |= {f"{benchmark.benchmark}/{name}": value for name, value in scores.items()}
        _write(plan, run, rows, best, candidates[best][1], identity, time.monotonic() - started)
        journal.end()


def _candidates(run: Run, device: torch.device) -> tuple[list[tuple[int, Path]], list[str]]:
    """Steps and weights to choose from, and the digest of each, which is what its maker recorded."""
    if run.params.weights != "trained":
        path = _source_weights(run, device)
        return [(0, path)], [weights_digest(path)]
    stage, steps = run.stages[-1], run.candidate_steps
    return [(step, stage.weights(step)) for step in steps], [stage_weights(stage, step) for step in steps]


def watched_benchmarks(plan: Plan, run: Run) -> tuple[BenchmarkParams, ...]:
    """The benchmarks of `selection.columns` that the run fills with its default variant.

    Raises:
        ConfigError: if one has no public ground truth of videos.
    """
    default = run.selection_variant
    names = plan.study.selection.columns
    found = [e.benchmark_params for e in plan.entries_of(run) if e.benchmark in names and e.variant == default]
    for benchmark in found:
        if benchmark.scoring is None or benchmark.classifies:
            raise ConfigError(
                f"study '{plan.study.study}' wants a column of {benchmark.benchmark}, which only a server scores or "
                "which has no videos: take it out of selection.columns"
            )
    return tuple(found)


def best_row(rows: Sequence[Mapping[str, Any]], metric: str) -> int:
    """The place of the row with the largest value of a metric; of equal ones the last."""
    return max(range(len(rows)), key=lambda i: (rows[i].get(metric, 0.0), i))


def held_out(plan: Plan) -> list[Video]:
    """The held-out training sequences of a study.

    Raises:
        ConfigError: if the selection split names a sequence that its set lacks.
    """
    selection = plan.study.selection
    videos = {v.name: v for v in training_videos(selection.set, plan.study.data)}
    missing = [name for name in selection.sequences if name not in videos]
    if missing:
        raise ConfigError(
            f"study '{plan.study.study}' selects on {', '.join(missing)}, which {selection.set} does "
            "not have: correct selection.sequences"
        )
    found = [videos[name] for name in selection.sequences]
    require_frames(found)
    return found


def _evaluate(run: Run, weights: Path, videos: list[Video], device: torch.device, score: Scorer) -> dict[str, float]:
    variant = run.default_variant_params
    card = get_method(run.method)
    model = inference_model(run.method, run.model, weights=weights, seed=run.seed, device=device)
    predictions, truth = {}, {}
    for video in videos:
        results = segment_video(
            lambda: card.segmenter(model, **variant),
            video,
            device=device,
            short_side_px=run.size.input_short_side_px,
        )
        predictions[video.name] = {result.frame: result.labels for result in results}
        truth[video.name] = {f: read_annotation(video, f) for f in video.annotations}
    values = score(predictions, truth).global_
    return {name: float(values[name]) for name in _METRICS}


def _source_weights(run: Run, device: torch.device) -> Path:
    """Weights that no stage made: random ones are drawn and kept, imported ones must be there."""
    if run.params.weights == "imported":
        path = paths.imported_weights(run.method, run.recipe)
        if not path.is_file():
            raise DataError(
                f"{path} is missing: import the released checkpoint with "
                f"`vosrepro weights import {run.method} FILE --recipe {run.recipe}`"
            )
        return path
    network = build_model(run.method, run.model, weights=None, seed=run.seed, device=device)
    assert network is not None
    path = run.folder / "random.safetensors"
    facts = {"method": run.method, "model": dict(run.model), "random_seed": run.seed}
    save_weights(path, network.state_dict(), facts)
    return path


def _only_candidate(run: Run) -> str:
    if run.params.selection == "last" and run.stages:
        return "the last checkpoint, trained on all videos of its sets"
    return f"only one candidate ({run.params.weights} weights)"


def _write(
    plan: Plan, run: Run, rows: list[dict[str, Any]], best: int, weights: Path, identity: str, seconds: float
) -> None:
    selection = plan.study.selection
    columns = ("step", *_METRICS, *(name for name in rows[0] if "/" in name))
    lines = [",".join((*columns, "selected", "last"))]
    for index, row in enumerate(rows):
        flags = (str(index == best).lower(), str(index == len(rows) - 1).lower())
        lines.append(",".join([*(str(row.get(c, "")) for c in columns), *flags]))
    write_text(run.candidates, "\n".join(lines) + "\n")
    with atomic(run.folder / paths.SELECTED_WEIGHTS) as temporary:
        shutil.copyfile(weights, temporary)
    rule = f"best {selection.metric} on {len(selection.sequences)} held-out {selection.set} sequences"
    SelectionRecord(
        step=rows[best]["step"],
        metric=selection.metric,
        value=rows[best].get(selection.metric),
        last_step=rows[-1]["step"],
        last_value=rows[-1].get(selection.metric),
        weights=str(weights),
        weights_sha256=file_digest(run.folder / paths.SELECTED_WEIGHTS),
        identity=identity,
        code=code_of("select", run.method),
        scorer=code_of("scorer"),
        rule=rule if len(rows) > 1 else _only_candidate(run),
        sequences=selection.sequences if run.params.selection == "held-out" else (),
        training_digest=read_record(StageRecord, run.stages[-1].record).state_digest if run.stages else None,
        wall_seconds=round(seconds, 3),
        provenance=Provenance.here(),
    ).write(run.selection)
