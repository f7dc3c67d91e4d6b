"""`copy` and `flow`."""

from __future__ import annotations

import torch

from vosrepro.methods import get_method


def _iou(labels, truth):
    return float((labels & truth).sum() / (labels | truth).sum())


def test_copy_repeats_the_first_mask(square_video, square_mask):
    segmenter = get_method("copy").segmenter(None)
    segmenter.init(square_video[0], square_mask)
    for frame in square_video[1:]:
        assert torch.equal(segmenter.step(frame).argmax(0).byte(), square_mask)


def test_flow_follows_a_moving_square(square_video, square_mask):
    segmenter = get_method("flow").segmenter(None)
    segmenter.init(square_video[0], square_mask)
    for frame in square_video[1:]:
        found = segmenter.step(frame).argmax(0)
    truth = torch.zeros_like(square_mask)
    truth[12:26, 18:32] = 1
    assert _iou(found == 1, truth == 1) > 0.75
    assert _iou(square_mask == 1, truth == 1) < 0.2


def test_flow_keeps_a_still_scene_as_it_is(square_video, square_mask):
    segmenter = get_method("flow").segmenter(None)
    segmenter.init(square_video[0], square_mask)
    for _ in range(4):
        found = segmenter.step(square_video[0])
    assert _iou(found.argmax(0) == 1, square_mask == 1) > 0.97
