"""Tracked parts of a video as pictures: for the report, or to look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.files import atomic
from vosrepro.datasets import Video, benchmark_videos, read_frame
from vosrepro.inference.overlay import blend
from vosrepro.inference.runner import segment_video
from vosrepro.methods import get_method
from vosrepro.methods.parts.drawing import draw_parts

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vosrepro.methods.parts.segmenter import PartsSegmenter, PartView
    from vosrepro.study.plan import Plan, Run


_MOST_FRAMES = 24  # of the report's animation


class _Watched:
    """A segmenter that remembers its parts after every frame."""

    def __init__(self, segmenter: PartsSegmenter, seen: list[list[PartView]]) -> None:
        self._segmenter, self._seen = segmenter, seen

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        self._segmenter.init(frame, mask)
        self._seen.append(self._segmenter.parts)

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        probabilities = self._segmenter.step(frame, new)
        self._seen.append(self._segmenter.parts)
        return probabilities


def write_tracked_parts(plan: Plan, run: Run, model: nn.Module | None, *, device: torch.device) -> None:
    """Write parts.gif for a run of a method that tracks parts: its first variant on one benchmark video.

    The video is the one with most objects of the benchmark that has most.

    Args:
        plan: the study.
        run: whose weights `model` has.
        model: prepared for inference.
        device: of the model.
    """
    entry = plan.video_entries_of(run)[0]
    card = get_method(run.method)
    names = {e.benchmark: e.benchmark_params for e in plan.video_entries_of(run)}
    found = [v for b in names.values() for v in benchmark_videos(b, plan.study.data)]
    video = max(found, key=lambda v: len(v.starts))

    def new_segmenter() -> Any:
        return card.segmenter(model, **entry.variant_params)

    frames = part_frames(new_segmenter, video, device=device, frames=_MOST_FRAMES)
    write_gif(frames, run.parts_animation)


def part_frames(
    new_segmenter: Callable[[], PartsSegmenter],
    video: Video,
    *,
    device: torch.device,
    scale: int = 2,
    frames: int | None = None,
) -> Iterator[np.ndarray]:
    """Frames with masks tinted and the boxes of all parts.

    Args:
        new_segmenter: makes a segmenter of the method `parts`.
        video: as for inference, at the size of its files.
        device: of the network.
        scale: enlargement.
        frames: at most this many.

    Yields:
        uint8 (scale H, scale W, 3) RGB, from the first annotated frame on.
    """
    seen: list[list[PartView]] = []
    paths = {path.stem: path for path in video.frames}
    results = segment_video(lambda: _Watched(new_segmenter(), seen), video, device=device, frames=frames)
    for number, result in enumerate(results):
        tinted = blend(read_frame(paths[result.frame]), result.labels)
        yield draw_parts(tinted, seen[number], scale=scale)


def write_gif(frames: Iterator[np.ndarray], target: Path, *, frames_per_second: int = 8) -> None:
    """Write frames as an endless GIF, atomically."""
    with atomic(target) as temporary:
        temporary.write_bytes(gif_bytes(frames, frames_per_second=frames_per_second))


def gif_bytes(frames: Iterator[np.ndarray], *, frames_per_second: int = 8) -> bytes:
    """Frames as the bytes of an endless GIF with one palette per frame."""
    from PIL import Image

    pictures = [Image.fromarray(f).quantize(96, dither=Image.Dither.NONE) for f in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        loop=0,
        optimize=False,
        duration=round(1000 / frames_per_second),
    )
    return buffer.getvalue()
