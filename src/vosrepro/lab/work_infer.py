"""Floating-point operations of a video's first frame and of a later one: counted while they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vosrepro.base.types import without_start_weights
from vosrepro.lab.infer import generated_video
from vosrepro.methods import get_method
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from collections.abc import Callable


class VideoWork(NamedTuple):
    """GFLOP of the first frame, with what a method prepares there, and the mean of the later ones."""

    init: float
    step: float


def video_work(
    method: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    size: tuple[int, int],
    objects: int,
    frames: int,
    count: Callable[[Callable[[], Any]], float],
) -> VideoWork:
    """Work of a method on a generated video, with random weights.

    Args:
        method: its name.
        model: arguments of the network; weights that they name are not read.
        settings: of the segmenter.
        size: height and width of the frames.
        objects: in the first frame.
        frames: of the video; the later ones are averaged, so they should hold what a method does every few frames.
        count: GFLOP of a call, see `vosrepro.lab.work.gflop`.
    """
    device = torch.device("cpu")
    card = get_method(method)
    network = inference_model(method, without_start_weights(model), weights=None, seed=0, device=device)
    segmenter = card.segmenter(network, **settings)
    video, mask = generated_video(frames, size, objects=objects, device=device)

    def later() -> None:
        for frame in video[1:]:
            segmenter.step(frame)

    with torch.inference_mode():
        first = count(lambda: segmenter.init(video[0], mask))
        return VideoWork(first, count(later) / (frames - 1))
