"""Masks made for tests, and the shared folder of recorded cases."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.labels import write_labels


def shared_path(*parts: str) -> Path:
    """Where a file of the shared development folder would be."""
    root = Path(os.environ.get("VOSREPRO_SHARED", Path(__file__).parents[3] / "shared"))
    return root.joinpath(*parts)


def shared(*parts: str) -> Path:
    """A file of the shared development folder; skips the test where it is absent."""
    path = shared_path(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not here (set VOSREPRO_SHARED)")
    return path


def blobs(seed: int, frames: int = 6, size: tuple[int, int] = (60, 100), objects: int = 2):
    """Frame name -> label map of moving ellipses, one per object."""
    generator = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    center = generator.uniform(0.25, 0.75, (objects, 2)) * size
    speed = generator.uniform(-2, 2, (objects, 2))
    axes = generator.uniform(0.1, 0.25, (objects, 2)) * size
    video = {}
    for t in range(frames):
        labels = np.zeros(size, np.uint8)
        for k in range(objects):
            cy, cx = center[k] + t * speed[k]
            inside = ((y - cy) / axes[k, 0]) ** 2 + ((x - cx) / axes[k, 1]) ** 2 < 1
            labels[inside] = k + 1
        video[f"{t:05d}"] = labels
    return video


def write_video(root: Path, name: str, video) -> None:
    """Write label maps as <root>/<name>/<frame>.png."""
    for frame, labels in video.items():
        write_labels(root / name / f"{frame}.png", labels)
