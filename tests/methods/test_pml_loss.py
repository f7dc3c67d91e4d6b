from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.datasets import Video
from vosrepro.methods.pml.loss import sample_anchors, triplet_loss, usable_labels
from vosrepro.methods.pml.model import PML
from vosrepro.methods.pml.train import train_step
from vosrepro.study.params import load_method
from vosrepro.training.data.clips import Item, Readers, make_sampler, to_batch

TINY = {
    "norm": "batch",
    "initial_std": None,
    "cell_px": 4,
    "width": 4,
    "blocks": (1, 1, 0, 0),
    "hidden_dim": 8,
    "embedding_dim": 8,
    "coords": "ij",
}


def naive_loss(anchor, anchor_labels, pool, pool_labels, anchors, margin):
    parts = []
    for label, cells in anchors.items():
        total = 0.0
        for cell in cells.tolist():
            same, other = math.inf, math.inf
            for p in range(len(pool)):
                d = float((anchor[cell] - pool[p]).square().sum())
                if int(pool_labels[p]) == label:
                    same = min(same, d)
                else:
                    other = min(other, d)
            total += max(0.0, same - other + margin)
        parts.append(total / len(cells))
    return sum(parts) / len(parts)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_loss_equals_a_double_loop_over_anchors_and_pool(labels):
    generator = torch.Generator().manual_seed(0)
    anchor, pool = (F.normalize(torch.randn(n, 6, generator=generator, dtype=torch.float64), dim=1) for n in (12, 20))
    anchor_labels, pool_labels = torch.arange(12) % labels, torch.arange(20) % labels
    anchors = sample_anchors(anchor_labels, list(range(labels)), 5, generator=generator)
    loss, parts, _ = triplet_loss(anchor, anchor_labels, pool, pool_labels, anchors, margin=0.7)
    expected = naive_loss(anchor, anchor_labels, pool, pool_labels, anchors, 0.7)
    assert float(loss) == pytest.approx(expected, abs=1e-12)
    assert sorted(parts) == list(range(labels))


def test_anchors_are_drawn_with_replacement_from_their_label():
    labels = torch.tensor([0, 1, 1, 0, 2])
    anchors = sample_anchors(labels, [0, 2], 50, generator=torch.Generator().manual_seed(0))
    assert set(anchors[0].tolist()) == {0, 3}
    assert anchors[2].tolist() == [4] * 50


def test_labels_are_usable_only_where_anchor_and_pool_have_two_of_them():
    assert usable_labels(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 0])) == [0, 1]
    assert usable_labels(torch.tensor([0, 1]), torch.tensor([0, 0])) == []
    assert usable_labels(torch.tensor([1, 1]), torch.tensor([1, 1])) == []


def batch(*, empty=()):
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 3, 32, 32, dtype=torch.int64)
    labels[:, :, 8:24, 8:24] = 1
    frames[:, :, 0, 8:24, 8:24] += 1
    for clip in empty:
        labels[clip] = 0
    return {"frames": frames.clamp(0, 1), "labels": labels}


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    model = PML(**TINY)
    losses = []
    for step in range(25):
        values = train_step(model, batch(), iteration=step, cell_px=4)
        gradients = torch.autograd.grad(values["loss"], list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.3 * gradient
        losses.append(values["loss"].item())
    assert losses[-1] < 0.5 * losses[0]
    assert float(values["iou"]) > 0.8


def test_a_clip_without_foreground_counts_as_zero():
    torch.manual_seed(0)
    model = PML(**TINY).eval()
    torch.manual_seed(1)
    both = train_step(model, batch(empty=(1,)), iteration=0, cell_px=4)
    torch.manual_seed(1)
    one = train_step(model, {k: v[:1] for k, v in batch().items()}, iteration=0, cell_px=4)
    assert float(both["loss"]) == pytest.approx(float(one["loss"]) / 2, rel=1e-5)
    assert float(both["skipped"]) == 0.5


def test_a_batch_that_lacks_foreground_everywhere_has_a_zero_gradient():
    model = PML(**TINY)
    values = train_step(model, batch(empty=(0, 1)), iteration=0, cell_px=4)
    values["loss"].backward()
    assert float(values["loss"]) == 0
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters())


def test_objects_can_be_told_apart():
    torch.manual_seed(0)
    model = PML(**TINY)
    values = batch()
    values["labels"][:, :, 20:24] *= 2
    torch.manual_seed(1)
    joined = float(train_step(model, values, iteration=0, cell_px=4)["loss"])
    torch.manual_seed(1)
    apart = float(train_step(model, values, iteration=0, cell_px=4, classes="objects")["loss"])
    assert apart != joined


def test_a_clip_of_two_frames_is_refused():
    values = {k: v[:, :2] for k, v in batch().items()}
    with pytest.raises(ConfigError, match="a clip has 2 frames: set clips.frames to 3"):
        train_step(PML(**TINY), values, iteration=0, cell_px=4)


def test_a_time_coordinate_needs_frame_numbers():
    model = PML(**{**TINY, "coords": "ijt"})
    with pytest.raises(ConfigError, match="time coordinate"):
        train_step(model, batch(), iteration=0, cell_px=4)
    times = torch.tensor([[0, 4, 9], [2, 3, 5]])
    values = train_step(model, {**batch(), "times": times}, iteration=0, cell_px=4)
    assert torch.isfinite(values["loss"])


@pytest.mark.parametrize("stage", ["paper", "paper-zero", "seed"])
def test_clips_of_the_full_stages_feed_their_training_step(stage, in_root):
    params = load_method("pml").sizes["full"].stages[stage]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (330, 400, 3), dtype=np.uint8)
    labels = np.zeros((330, 400), np.uint8)
    labels[20:310, 20:380] = 1
    frames = tuple(Path(f"{i:05}.jpg") for i in range(9))
    video = Video("v", frames, {frame.stem: frame for frame in frames}, {1: "00000"})
    readers = Readers(frame=lambda _: image, labels=lambda *_: labels, mask=np.asarray)
    sampler = make_sampler(params.clips, readers)
    sample = sampler.sample(Item("davis16-train", video), rng, share=0.0)
    assert len(set(sample["times"].tolist())) == 3
    if stage == "seed":
        resized = Image.fromarray(image).resize((321, 321), Image.Resampling.NEAREST)
        assert np.array_equal(sample["frames"][0], np.asarray(resized))
    samples = {name: torch.from_numpy(value)[None] for name, value in sample.items()}
    clip = to_batch(samples, torch.device("cpu"))
    tiny = {**TINY, "cell_px": 8, "norm": params.model["norm"], "coords": params.model["coords"]}
    network = PML(**tiny, head=params.model["head"])
    values = train_step(network, clip, iteration=0, **params.loss)
    assert torch.isfinite(values["loss"])
    assert float(values["skipped"]) == 0
