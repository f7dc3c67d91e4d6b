"""Inference of a whole run: every variant on every benchmark with its weights.

Finished videos are kept in `state/infer/<digest>/`, so a killed job goes on where it stopped, and an
added variant or benchmark does not repeat the others.
"""

from __future__ import annotations

import csv
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.base.files import file_digest, read_json, value_digest, write_json, write_text
from vosrepro.base.labels import write_labels
from vosrepro.base.machine import peak_memory
from vosrepro.base.provenance import provenance, source_digest
from vosrepro.base.types import Counting
from vosrepro.datasets import Video, benchmark_videos
from vosrepro.datasets.sets.resized import restore
from vosrepro.inference.classify import CHECKPOINT, class_weights, classify_entry
from vosrepro.inference.clock import FrameTime, summarize
from vosrepro.inference.correspondence import write_pairs
from vosrepro.inference.runner import segment_video
from vosrepro.inference.views import write_view
from vosrepro.methods import get_method
from vosrepro.study import paths
from vosrepro.study.plan import Entry, Plan, Run
from vosrepro.tracking.journal import Journal
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from vosrepro.base.types import Method, Segmenter

log = logging.getLogger(__name__)
_WARM_UP_FRAMES = 3


def infer_run(plan: Plan, run: Run, *, device: torch.device) -> None:
    """Write masks and timing.csv, or predictions.csv, and infer.json of every entry, then inference.json.

    Raises:
        ConfigError: if a recipe cannot do what an entry asks for.
        DataError: if a video, mask or list of images is broken.
        CheckpointError: if the weights do not fit.
    """
    started = time.monotonic()
    weights = run.selected_weights
    digest = file_digest(weights) if weights else None
    data = read_json(plan.data_manifest)
    # Classification first: it fails at once where a recipe has no class head.
    entries = sorted(plan.entries_of(run), key=lambda e: not e.benchmark_params.classifies)
    model = None
    if plan.video_entries_of(run):
        model = inference_model(run.method, run.model, weights=weights, seed=run.seed, device=device)
    journal = Journal(run.journal("infer"))
    code = source_digest("inference", f"methods/{run.method}")
    identity = value_digest([digest, [e.key for e in entries], code])
    journal.start(
        key=f"{run.key}/infer/{identity[:8]}",
        study=run.study,
        parent=run.key,
        kind="infer",
        params={e.key: dict(e.variant_params) for e in entries},
        tags={"weights_sha256": digest, "code": code, "data": data.get("digest")},
    )
    with journal:
        records = {}
        for number, entry in enumerate(entries):
            record = _entry_record(plan, entry, model, device, digest, data, code)
            record["data_digest"] = data.get("digest")
            record["provenance"] = provenance()
            write_json(entry.inference, record)
            made = {k: record[k] for k in ("masks_digest", "predictions_digest") if k in record}
            records[entry.key] = {"infer": str(entry.inference), **made}
            name = f"{entry.variant}/{entry.benchmark}"
            rates = {k: v for k, v in record["timing"].items() if v is not None}
            journal.metrics({f"{name}/{k}": v for k, v in rates.items()}, step=number)
        journal.end()
    write_pairs(plan, run, model, device=device)
    write_view(plan, run, model, device=device)
    write_json(
        run.inference,
        {
            "run": run.key,
            "entries": records,
            "weights_sha256": digest,
            "wall_seconds": round(time.monotonic() - started, 3),
            "provenance": provenance(),
        },
    )


def _entry_record(
    plan: Plan,
    entry: Entry,
    model: torch.nn.Module | None,
    device: torch.device,
    digest: str | None,
    data: Mapping[str, Any],
    code: str,
) -> dict[str, Any]:
    """What is written to infer.json, with the weights that were used."""
    if not entry.benchmark_params.classifies:
        if CHECKPOINT in entry.variant_params:
            raise ConfigError(
                f"{entry.key} names a checkpoint of a classifier, but {entry.benchmark} is segmented with selected "
                "weights: take it out of the study"
            )
        record = _infer_entry(plan, entry, model, device, _state(entry, digest, data, code))
        return {**record, "weights": _weights_record(entry.run, digest)}
    path, step = class_weights(entry)
    if not path.is_file():
        raise CheckpointError(f"weights {path} are missing: run the training step first")
    digest = file_digest(path)
    state = _state(entry, digest, data, code)
    record = classify_entry(plan, entry, weights=path, device=device, state=state)
    return {**record, "weights": {"path": str(path), "sha256": digest, "step": step}}


