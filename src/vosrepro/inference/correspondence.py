"""Correspondences that a page shows: pairs of frames of the study's own videos, as one grey image each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from vosrepro.base.files import atomic
from vosrepro.datasets import Video, benchmark_videos, read_annotation, read_frame
from vosrepro.inference.runner import upload
from vosrepro.methods import get_method
from vosrepro.study.records import FramePair, PairsRecord

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.methods.common.correspondence import Correspondence
    from vosrepro.study.plan import Plan, Run

_PAIRS = 3


def write_pairs(plan: Plan, run: Run, model: nn.Module | None, *, device: torch.device) -> None:
    """Write correspondences.json and one image for each of a few videos of the run's first benchmark.

    The source is the first annotated frame, the target the middle of the rest. Row s of an image is what the
    source cell s gives to each target cell (columns), 0..255 of the row's largest weight, which
    `peaks` has. Methods without correspondences write nothing.

    Args:
        plan: the study.
        run: whose weights `model` has.
        model: prepared for inference.
        device: of the model.
    """
    card, entries = get_method(run.method), plan.video_entries_of(run)
    if card.correspond is None or model is None or not entries:
        return
    entry = entries[0]
    videos = benchmark_videos(entry.benchmark_params, plan.study.data)
    folder = run.correspondences
    pairs = []
    for video in videos[:: max(1, len(videos) // _PAIRS)][:_PAIRS]:
        first = min(i for i, f in enumerate(video.frames) if f.stem in set(video.starts.values()))
        last = (first + len(video.frames)) // 2
        side = entry.input_short_side_px
        images = (torch.from_numpy(read_frame(video.frames[i])) for i in (first, last))
        source, target = (upload(image, device, side) for image in images)
        found = card.correspond(model, source, target)
        peaks = found.weights.amax(dim=1, keepdim=True)
        grey = (found.weights / peaks.clamp_min(1e-12) * 255).round().to(torch.uint8).cpu().numpy()
        with atomic(folder / f"{video.name}.png") as temporary:
            temporary.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
        pairs.append(_pair(found, peaks, source, video, first, last))
    PairsRecord(benchmark=entry.benchmark, pairs=tuple(pairs)).write(run.pairs)


def _pair(
    found: Correspondence, peaks: torch.Tensor, source: torch.Tensor, video: Video, first: int, last: int
) -> FramePair:
    return FramePair(
        video=video.name,
        source=str(video.frames[first]),
        target=str(video.frames[last]),
        size=(source.shape[1], source.shape[2]),
        grid=found.grid,
        cell_px=found.cell_px,
        top=found.padding.top,
        left=found.padding.left,
        begin=found.cell(*_on_an_object(video, first, source.shape[1])),
        peaks=tuple(round(float(p), 4) for p in peaks[:, 0]),
    )


def _on_an_object(video: Video, first: int, height: int) -> tuple[int, int]:
    """X and y of the middle pixel of the first frame's largest object, in a frame of this height."""
    labels = read_annotation(video, video.frames[first].stem)
    largest = np.bincount(labels[labels > 0], minlength=1).argmax()
    rows, columns = np.nonzero(labels == largest)
    middle = len(rows) // 2
    scale = height / labels.shape[0]
    return int(columns[middle] * scale), int(rows[middle] * scale)
