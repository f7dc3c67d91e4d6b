"""Artifacts of a study that never ran, in the shapes that the jobs write: for pages, not for claims.

Predictions are the true masks, displaced more and more along a video; a better system drifts more slowly.
"""

from __future__ import annotations

import csv
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vosrepro.base.files import write_text
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.datasets import Video, benchmark_truth, benchmark_videos, read_annotation
from vosrepro.scoring import score_folder
from vosrepro.study.paths import mlflow_outcome
from vosrepro.study.plan import Entry, Plan, Run, StageNode
from vosrepro.study.records import (
    DataManifest,
    Git,
    Hardware,
    InferenceRecord,
    MlflowOutcome,
    PeakMemory,
    Provenance,
    ScoreRecord,
    SelectionRecord,
    StageRecord,
    Timing,
    WeightsFile,
)
from vosrepro.tracking.journal import Journal

#: Pixels of drift per frame, by recipe.
DRIFT = {"none": 1.6, "untrained": 9.0, "s0": 1.1, "s01": 0.9, "s02": 0.5, "s012": 0.35}


def fabricate(plan: Plan) -> None:
    """Write every artifact of a study below the working directory (its data must exist)."""
    DataManifest(digest="d" * 16, parts={"davis17-val": {"videos": 8}}).write(plan.data_manifest)
    for node in plan.stages:
        _stage(plan, node)
    for run in plan.runs:
        if run.params.weights != "none":
            _selection(run)
        for entry in plan.entries_of(run):
            _entry(plan, entry)
    runs = {f"{run.key}/score/00000000": f"{zlib.crc32(run.key.encode()):032x}" for run in plan.runs}
    outcome = MlflowOutcome(status="complete", tracking_uri="sqlite:///mlflow.db", experiment_id="1", runs=runs)
    outcome.write(mlflow_outcome(plan.study.study))


def fabricate_result(entry: Entry, points: dict[str, float] | None, *, made: str | None = None) -> None:
    """infer.json and, with points (0..100), score.json of one entry; `made` stands for its masks (None: its own)."""
    masks = made or f"{zlib.crc32(entry.key.encode()):016x}"
    InferenceRecord(
        entry=entry.key, device="cpu", precision="fp32", masks_digest=masks, timing=Timing(), memory=PeakMemory()
    ).write(entry.inference)
    if points is not None:
        values = {name: value / 100 for name, value in points.items()}
        record = ScoreRecord(entry=entry.key, protocol=None, global_=values, masks_digest=masks)
        record.write(entry.score)


def facts(command: str) -> Provenance:
    """A provenance block that does not depend on the machine."""
    return Provenance(
        command=f"vosrepro {command}",
        git=Git(commit="0123456789abcdef0123456789abcdef01234567", dirty=False),
        libraries={"torch": "2.15.0", "numpy": "2.4.1"},
        hardware=Hardware(cpu="Fabricated CPU", cores=2, machine="x86_64", gpu=None),
        python="3.11.9",
    )


def stage_record(node: StageNode, **changes: Any) -> StageRecord:
    """The record of a finished training, with other facts where they are given."""
    steps = node.params.checkpoint_steps()
    record = StageRecord(
        stage=node.stage,
        digest=node.digest,
        state_digest="e" * 16,
        data_digest="d" * 16,
        params=node.params.model_dump(mode="json"),
        checkpoints=tuple(WeightsFile(step=s, path=str(node.weights(s)), sha256="ab" * 32) for s in steps),
        world_size=1,
        device="cpu",
        steps=node.params.steps,
        resumed_from=(80,) if node.stage == "s1" else (),
        wall_seconds=31.5 + len(node.recipe),
        samples_per_second=51.0,
        peak_memory_mb=812.0,
        status="FINISHED",
        provenance=facts(f"train --stage {node.stage}"),
    )
    return record.model_copy(update=changes)


def _stage(plan: Plan, node: StageNode) -> None:
    seed = zlib.crc32(f"{node.method}{node.recipe}{node.stage}{node.seed}".encode())
    rng = np.random.default_rng(seed)
    start = 1.0 if node.parent is None else 0.55
    journal = Journal(node.metrics)
    journal.start(
        key=f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}/{node.digest[:8]}",
        study=plan.study.study,
        parent="",
        kind="train",
        params={},
        tags={},
    )
    for step in range(0, node.params.steps, 4):
        loss = start * math.exp(-3 * step / node.params.steps) + 0.15 + 0.05 * rng.standard_normal()
        journal.metrics({"train/loss": loss, "train/iou": 0.9 - 0.7 * loss, "train/lr": 1e-3}, step=step)
    journal.end()
    stage_record(node).write(node.record)


