from __future__ import annotations

import pytest
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.methods.parts.drawing import draw_parts
from vosrepro.methods.parts.model import PartsNet
from vosrepro.methods.parts.segmenter import PartsSegmenter
from vosrepro.methods.parts.state import FailureParams, Parts, judge_parts

SETTINGS = {"limit": 6, "candidates": 100, "search": {"scales": 1}}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return PartsNet(widths=(8, 8, 16, 16), width=8).eval()


def _scene(frames=4, size=(96, 128), shift=3):
    """A textured square that moves right by `shift` pixels a frame, and its mask in the first frame."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.nn.functional.interpolate(
        torch.rand(1, 3, 12, 16, generator=generator) * 0.3, size, mode="bilinear"
    )[0]
    patch = torch.nn.functional.interpolate(
        0.4 + 0.6 * torch.rand(1, 3, 10, 10, generator=generator), (40, 40), mode="bilinear"
    )[0]
    video = ground.repeat(frames, 1, 1, 1)
    for t in range(frames):
        left = min(20 + shift * t, size[1])
        right = min(left + 40, size[1])
        video[t, :, 30:70, left:right] = patch[..., : right - left]
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[30:70, 20:60] = 1
    return video, mask


def _run(net, video, mask, **changes):
    segmenter = PartsSegmenter(net, **{**SETTINGS, **changes})
    segmenter.init(video[0], mask)
    return segmenter, [segmenter.step(frame) for frame in video[1:]]


def test_parts_move_to_the_peak_of_their_response(net, monkeypatch):
    video, mask = _scene(frames=2)

    def scores(template, search):
        found = torch.full((len(search), 9, 9), -9.0)
        found[:, 4, 5] = 9.0  # one cell to the right
        return found

    monkeypatch.setattr(net.track, "forward", scores)
    segmenter, _ = _run(net, video, mask, failure={"enabled": False}, search={"scales": 1, "window": 0})
    start = PartsSegmenter(net, **SETTINGS)
    start.init(video[0], mask)
    for before, after in zip(start.parts, segmenter.parts, strict=True):
        cell = 2 * (before.box[2] - before.box[0]) / 7
        assert after.box[0] - before.box[0] == pytest.approx(cell, abs=0.05 * cell)
        assert after.box[1] == pytest.approx(before.box[1], abs=0.05 * cell)


@pytest.mark.parametrize("side", [1, 5, 7])
def test_an_object_under_64_pixels_is_tracked_as_one_part(net, side):
    video, mask = _scene()
    mask.zero_()
    mask[40 : 40 + side, 30 : 30 + side] = 1
    segmenter, found = _run(net, video, mask)
    assert [p.whole for p in segmenter.parts] == [True]
    assert all(torch.isfinite(p).all() for p in found)


def test_parts_that_leave_the_frame_are_given_up_and_nothing_breaks(net):
    video, mask = _scene(frames=8, shift=16)
    segmenter, found = _run(net, video, mask)
    assert all(torch.isfinite(p).all() and torch.allclose(p.sum(0), torch.ones(96, 128)) for p in found)
    limit = 2 * max(96, 128)
    assert all(-limit < v < 2 * limit for part in segmenter.parts for v in part.box)


def test_when_all_parts_are_lost_the_object_is_declared_absent(net):
    video, mask = _scene()
    segmenter, found = _run(net, video, mask, failure={"suspend_below": 1.1})
    assert not any(part.active for part in segmenter.parts)
    assert all(float(p[1].max()) < 0.01 for p in found)
    before = PartsSegmenter(net, **SETTINGS)
    before.init(video[0], mask)
    held = zip(before.parts, segmenter.parts, strict=True)
    assert all(a.box == b.box for a, b in held)  # boxes stay where they were


def test_a_lost_object_comes_back_when_its_parts_are_confident_twice(net):
    video, mask = _scene(frames=5)
    segmenter, _ = _run(net, video[:2], mask, failure={"suspend_below": 1.1})
    segmenter._failure = FailureParams(suspend_below=0.0, resume_from=0.0, least_cover=0.0)
    segmenter.step(video[1])
    assert not any(part.active for part in segmenter.parts)
    segmenter.step(video[1])
    assert any(part.active for part in segmenter.parts)


def test_an_object_without_a_pixel_is_never_seen_and_harms_no_other(net):
    video, mask = _scene()
    mask[mask == 1] = 2  # object 1 was swallowed by resizing
    _, found = _run(net, video, mask)
    assert found[0].shape[0] == 3
    assert float(found[0][1].max()) < 0.01


def test_boxes_give_the_union_of_active_parts(net):
    video, mask = _scene()
    segmenter, found = _run(net, video, mask, output="boxes", failure={"enabled": False})
    drawn = found[-1].argmax(0)
    union = torch.zeros_like(drawn)
    for part in segmenter.parts:
        if not part.whole:
            x0, y0, x1, y1 = (round(v) for v in part.box)
            union[max(y0, 0) : y1, max(x0, 0) : x1] = 1
    assert (drawn != union).float().mean() < 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"share_object": 1.0},
        {"share_object": 0.0},
        {"weighting": "uniform"},
        {"weighting": "confidence"},
        {"combine": "favos"},
        {"earlier_in": "frame"},
        {"feedback": "product"},
        {"sampler": "thesis"},
        {"output": "pasted-center"},
        {"search": {"scales": 3}},
        {"search": {"scales": 5}},
        {"search": {"convention": "thesis"}},
        {"refresh_every": 1},
        {"refresh_every": 0},
        {"limit": 0},
        {"limit": 70},
    ],
    ids=str,
)
def test_every_variant_gives_a_distribution(net, changes):
    video, mask = _scene(frames=3)
    mask[10:25, 90:120] = 2
    _, found = _run(net, video, mask, **changes)
    for probabilities in found:
        assert probabilities.shape == (3, 96, 128)
        assert torch.allclose(probabilities.sum(0), torch.ones(96, 128), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": "contours"}, "output 'contours'"),
        ({"combine": "max"}, "combine 'max'"),
        ({"search": {"scale": 3}}, "SearchParams"),
        ({"failure": {"below": 3}}, "FailureParams"),
    ],
)
def test_an_unknown_setting_is_refused_in_a_sentence(net, changes, said):
    with pytest.raises(ConfigError, match=said):
        PartsSegmenter(net, **changes)


def test_chunks_change_nothing(net, monkeypatch):
    video, mask = _scene(frames=3)
    _, whole = _run(net, video, mask)
    monkeypatch.setattr("vosrepro.methods.parts.segmenter._CHUNK", 2)
    _, pieces = _run(net, video, mask)
    assert torch.allclose(whole[-1], pieces[-1], atol=1e-5)


def test_parts_can_be_drawn(net):
    video, mask = _scene()
    segmenter, _ = _run(net, video, mask)
    image = (video[-1].permute(1, 2, 0) * 255).byte().numpy()
    drawn = draw_parts(image, segmenter.parts, scale=2)
    assert drawn.shape == (192, 256, 3)
    assert (drawn != image.repeat(2, 0).repeat(2, 1)).any()
    assert draw_parts(image, []).shape == image.shape


# ------------------------------------------------------------------------------------------- failure


def _parts(count=5):
    flags = torch.zeros(count, dtype=torch.bool)
    whole = flags.clone()
    whole[0] = True
    place = torch.tensor([[50.0, 50, 40]] + [[40.0 + 5 * i, 45, 12] for i in range(1, count)])
    blank = torch.zeros(count, 1, 1, 1)
    return Parts(
        owner=torch.zeros(count, dtype=torch.int64),
        whole=whole,
        place=place,
        first_side=place[:, 2].clone(),
        level=torch.zeros(count, dtype=torch.int64),
        late=flags,
        active=~flags,
        streak=torch.zeros(count, dtype=torch.int64),
        score=torch.ones(count),
        template=blank,
        reference=blank,
        reference_mask=blank[:, 0],
    )


def _judge(parts, proposed, confidence, cover=None):
    cover = torch.ones(len(parts)) if cover is None else cover
    return judge_parts(parts, proposed, confidence, cover, (100, 100), FailureParams())


def test_an_unsure_part_is_suspended_and_carried_with_the_others():
    parts = _parts()
    proposed = parts.place + torch.tensor([4.0, 0, 0])
    proposed[2] = torch.tensor([90.0, 90, 12])
    confidence = torch.tensor([0.9, 0.9, 0.1, 0.9, 0.9])
    after = _judge(parts, proposed, confidence)
    assert after.active.tolist() == [True, True, False, True, True]
    assert after.place[2].tolist() == [54, 45, 12]


def test_a_part_that_strays_from_the_others_is_suspended():
    parts = _parts()
    proposed = parts.place + torch.tensor([1.0, 0, 0])
    proposed[3, 0] += 40
    after = _judge(parts, proposed, torch.full((5,), 0.9))
    assert after.active.tolist() == [True, True, True, False, True]


def test_a_part_whose_center_leaves_the_frame_or_whose_mask_is_empty_is_suspended():
    parts = _parts()
    proposed = parts.place.clone()
    proposed[1, :2] = torch.tensor([-1.0, 45])
    cover = torch.tensor([1.0, 1, 1, 1, 0.01])
    after = _judge(parts, proposed, torch.full((5,), 0.9), cover)
    assert after.active.tolist() == [True, False, True, True, False]


def test_a_suspended_part_needs_two_confident_frames_in_a_row():
    parts = _parts().moved(active=torch.tensor([True, True, False, True, True]))
    sure, unsure = torch.full((5,), 0.9), torch.tensor([0.9, 0.9, 0.4, 0.9, 0.9])
    once = _judge(parts, parts.place, sure)
    assert not once.active[2]
    assert _judge(once, parts.place, sure).active[2]
    broken = _judge(_judge(once, parts.place, unsure), parts.place, sure)
    assert not broken.active[2]
