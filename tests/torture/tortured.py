"""A study of seconds with every kind of job: two stages of training, selection, inference, scoring, pages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from toy_study import make_davis17

ROOT = Path(__file__).resolve().parents[2]
STUDY = Path("params/studies/toy.yaml")
DATA = Path("toydata")
#: What a study makes; parameters and links to the checkout lie beside it.
MADE = ("results", "state", "reports", DATA.name)
_MEASURED = re.compile(r"fps|second|memory|latency|wall|time|rate", re.IGNORECASE)


def make_checkout(folder: Path, *, steps: int = 6) -> None:
    """A folder with the workflow and parameters of this repository, two tiny data sets and the study `toy`."""
    folder.mkdir(parents=True)
    for name in ("workflow", "profiles", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params")
    for split in ("train", "val"):
        make_davis17(folder / DATA, split=split, frames=4)
    path = folder / "params/methods/stm.yaml"
    method = yaml.safe_load(path.read_text())
    method["sizes"]["toy"] = _size(method["sizes"]["mini"], steps)
    path.write_text(yaml.safe_dump(method))
    copying = yaml.safe_load((folder / "params/methods/copy.yaml").read_text())
    copying["sizes"]["toy"] = copying["sizes"]["mini"]
    (folder / "params/methods/copy.yaml").write_text(yaml.safe_dump(copying))
    (folder / STUDY).write_text(yaml.safe_dump(_study()))


def _size(mini: dict[str, Any], steps: int) -> dict[str, Any]:
    clips = {"kind": "video", "frames": 3, "objects": 1, "size_px": [32, 32], "augment": "mini-video"}
    first = mini["stages"]["s0"] | {
        "data": [{"set": "davis17-train"}],
        "batch_size": 2,
        "steps": steps,
        "clips": clips | {"max_jump": [[0.0, 1]]},
        "checkpoint_every_steps": steps // 2,
        "state_every_steps": 2,
        "log_every_steps": 2,
        "loader_workers": 1,
    }
    model = mini["model"] | {"width": 8, "key_dim": 8, "value_dim": 16, "decoder_dim": 8}
    stages = {"s0": first, "s2": first | {"loader_workers": 0}}
    return {"model": model, "stages": stages, "recipes": {"s02": {"title": "both", "stages": ["s0", "s2"]}}}


def _study() -> dict[str, Any]:
    benchmarks = {"benchmarks": ["davis17-val"]}
    return {
        "study": "toy",
        "title": "toy",
        "size": "toy",
        "data": {"root": DATA.name},
        "selection": {"set": "davis17-train", "sequences": ["train-00"]},
        "entries": [
            {"method": "copy", "recipes": ["none"], "variants": ["default"], **benchmarks},
            {"method": "stm", "recipes": ["s02"], "variants": ["top50"], **benchmarks},
        ],
    }


def files(folder: Path) -> list[Path]:
    """All that a study read and made, as paths within its folder."""
    found = (path for name in MADE for path in (folder / name).rglob("*"))
    return sorted(path.relative_to(folder) for path in found if path.is_file())


def kind(path: Path) -> str:
    """A file's path without the names that differ between files of its kind."""
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "DIGEST", str(path))
    text = re.sub(r"\b(train|val)-\d+\b", r"\1", text)
    return re.sub(r"\d+(?=\.(png|jpg|safetensors)$)", "N", re.sub(r"/s[02]/", "/STAGE/", text))


def copy(source: Path, target: Path) -> None:
    """A study's folder with its times of change; nothing is shared with the source, for files are written in place."""
    shutil.copytree(source, target, symlinks=True)


def outcome(folder: Path, *, artifacts: bool = True) -> dict[str, Any]:
    """Everything that an undisturbed study says, without what is measured by a clock.

    Args:
        folder: of the study.
        artifacts: of the weights and masks as well; else of the numbers only.
    """
    found: dict[str, Any] = {"metrics": _timeless(json.loads((folder / "results/toy/metrics.json").read_text()))}
    patterns = ("selection.csv", "*.safetensors", "davis17-val/scores.csv", "masks/*/*.png")
    for pattern in patterns if artifacts else ():
        for path in sorted((folder / "results").rglob(pattern)):
            found[str(path.relative_to(folder))] = _digest(path)
    return found


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """The first thing that is not as expected; empty if there is none."""
    return next((str(key) for key in _keys(expected, found) if expected.get(key) != found.get(key)), "")


def _keys(*values: dict[str, Any]) -> Iterator[str]:
    yield from dict.fromkeys(key for value in values for key in value)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not _MEASURED.search(str(key))}
    return value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def restore(folder: Path, source: Path) -> None:
    """Put the given data back as it was, in place."""
    shutil.rmtree(folder / DATA, ignore_errors=True)
    shutil.copytree(source / DATA, folder / DATA)
    os.utime(folder / DATA)