def _selection(run: Run) -> None:
    steps = run.stages[-1].params.checkpoint_steps() if run.stages else (0,)
    values = (
        [0.55 + 0.2 * i / max(len(steps) - 1, 1) - (0.13 if i == len(steps) - 1 else 0) for i in range(len(steps))]
        if run.stages
        else [None]
    )
    best = max(range(len(steps)), key=lambda i: values[i] or 0)
    lines = ["step,J&F-Mean,J-Mean,F-Mean,selected,last"]
    for i, (step, value) in enumerate(zip(steps, values, strict=True)):
        numbers = [str(value), str(value - 0.02), str(value + 0.02)] if value is not None else [""] * 3
        flags = [str(i == best).lower(), str(i == len(steps) - 1).lower()]
        lines.append(",".join([str(step), *numbers, *flags]))
    write_text(run.candidates, "\n".join(lines) + "\n")
    SelectionRecord(
        step=steps[best],
        metric="J&F-Mean",
        value=values[best],
        last_step=steps[-1],
        last_value=values[-1],
        weights_sha256="cd" * 32,
        rule="best J&F-Mean on 4 held-out",
        provenance=facts("select"),
    ).write(run.selection)


def _entry(plan: Plan, entry: Entry) -> None:
    benchmark = entry.benchmark_params
    videos = benchmark_videos(benchmark, plan.study.data)
    truth = benchmark_truth(benchmark, plan.study.data)
    rows = [["sequence", "frame", "kind", "objects", "height", "width", "seconds"]]
    for video in videos:
        rows += _video(entry, video, truth.folder / video.name)
    with_text = "\n".join(",".join(map(str, r)) for r in rows) + "\n"
    write_text(entry.folder / "timing.csv", with_text)
    speed = {"copy": 4000.0, "flow": 92.0}.get(entry.run.method, 38.0)
    speed *= 1.2 if entry.variant == "top50" else 1.0
    weights = WeightsFile(path="selected.safetensors", sha256="cd" * 32, step=160)
    InferenceRecord(
        entry=entry.key,
        params=dict(entry.variant_params),
        device="cpu",
        precision="fp32",
        masks_digest=f"{zlib.crc32(entry.key.encode()):016x}",
        wall_seconds=4.0,
        weights=None if entry.run.selected_weights is None else weights,
        timing=Timing(
            fps_amortised=speed,
            fps_steady=speed * 1.1,
            fps_sequence_mean=speed * 1.02,
            init_seconds_mean=0.05,
            latency_median_ms=26.0,
            latency_p95_ms=40.0,
            frames=90,
            sequences=len(videos),
        ),
        memory=PeakMemory(peak_rss_mb=640.0),
        provenance=facts("infer"),
    ).write(entry.inference)
    score = score_folder(
        entry.folder / "masks",
        truth.folder,
        benchmark.scoring or "davis2017",
        sequences=truth.sequences,
        meta=truth.meta,
    )
    score.write(entry.folder, extra={"entry": entry.key, "provenance": facts("score-run")})


def _video(entry: Entry, video: Video, truth: Path) -> list[list[Any]]:
    drift = DRIFT[entry.run.recipe] + 0.08 * (entry.variant == "full") + 0.1 * entry.run.seed
    drift *= 0.6 + zlib.crc32(video.name.encode()) % 100 / 70
    rows, known, age = [], None, 0
    for path in video.frames:
        label = truth / f"{path.stem}.png"
        if path.stem in video.annotations:
            known = read_annotation(video, path.stem)
        elif label.is_file():
            known = read_labels(label)
        first = not rows
        age += 0 if first else 1
        shift = round(drift * age)
        moved = np.roll(known, (shift // 2, shift), (0, 1)) if known is not None else None
        if moved is None:
            continue
        if entry.run.method == "copy":
            start = next(iter(video.annotations))
            moved = read_annotation(video, start) if not first else moved
        moved = _allowed(moved, video)
        write_labels(entry.folder / "masks" / video.name / f"{path.stem}.png", moved)
        height, width = moved.shape
        rows.append([video.name, path.stem, "init" if first else "step", len(video.starts), height, width, 0.02])
    return rows


def _allowed(labels: np.ndarray, video: Video) -> np.ndarray:
    return np.where(np.isin(labels, list(video.starts)), labels, 0).astype(np.uint8)


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV file as dictionaries."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
