"""A study of two methods on three tiny videos, whose artifacts are fabricated once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricated import fabricate
from PIL import Image

from vosrepro.base.labels import write_labels
from vosrepro.study.plan import Plan, load_plan

REPOSITORY = Path(__file__).parents[2]
SEQUENCES = ("ants", "bees", "crabs")
FRAMES = 6
HEIGHT, WIDTH = 40, 64

STAGE = {
    "title": "a stage",
    "data": [{"set": "davis17-train"}],
    "clips": {"kind": "video", "size_px": [32, 32]},
    "batch_size": 2,
    "steps": 40,
    "optimizer": {"lr": 0.001},
    "checkpoint_every_steps": 20,
}
METHODS = {
    "copy": {
        "method": "copy",
        "title": "copy",
        "default_variant": "default",
        "variants": {"default": {}},
        "sizes": {"mini": {"recipes": {"none": {"title": "no weights", "weights": "none"}}}},
    },
    "stm": {
        "method": "stm",
        "title": "STM <i>quoted</i>",
        "default_variant": "top50",
        "variants": {"top50": {"top_k": 50}, "full": {"top_k": None}},
        "sizes": {
            "mini": {
                "stages": {"s0": STAGE, "s2": STAGE},
                "recipes": {
                    "untrained": {"title": "random", "weights": "random"},
                    "s0": {"title": "stage 0", "stages": ["s0"]},
                    "s02": {"title": "stages 0 and 2", "stages": ["s0", "s2"]},
                },
            }
        },
    },
}
STUDY = {
    "study": "tiny",
    "title": "Tiny <b>study</b>",
    "size": "mini",
    "data": {"root": "data", "generated": True},
    "seeds": [0, 1],
    "selection": {"sequences": ["ants"]},
    "viewer_sequences": 2,
    "statistics": {"bootstrap_draws": 200, "permutation_draws": 200},
    "entries": [
        {
            "method": "copy",
            "recipes": ["none"],
            "variants": ["default"],
            "seeds": [0],
            "benchmarks": ["davis16-val", "davis17-val"],
        },
        {"method": "stm", "recipes": ["untrained", "s0"], "variants": ["top50"], "benchmarks": ["davis16-val"]},
        {
            "method": "stm",
            "recipes": ["s02"],
            "variants": ["top50", "full"],
            "benchmarks": ["davis16-val", "davis17-val"],
        },
    ],
}


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with parameters, data and all artifacts; do not write into it."""
    folder = tmp_path_factory.mktemp("finished")
    _write_params(folder)
    _write_data(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "fsync", lambda _: None)  # hundreds of files that nobody will miss
        fabricate(load_plan("params/studies/tiny.yaml"))
    return folder


@pytest.fixture
def finished(finished_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the finished study; the working directory is the shared one."""
    monkeypatch.chdir(finished_folder)
    return load_plan("params/studies/tiny.yaml")


@pytest.fixture
def own_copy(finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a private copy that a test may damage."""
    folder = tmp_path / "work"
    shutil.copytree(finished_folder, folder, ignore=shutil.ignore_patterns("reports"))
    monkeypatch.chdir(folder)
    return load_plan("params/studies/tiny.yaml")


@pytest.fixture
def unstarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a study of which nothing was run."""
    _write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return load_plan("params/studies/tiny.yaml")


def _write_params(folder: Path) -> None:
    for name in ("methods", "studies"):
        (folder / "params" / name).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "params" / "protocols", folder / "params" / "protocols")
    shutil.copyfile(REPOSITORY / "params" / "published.csv", folder / "params" / "published.csv")
    for name, value in METHODS.items():
        (folder / "params" / "methods" / f"{name}.yaml").write_text(yaml.safe_dump(value))
    (folder / "params" / "studies" / "tiny.yaml").write_text(yaml.safe_dump(STUDY))


def _write_data(root: Path) -> None:
    for year, tree in (("2016", root / "DAVIS/2016"), ("2017", root / "DAVIS/2017/trainval")):
        lists = tree / "ImageSets" / year
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("\n".join(SEQUENCES) + "\n")
        for number, name in enumerate(SEQUENCES):
            _write_video(tree, name, number, objects=1 if year == "2016" else 2)


def _write_video(tree: Path, name: str, number: int, *, objects: int) -> None:
    rng = np.random.default_rng(number)
    picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    images = tree / "JPEGImages/480p" / name
    images.mkdir(parents=True)
    for frame in range(FRAMES):
        Image.fromarray(np.roll(picture, frame, 1)).save(images / f"{frame:05d}.jpg")
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[8:20, 8 + frame : 24 + frame] = 255 if objects == 1 else 1
        if objects == 2:
            labels[22:34, 30 + frame : 44 + frame] = 2
        write_labels(tree / "Annotations/480p" / name / f"{frame:05d}.png", labels)
