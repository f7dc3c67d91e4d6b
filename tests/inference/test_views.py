from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vosrepro.base.labels import write_labels
from vosrepro.datasets import Video
from vosrepro.inference.views import (
    gif_bytes,
    view_frames,
    write_gif,
    write_view,
)
from vosrepro.methods import get_method
from vosrepro.methods.parts.model import PartsNet
from vosrepro.methods.parts.segmenter import PartsSegmenter
from vosrepro.study.plan import load_plan
from vosrepro.weights.files import build_model


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for i in range(4):
        path = tmp_path / f"{i:05d}.jpg"
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(path)
        frames.append(path)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:50, 20:60] = 1
    write_labels(tmp_path / "00000.png", mask)
    return Video("x", tuple(frames), {"00000": tmp_path / "00000.png"}, {1: "00000"})


def test_every_frame_is_drawn_with_its_parts(video, tmp_path):
    torch.manual_seed(0)
    net = PartsNet(widths=(8, 8, 16, 16), width=8).eval()

    def new_segmenter():
        return PartsSegmenter(net, limit=4, candidates=50)

    frames = list(view_frames(get_method("parts"), new_segmenter, video, device=torch.device("cpu")))
    assert [f.shape for f in frames] == [(128, 160, 3)] * 4
    target = tmp_path / "parts.gif"
    write_gif(iter(frames), target)
    with Image.open(target) as opened:
        assert opened.n_frames == 4
    assert gif_bytes(iter(frames))[:6] == b"GIF89a"
    assert Image.open(io.BytesIO(gif_bytes(iter(frames)))).size == (160, 128)


def test_a_run_leaves_an_animation_of_its_parts(tmp_path, monkeypatch, root):
    from toy_study import make_davis17, write_study

    monkeypatch.chdir(tmp_path)
    make_davis17(tmp_path / "data")
    entry = {
        "method": "parts",
        "recipes": ["untrained"],
        "variants": ["full"],
        "benchmarks": ["davis17-val"],
    }
    plan = load_plan(write_study(tmp_path, [entry]), root=root / "params")
    run = plan.runs[0]
    model = build_model("parts", run.model, weights=None, seed=0, device=torch.device("cpu"))
    write_view(plan, run, model, device=torch.device("cpu"))
    with Image.open(run.folder / "parts.gif") as animation:
        assert animation.n_frames == 6
        assert animation.size == (128, 96)
