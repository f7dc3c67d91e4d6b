"""Data sets: loaders, verification, generated data. Usual folders: `vosrepro.datasets.sets.folders.SOURCES`."""

from __future__ import annotations

from vosrepro.datasets.generated import generate
from vosrepro.datasets.prepare.verification import verify
from vosrepro.datasets.sets.catalog import (
    benchmark_images,
    benchmark_truth,
    benchmark_videos,
    training_facts,
    training_pictures,
    training_videos,
)
from vosrepro.datasets.sets.video import StaticImage, Truth, Video, read_annotation, read_frame

__all__ = [
    "StaticImage",
    "Truth",
    "Video",
    "benchmark_images",
    "benchmark_truth",
    "benchmark_videos",
    "generate",
    "read_annotation",
    "read_frame",
    "training_facts",
    "training_pictures",
    "training_videos",
    "verify",
]
