"""What a method shows of a video beside its masks, as pictures: for the report, or to look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.files import atomic
from vosrepro.base.tint import blend
from vosrepro.base.types import Viewed
from vosrepro.datasets import Video, benchmark_videos, read_frame
from vosrepro.inference.runner import segment_video
from vosrepro.methods import get_method

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vosrepro.base.types import Method
    from vosrepro.study.plan import Plan, Run


_MOST_FRAMES = 24  # of the report's animation


class _Watched:
    """A segmenter whose view is remembered after every frame."""

    def __init__(self, segmenter: Any, seen: list[Any]) -> None:
        assert isinstance(segmenter, Viewed)
        self._segmenter: Any = segmenter
        self._seen = seen

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        self._segmenter.init(frame, mask)
        self._seen.append(self._segmenter.view)

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        probabilities = self._segmenter.step(frame, new)
        self._seen.append(self._segmenter.view)
        return probabilities


def write_view(plan: Plan, run: Run, model: nn.Module | None, *, device: torch.device) -> None:
    """Write parts.gif for a run of a method that draws: its first variant on one benchmark video.

    The video is the one with most objects of the benchmark that has most. Methods without `draw` write nothing.

    Args:
        plan: the study.
        run: whose weights `model` has.
        model: prepared for inference.
        device: of the model.
    """
    card, entries = get_method(run.method), plan.video_entries_of(run)
    if card.draw is None or not entries:
        return
    entry = entries[0]
    names = {e.benchmark: e.benchmark_params for e in entries}
    found = [v for b in names.values() for v in benchmark_videos(b, plan.study.data)]
    video = max(found, key=lambda v: len(v.starts))

    def new_segmenter() -> Any:
        return card.segmenter(model, **entry.variant_params)

    frames = view_frames(card, new_segmenter, video, device=device, frames=_MOST_FRAMES)
    write_gif(frames, run.parts_animation)


def view_frames(
    card: Method,
    new_segmenter: Callable[[], Any],
    video: Video,
    *,
    device: torch.device,
    scale: int = 2,
    frames: int | None = None,
) -> Iterator[np.ndarray]:
    """Frames with masks tinted and what the method draws over them.

    Args:
        card: of a method with `draw`.
        new_segmenter: makes a segmenter of the method.
        video: as for inference, at the size of its files.
        device: of the network.
        scale: enlargement.
        frames: at most this many.

    Yields:
        uint8 (scale H, scale W, 3) RGB, from the first annotated frame on.
    """
    assert card.draw is not None
    seen: list[Any] = []
    paths = {path.stem: path for path in video.frames}
    results = segment_video(lambda: _Watched(new_segmenter(), seen), video, device=device, frames=frames)
    for number, result in enumerate(results):
        tinted = blend(read_frame(paths[result.frame]), result.labels)
        yield card.draw(tinted, seen[number], scale=scale)


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
