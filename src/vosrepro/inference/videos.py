"""The masks of an entry's videos: what makes them, and what is kept of an earlier, unfinished run.

Every finished video is kept with a record in the entry's state folder, so a killed job goes on where it stopped.
All that a mask depends on besides weights and data is in the import closure of this module and the method's.
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

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, read_json, value_digest, write_json, write_text
from vosrepro.base.fingerprints import masks_digest, video_fingerprints, write_fingerprints
from vosrepro.base.labels import write_labels
from vosrepro.base.machine import peak_memory
from vosrepro.base.types import Counting
from vosrepro.datasets import Video, benchmark_videos
from vosrepro.datasets.sets.files import frame_names
from vosrepro.datasets.sets.resized import restore
from vosrepro.inference.clock import FrameTime, summarize
from vosrepro.inference.runner import segment_video
from vosrepro.methods import get_method
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from vosrepro.base.types import Method, Segmenter
    from vosrepro.study.params import DataParams
    from vosrepro.study.plan import Entry, Run

log = logging.getLogger(__name__)
_WARM_UP_FRAMES = 3


def network_of(run: Run, weights: Path | None, device: torch.device) -> torch.nn.Module | None:
    """The network that segments with a run's weights; None for a method without weights.

    Raises:
        CheckpointError: if the weights do not fit.
    """
    return inference_model(run.method, run.model, weights=weights, seed=run.seed, device=device)


def segment_entry(
    entry: Entry, data: DataParams, model: torch.nn.Module | None, *, device: torch.device, state: Path
) -> dict[str, Any]:
    """Write the masks, masks.csv and timing.csv of an entry and return its record.

    Args:
        entry: of a benchmark of videos.
        data: where the benchmark lies.
        model: of `network_of`.
        device: where to compute.
        state: folder of the finished videos, of this very identity.

    Raises:
        DataError: if a video or a mask is broken.
    """
    card = get_method(entry.run.method)
    videos = benchmark_videos(entry.benchmark_params, data)
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
    made = {name: note["files"] for name, note in notes.items()}
    write_fingerprints(entry.mask_digests, made)
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
        "masks_digest": masks_digest(made),
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
    record = {"masks": value_digest(digests), "files": digests, "frames": len(times), "counts": counts}
    write_json(state / f"{video.name}.json", record)


def choose_kernels(card: Method, device: torch.device) -> None:
    """Let cuDNN try its algorithms where the published evaluation does, as speeds are compared."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = card.tries_kernels


def _totals(counts: list[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def _finished(state: Path, masks: Path, video: Video) -> bool:
    """Whether a video has the masks of its record, one for each frame that the data has now.

    One with a damaged record is segmented again.
    """
    try:
        record = read_json(state / f"{video.name}.json")
        times = _read_times(state / f"{video.name}.csv")
        expected = (record["files"], record["frames"], _due(video))
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return False
    found = video_fingerprints(masks / video.name)
    return expected == (found, len(times), list(found))


def _due(video: Video) -> list[str]:
    """The frames that get a mask: from the first given one to the end, as in `segment_video`."""
    names, begins = frame_names(video.frames), set(video.starts.values())
    first = next((place for place, name in enumerate(names) if name in begins), 0)
    return names[first:]


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
