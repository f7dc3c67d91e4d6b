"""Loss, bootstrapping, stage transfer, and that a few steps learn something."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.train import dice_loss, frame_losses, kept_fraction, train_step
from vosrepro.methods.stm.transfer import CONV1, transfer

TINY = {
    "width": 8,
    "key_dim": 8,
    "value_dim": 16,
    "blocks": (1, 1, 1),
    "decoder_dim": 8,
    "norm": "batch",
    "block": "basic",
    "memory_stride": 8,
}


@pytest.mark.oracle
def test_the_bootstrap_fraction_follows_the_published_schedule():
    found = [
        kept_fraction(i, start=20_000, end=70_000, fraction=0.15)
        for i in (0, 19_999, 20_000, 45_000, 70_000, 70_001, 100_000)
    ]
    assert found == pytest.approx([1, 1, 1, 0.575, 0.15, 0.15, 0.15])


def _random(objects=2, size=8):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, objects + 1, size, size)
    labels = torch.randint(0, objects + 1, (2, 2, size, size))
    return logits, labels


def test_without_bootstrapping_the_loss_is_plain_cross_entropy():
    logits, labels = _random()
    losses = frame_losses(logits, labels, torch.ones(2, 2), fraction=1.0)
    for t in range(2):
        assert losses[t] == pytest.approx(F.cross_entropy(logits[:, t], labels[:, t]).item())


def test_bootstrapping_takes_the_hardest_pixels_of_each_sample():
    logits, labels = _random()
    losses = frame_losses(logits, labels, torch.ones(2, 2), fraction=0.25)
    pixels = F.cross_entropy(logits[:, 0], labels[:, 0], reduction="none").flatten(1)
    expected = pixels.sort(dim=1, descending=True).values[:, :16].mean()
    assert losses[0] == pytest.approx(expected.item())


def test_a_missing_object_takes_no_part_in_the_loss():
    logits, labels = _random()
    labels = labels.clamp(max=1)
    both = frame_losses(logits[:, :, :2], labels, torch.ones(2, 1), fraction=1.0)
    lacking = frame_losses(logits, labels, torch.tensor([[1.0, 0.0]] * 2), fraction=1.0)
    assert lacking[0] == pytest.approx(both[0].item())


def test_dice_is_zero_for_a_perfect_answer_and_large_for_background_only():
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    labels[..., 2:6, 2:6] = 1
    perfect = 40 * F.one_hot(labels, 2).permute(0, 1, 4, 2, 3).float()
    background = torch.zeros_like(perfect)
    background[:, :, 0] = 40
    assert dice_loss(perfect, labels, torch.ones(1, 1)) == pytest.approx(0, abs=1e-4)
    assert dice_loss(background, labels, torch.ones(1, 1)) > 0.9


def test_transfer_appends_an_orthogonal_channel_and_leaves_the_rest():
    torch.manual_seed(0)
    single, double = STM(**TINY, objects=1), STM(**TINY, objects=2)
    before = single.state_dict()
    after = transfer(before, double)
    double.load_state_dict(after)
    assert torch.equal(after[CONV1][:, :4], before[CONV1])
    rows = after[CONV1][:, 4].flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(8), atol=1e-5, rtol=0)
    assert all(torch.equal(after[k], before[k]) for k in before if k != CONV1)
    assert before[CONV1].shape[1] == 4


def test_there_is_no_way_back_to_a_single_object():
    with pytest.raises(CheckpointError, match="5 input channels"):
        transfer(STM(**TINY).state_dict(), STM(**TINY, objects=1))


def test_others_are_invisible_to_a_lone_object():
    torch.manual_seed(0)
    single, double = STM(**TINY, objects=1).eval(), STM(**TINY, objects=2).eval()
    double.load_state_dict(transfer(single.state_dict(), double))
    frames, masks = torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 1, 32, 32).round()
    torch.testing.assert_close(single(frames, masks), double(frames, masks), atol=1e-5, rtol=0)


def test_frozen_statistics_do_not_move_in_training_mode():
    model = STM(**{**TINY, "norm": "frozen_bn"}).train()
    model(torch.rand(1, 3, 3, 32, 32), torch.ones(1, 3, 2, 32, 32))
    counters = [v for k, v in model.state_dict().items() if k.endswith("running_mean")]
    assert counters
    assert not any(v.any() for v in counters)


def test_thirty_steps_on_one_clip_learn_it(square_video):
    torch.manual_seed(0)
    labels = torch.zeros(1, 3, 40, 56, dtype=torch.long)
    for i, t in enumerate((0, 2, 4)):
        labels[0, i, 12:26, 8 + 2 * t : 22 + 2 * t] = 1
    batch = {
        "frames": square_video[None, ::2],
        "masks": (labels == 1).float()[:, :, None],
        "labels": labels,
        "selector": torch.ones(1, 1),
    }
    model = STM(**TINY, objects=1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for i in range(30):
        optimizer.zero_grad()
        found = train_step(model, batch, iteration=i, dice_weight=1.0)
        found["loss"].backward()
        optimizer.step()
    assert found["iou"] > 0.6


@pytest.mark.oracle
def test_gradients_of_all_parameters_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # logits too, for small steps
    torch.manual_seed(0)
    model = STM(**TINY | {"width": 4}, objects=2).double().train()
    labels = torch.randint(0, 3, (2, 3, 16, 24))
    masks = torch.stack([(labels == k).double() for k in (1, 2)], dim=2)
    batch = {
        "frames": torch.rand(2, 3, 3, 16, 24, dtype=torch.float64),
        "masks": masks,
        "labels": labels,
        "selector": torch.ones(2, 2, dtype=torch.float64),
    }

    def loss():
        return train_step(model, batch, iteration=0, dice_weight=1.0)["loss"]

    loss().backward()
    step = 1e-6
    for name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        slope = float((above - below) / (2 * step))
        ours = float((parameter.grad * direction).sum())
        assert ours == pytest.approx(slope, rel=1e-4, abs=1e-7), name
