"""Counted operations, against counts by hand."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

from vosrepro.cli import main
from vosrepro.costs.rates import load_work
from vosrepro.lab.work import gflop, random_samples, stage_work
from vosrepro.study.plan import load_plan


def test_a_convolution_counts_two_operations_for_each_product():
    layer = nn.Conv2d(3, 16, 5, padding=2)
    image = torch.rand(2, 3, 40, 30, requires_grad=True)
    forward = 2 * (2 * 16 * 40 * 30) * (3 * 5 * 5) / 1e9
    assert gflop(lambda: layer(image)) == pytest.approx(forward)
    with torch.inference_mode():
        assert gflop(lambda: layer(image.detach())) == pytest.approx(forward)
    # Backward: as much for the gradient of the weights, and as much again for that of the input.
    assert gflop(lambda: layer(image).sum().backward()) == pytest.approx(3 * forward)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_convolutions_count_their_groups_only(kind):
    layer = kind(8, 12, 3, groups=4, padding=1)
    image = torch.rand(2, 8, 9, 7, requires_grad=True)
    forward = 2 * (2 * 12 * 9 * 7) * (2 * 3 * 3) / 1e9
    assert gflop(lambda: layer(image)) == pytest.approx(forward)
    assert gflop(lambda: layer(image).sum().backward()) == pytest.approx(3 * forward)


def test_a_small_network_counts_the_sum_of_its_layers():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    first, last = 2 * 4 * 36 * 27, 2 * 4 * 36 * 5
    # The image wants no gradient, so the first layer lacks one of the three products.
    count = gflop(lambda: network(torch.rand(1, 3, 6, 6)).sum().backward())
    assert count == pytest.approx((2 * first + 3 * last) / 1e9)


def test_a_sample_of_a_stage_counts_alike_in_every_batch(in_root):
    node = load_plan("params/studies/mini.yaml").stage("stm", "s0", 0, "s0")
    one, two = (stage_work(node, batch=batch) for batch in (1, 2))
    assert one.step == pytest.approx(two.step)
    assert one.step > 0
    assert one.first_visit == 0


def test_work_that_a_cache_saves_is_counted_apart(in_root, tmp_path, monkeypatch):
    node = load_plan("params/studies/mini.yaml").stage("frtm", "rn18-all", 0, "s2")
    model = {**node.model, "frozen": True}
    loss = {**node.params.loss, "target_cache": str(tmp_path / "cache")}
    params = node.params.model_copy(update={"loss": loss})
    cached = type(node)(**{**vars(node), "model": model, "params": params})
    plain = type(node)(**{**vars(node), "model": model})
    found, whole = stage_work(cached), stage_work(plain)
    assert found.first_visit > 0
    assert found.step + found.first_visit == pytest.approx(whole.step)
    assert not list(tmp_path.rglob("*"))  # results of noise stay out of the study's cache


def test_random_samples_look_like_the_loader_s(in_root):
    params = load_plan("params/studies/mini.yaml").stage("stm", "s012", 0, "s2").params
    samples = random_samples(params, 2)
    (height, width), frames, objects = params.clips.size_px, params.clips.frames, 2
    assert samples["frames"].shape == (2, frames, height, width, 3)
    assert samples["masks"].shape == (2, frames, objects, height, width)
    assert {t.dtype for name, t in samples.items() if name in ("frames", "masks", "labels", "selector")} == {
        torch.uint8
    }
    assert set(samples["labels"].unique().tolist()) == {0, 1, 2}


def test_the_command_writes_rows_once(in_root, tmp_path, capsys):
    path = tmp_path / "work.csv"
    arguments = [
        "--study",
        "params/studies/mini.yaml",
        "--method",
        "pml",
        "--frame-size",
        "48x64",
        "--frames",
        "3",
        "--objects",
        "1",
        "--threads",
        "1",
        "--write",
        str(path),
    ]
    assert main(["bench", "work", *arguments]) == 0
    assert "paper" in capsys.readouterr().out
    rows = list(csv.DictReader(path.open()))
    assert {row["kind"] for row in rows} == {"train", "init", "infer"}
    assert all(float(row["gflop"]) > 0 and row["torch"] for row in rows)
    assert len(load_work(path)) == len(rows)
    assert main(["bench", "work", *arguments]) == 0
    assert capsys.readouterr().out == ""
