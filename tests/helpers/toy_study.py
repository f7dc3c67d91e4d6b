"""A three-video DAVIS tree and a study of methods without weights, for tests of whole steps."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import yaml

from vosrepro.base.labels import write_labels
from vosrepro.commands.infer import infer
from vosrepro.study.paths import data_manifest
from vosrepro.study.plan import Plan, Run
from vosrepro.study.records import DataManifest


def make_davis17(root: Path, *, split: str = "val", sequences: int = 2, frames: int = 6) -> None:
    """Two squares on noise that move by two pixels a frame, in the official DAVIS 2017 layout."""
    base = root / "DAVIS/2017/trainval"
    names = [f"{split}-{index:02d}" for index in range(sequences)]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        for folder in ("JPEGImages", "Annotations"):
            (base / folder / "480p" / name).mkdir(parents=True, exist_ok=True)
        background = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
        for frame in range(frames):
            image, labels = background.copy(), np.zeros((48, 64), np.uint8)
            for identity, (top, color) in enumerate(((4, 200), (28, 120)), start=1):
                left = 6 + 2 * frame + 3 * number
                image[top : top + 14, left : left + 16] = color
                labels[top : top + 14, left : left + 16] = identity
            stem = f"{frame:05d}"
            cv2.imwrite(str(base / "JPEGImages/480p" / name / f"{stem}.jpg"), image)
            write_labels(base / "Annotations/480p" / name / f"{stem}.png", labels)
    lists = base / "ImageSets/2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n")


def write_study(folder: Path, entries: list[dict], **changes: object) -> Path:
    """params/studies/toy.yaml beside a copy of nothing else; the data root is `data`."""
    value = {
        "study": "toy",
        "title": "toy",
        "size": "mini",
        "data": {"root": "data"},
        "selection": {"set": "davis17-train", "sequences": ["train-00"]},
        "entries": entries,
        **changes,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def write_manifest(study: str = "toy") -> None:
    """The manifest that the data rule would have made."""
    DataManifest(digest="0" * 16).write(data_manifest(study))


def infer_run(plan: Plan, run: Run, *, anew: int = 0) -> None:
    """`vosrepro infer` of a run on the CPU, in this process."""
    named = {"study": plan.study, "method": run.method, "recipe": run.recipe, "seed": run.seed, "anew": anew}
    infer(Namespace(**named, device="cpu", gpus=None, processes=None, threads=None))
