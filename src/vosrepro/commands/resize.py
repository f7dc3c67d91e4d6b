"""Make the scaled copies of a high-resolution benchmark; a rule of the workflow calls this.

Videos without a mask of their first frame get one of the persons in it, if torchvision's Mask R-CNN weights
lie at weights/maskrcnn_resnet50_fpn.pth.
"""

from __future__ import annotations

import argparse

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import SourcePath
from vosrepro.datasets.sets.catalog import original_videos
from vosrepro.datasets.sets.resized import write_resized
from vosrepro.inference.persons import person_finder
from vosrepro.study.digests import resized_copies
from vosrepro.study.params import load_benchmark, load_study
from vosrepro.study.paths import resized_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which videos."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--benchmark", required=True, help="a benchmark with fit_px, e.g. ali21")


def run(args: argparse.Namespace) -> int:
    """Write the copies and say where they are."""
    data, benchmark = load_study(args.study).data, load_benchmark(args.benchmark)
    if benchmark.fit_px is None:
        raise ConfigError(f"benchmark '{args.benchmark}' is segmented at its own size: it has no fit_px")
    folder = resized_folder(resized_copies(benchmark, data))
    videos = original_videos(benchmark, data)
    write_resized(videos, folder, inside=benchmark.fit_px, find=person_finder)
    print(f"{folder} is complete")
    return 0
