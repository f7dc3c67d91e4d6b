"""A method that lies in a folder of its own is trained, selected, run and scored like ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
import yaml
from toy_study import infer_run, make_davis17, write_manifest, write_study

from vosrepro.base.errors import ConfigError
from vosrepro.base.extensions import method_module
from vosrepro.base.files import read_json
from vosrepro.inference.select import select_run
from vosrepro.methods import get_method
from vosrepro.scoring import score_arrays
from vosrepro.scoring.entries import score_run
from vosrepro.study.plan import load_plan
from vosrepro.training.loop import train

CPU = torch.device("cpu")

#: Brightness tells object from background, and the object's first position one object from the other.
SEGMENTER = """
import torch
from brightness.model import Brightness


class Segmenter:
    def __init__(self, model: Brightness, *, sharpness: float) -> None:
        self._model, self._sharpness = model, sharpness

    def init(self, frame, mask):
        rows = torch.arange(mask.shape[0])[:, None].expand_as(mask)
        self._rows = [rows[mask == i].float().mean() for i in range(1, int(mask.max()) + 1)]

    def step(self, frame, new=None):
        inside = torch.sigmoid(self._sharpness * self._model(frame[None])[0])
        rows = torch.arange(frame.shape[1])[:, None].expand_as(inside)
        nearest = torch.stack([(rows - row).abs() for row in self._rows]).argmin(0)
        return torch.stack([1 - inside, *(inside * (nearest == i) for i in range(len(self._rows)))])
"""
MODEL = """
import torch
from torch import nn


class Brightness(nn.Module):
    def __init__(self, *, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.tensor(bias))

    def forward(self, frames):
        return frames.mean(-3) * self.weight + self.bias


def train_step(model, batch, *, iteration, scale=1.0):
    logits = model(batch["frames"])
    truth = (batch["labels"] > 0).float()
    return {"loss": scale * nn.functional.binary_cross_entropy_with_logits(logits, truth)}
"""
CARD = """
from vosrepro.base.types import Method
from brightness.model import Brightness, train_step
from brightness.segmenter import Segmenter

METHOD = Method("bright", "Bright is object.", segmenter=Segmenter, build=Brightness, train_step=train_step)
"""
PARAMS = {
    "method": "bright",
    "title": "Brightness",
    "default_variant": "sharp",
    "variants": {"sharp": {"sharpness": 4.0}},
    "sizes": {
        "mini": {
            "model": {"bias": 0.0},
            "stages": {
                "s0": {
                    "title": "DAVIS",
                    "data": [{"set": "davis17-train"}],
                    "clips": {"kind": "video", "size_px": [32, 48], "augment": "mini-video"},
                    "loss": {"scale": 2.0},
                    "batch_size": 2,
                    "steps": 200,
                    "optimizer": {"name": "adam", "lr": 0.5},
                    "checkpoint_every_steps": 100,
                }
            },
            "recipes": {
                "s0": {"title": "trained", "stages": ["s0"]},
                "untrained": {"title": "random weights", "weights": "random"},
            },
        }
    },
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a method, and a folder for its study."""
    site = tmp_path / "site"
    files = {
        "brightness/__init__.py": CARD,
        "brightness/model.py": MODEL,
        "brightness/segmenter.py": SEGMENTER,
        "brightness-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n",
        "brightness-1.0.dist-info/entry_points.txt": "[vosrepro.methods]\nbright = brightness:METHOD\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "brightness"]:
        del sys.modules[name]


@pytest.fixture
def study(package, root, monkeypatch):
    """The toy study of the added method."""
    monkeypatch.chdir(package)
    params = package / "params"
    (params / "methods").mkdir(parents=True)
    (params / "protocols").symlink_to(root / "params/protocols")
    (params / "methods/bright.yaml").write_text(yaml.safe_dump(PARAMS))
    make_davis17(package / "data")
    make_davis17(package / "data", split="train", sequences=3)
    write_manifest()
    entry = {"method": "bright", "recipes": ["untrained", "s0"], "variants": ["sharp"], "benchmarks": ["davis17-val"]}
    return load_plan(write_study(Path(), [entry]), root=params)


def test_a_method_from_another_package_is_trained_selected_run_and_scored(study):
    for node in study.stages:
        train(node, study.study, device="cpu")
    scores = {}
    for run in study.runs:
        select_run(study, run, device=CPU, score=score_arrays)
        infer_run(study, run)
        score_run(study, run)
        (entry,) = study.entries_of(run)
        scores[run.recipe] = read_json(run.scores)["entries"][entry.key]["J-Mean"]
    assert scores["untrained"] < 0.5
    assert scores["s0"] > 0.8


def test_its_package_is_known_and_a_name_of_ours_stays_ours(package):
    assert method_module("bright") == "brightness"
    assert method_module("stm") == "vosrepro.methods.stm"
    assert get_method("bright").name == "bright"
    with pytest.raises(ConfigError, match="there is no method 'brigth': did you mean 'bright'"):
        get_method("brigth")