def _infer_entry(
    plan: Plan, entry: Entry, model: torch.nn.Module | None, device: torch.device, state: Path
) -> dict[str, Any]:
    card = get_method(entry.run.method)
    videos = benchmark_videos(entry.benchmark_params, plan.study.data)
    masks = entry.masks
    known = {video.name for video in videos}
    for stale in masks.glob("*") if masks.is_dir() else []:
        if stale.name not in known:
            shutil.rmtree(stale)

    choose_kernels(card, device)

    def new_segmenter() -> Segmenter:
        return card.segmenter(model, **entry.variant_params)

    side, kept = entry.input_short_side_px, entry.benchmark_params.keep_given
    todo = [video for video in videos if not _finished(state, masks, video)]
    log.info("%s: %d videos, %d of them done before", entry.key, len(videos), len(videos) - len(todo))
    started = time.monotonic()
    if todo:
        largest = max(todo, key=lambda v: len(v.starts))
        for _ in segment_video(new_segmenter, largest, device=device, short_side_px=side, frames=_WARM_UP_FRAMES):
            pass
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for video in todo:
        _infer_video(new_segmenter, video, masks / video.name, state, device=device, side=side, keep=kept)
    times = [t for video in videos for t in _read_times(state / f"{video.name}.csv")]
    _write_times(entry.folder / "timing.csv", times)
    notes = {video.name: read_json(state / f"{video.name}.json") for video in videos}
    digests = {name: note["masks"] for name, note in notes.items()}
    return {
        "entry": entry.key,
        "params": dict(entry.variant_params),
        "benchmark": entry.benchmark_params.model_dump(mode="json"),
        "input_short_side_px": entry.input_short_side_px,
        "timing": summarize(times),
        "counts": _totals([note.get("counts", {}) for note in notes.values()]),
        "memory": peak_memory(device),
        "regime": "streamed",
        "device": str(device),
        "precision": "fp32",
        "tf32": bool(device.type == "cuda" and torch.backends.cudnn.allow_tf32),
        "masks_digest": value_digest(digests),
        "wall_seconds": round(time.monotonic() - started, 3),
        "videos_reused": len(videos) - len(todo),
    }


def _infer_video(
    new_segmenter: Callable[[], Segmenter],
    video: Video,
    folder: Path,
    state: Path,
    *,
    device: torch.device,
    side: int | None,
    keep: bool,
) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    times: list[FrameTime] = []
    digests: dict[str, str] = {}
    segmenter = new_segmenter()
    for result in segment_video(lambda: segmenter, video, device=device, short_side_px=side, keep_given=keep):
        path = folder / f"{result.frame}.png"
        labels = result.labels
        write_labels(path, restore(labels, video.original_size or labels.shape))
        digests[result.frame] = file_digest(path)
        times.append(result.time)
    _write_times(state / f"{video.name}.csv", times)
    counts = dict(segmenter.counts) if isinstance(segmenter, Counting) else {}
    record = {"masks": value_digest(digests), "frames": len(times), "counts": counts}
    write_json(state / f"{video.name}.json", record)


def _totals(counts: list[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def _finished(state: Path, masks: Path, video: Video) -> bool:
    """Whether a video's masks are those of its record; one with a damaged record is segmented again."""
    folder = masks / video.name
    try:
        record = read_json(state / f"{video.name}.json")
        times = _read_times(state / f"{video.name}.csv")
        expected = (record["masks"], record["frames"])
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return False
    digests = {path.stem: file_digest(path) for path in sorted(folder.glob("*.png"))}
    return expected == (value_digest(digests), len(times))


def _state(entry: Entry, weights: str | None, data: Mapping[str, Any], code: str) -> Path:
    identity = [entry.key, dict(entry.variant_params), weights, data.get("digest"), code]
    identity += [entry.benchmark_params.model_dump(mode="json"), entry.input_short_side_px]
    identity += [entry.crop_px]
    return paths.inference_state(value_digest(identity))


def _weights_record(run: Run, digest: str | None) -> dict[str, Any] | None:
    if run.selected_weights is None:
        return None
    selected = read_json(run.selection)
    return {"path": str(run.selected_weights), "sha256": digest, "step": selected.get("step")}


def _write_times(path: Path, times: list[FrameTime]) -> None:
    names = [field.name for field in fields(FrameTime)]
    lines = [",".join(names)]
    lines += [",".join(str(v) for v in asdict(t).values()) for t in times]
    write_text(path, "\n".join(lines) + "\n")


def _read_times(path: Path) -> list[FrameTime]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            FrameTime(
                row["sequence"],
                row["frame"],
                row["kind"],
                int(row["objects"]),
                int(row["height"]),
                int(row["width"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(file)
        ]


def choose_kernels(card: Method, device: torch.device) -> None:
    """Let cuDNN try its algorithms where the published evaluation does, as speeds are compared."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = card.tries_kernels
