"""Masks in bfloat16 beside those in float32: the share of pixels whose label is the same, with trained weights.

  vosrepro bench precision --study params/studies/mini.yaml --method stm --recipe s012 --seed 0

All videos of the benchmark are segmented twice with the recipe's selected weights and the method's default variant.
Where a processor has no bfloat16 it is emulated: slower, with the same rounding of weights and features. A method's
card states the share of one recipe (`Method.bf16_equal_share`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.base.machine import computes_bf16, pick_device
from vosrepro.base.targets import SourcePath
from vosrepro.datasets import benchmark_videos
from vosrepro.inference.runner import segment_video
from vosrepro.methods import get_method
from vosrepro.methods.common.precision import resolve_precision, settings_in
from vosrepro.study.plan import load_plan
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from vosrepro.datasets import Video
    from vosrepro.study.plan import Entry, Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose masks are compared."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--method", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--benchmark", help="of the study (default: the first of the method's default variant)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: its own choice)")


def run(args: argparse.Namespace) -> int:
    """Print a line for each video, and one for all."""
    if args.threads:
        torch.set_num_threads(args.threads)
    plan, device = load_plan(args.study), pick_device(args.device)
    entry = _entry(plan, args)
    how = "native" if computes_bf16(device) else "emulated"
    print(f"{entry.key} on {device}, bf16 {how}")
    rows = list(equal_pixels(entry, plan, device))
    width = max(len(row.video) for row in rows)
    for row in [*rows, VideoShare.of_all(rows)]:
        print(f"{row.video:<{width}}  {row.equal / row.pixels:.5f} of all pixels  {row.overlap:.5f} IoU of objects")
    return 0


@dataclass(frozen=True)
class VideoShare:
    """What two precisions have in common on the frames after the first of a video.

    Attributes:
        pixels: how many there are.
        equal: how many of them have one label in both.
        either: how many belong to an object in one of them.
        both: how many belong to the same object in both.
    """

    video: str
    pixels: int
    equal: int
    either: int
    both: int

    @property
    def overlap(self) -> float:
        """Intersection over union of the objects in both precisions."""
        return self.both / self.either if self.either else 1.0

    @staticmethod
    def of_all(rows: list[VideoShare]) -> VideoShare:
        """The sums over videos."""
        sums = (sum(getattr(row, name) for row in rows) for name in ("pixels", "equal", "either", "both"))
        return VideoShare("all", *sums)


def equal_pixels(entry: Entry, plan: Plan, device: torch.device) -> Iterator[VideoShare]:
    """Segment the videos of an entry in both precisions."""
    run, card = entry.run, get_method(entry.run.method)
    resolve_precision(card, "bf16", native=True)
    options: dict[str, Any] = {"weights": run.selected_weights, "seed": run.seed, "device": device}
    models = {name: inference_model(run.method, run.model, **options, precision=name) for name in ("fp32", "bf16")}

    def labels(video: Video, precision: Any) -> np.ndarray:
        settings = settings_in(card, entry.variant_params, precision)
        side = entry.input_short_side_px
        results = segment_video(
            lambda: card.segmenter(models[precision], **settings), video, device=device, short_side_px=side
        )
        return np.stack([result.labels for result in results][1:])

    for video in benchmark_videos(entry.benchmark_params, plan.study.data):
        one, other = labels(video, "fp32"), labels(video, "bf16")
        same = one == other
        counts = (same.size, same.sum(), ((one > 0) | (other > 0)).sum(), (same & (one > 0)).sum())
        yield VideoShare(video.name, *map(int, counts))


def _entry(plan: Plan, args: argparse.Namespace) -> Entry:
    run = plan.run(args.method, args.recipe, args.seed)
    found = [e for e in plan.video_entries_of(run) if args.benchmark in (None, e.benchmark)]
    chosen = [e for e in found if e.variant == plan.methods[args.method].default_variant] or found
    if not chosen:
        raise ConfigError(f"{run.key} segments no videos of '{args.benchmark}' in this study: see `vosrepro plan`")
    return chosen[0]
