from __future__ import annotations

import numpy as np
import pytest

from vosrepro.methods.parts.boxes import side_table, tight_box
from vosrepro.methods.parts.sampling import (
    cover_object,
    foreground_fraction,
    inside_image,
    part_generator,
    sample_parts,
    suppress,
    thesis_suppress,
)


def _disc(size=(120, 160), center=(60, 80), radius=35):
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2


def _sample(mask, **changes):
    settings = {"limit": 8, "candidates": 300, "rng": part_generator("x", 0)} | changes
    return sample_parts(mask, **settings)


def test_part_0_is_the_square_around_the_object():
    mask = np.zeros((100, 120), bool)
    mask[20:60, 30:50] = True
    assert _sample(mask)[0].tolist() == [40, 40, 40]


def test_parts_lie_inside_of_the_frame_on_the_object_and_cover_it():
    mask = _disc()
    parts = _sample(mask)
    assert len(parts) == 9
    half = parts[1:, 2:] / 2
    boxes = np.hstack([parts[1:, :2] - half, parts[1:, :2] + half]).astype(int)
    assert inside_image(mask.shape, boxes).all()
    assert (foreground_fraction(mask, boxes) >= 0.35).all()
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in boxes:
        covered[y0:y1, x0:x1] = True
    assert (covered & mask).sum() > 0.6 * mask.sum()


def test_the_same_name_and_seed_give_the_same_parts():
    one, other = _sample(_disc()), _sample(_disc())
    assert np.array_equal(one, other)
    assert not np.array_equal(one, _sample(_disc(), rng=part_generator("y", 0)))


@pytest.mark.parametrize("size", [(7, 9), (3, 40), (1, 1)])
def test_an_object_under_64_pixels_or_8_wide_has_only_part_0(size):
    mask = np.zeros((60, 80), bool)
    mask[10 : 10 + size[0], 12 : 12 + size[1]] = True
    assert _sample(mask).shape == (1, 3)


def test_an_object_at_the_border_has_no_part_outside():
    mask = _disc(center=(5, 5))
    parts = _sample(mask)
    half = parts[1:, 2] / 2
    assert (parts[1:, 0] - half >= 0).all()
    assert (parts[1:, 1] - half >= 0).all()


def test_a_kept_box_overlaps_no_kept_box_more_than_allowed():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 40, (60, 2))
    boxes = np.hstack([corner, corner + rng.integers(10, 30, (60, 1))])
    scores = rng.random(60)
    kept = suppress(boxes, scores, max_iou=0.4)
    assert np.all(np.diff(scores[kept]) <= 0)
    for place, i in enumerate(kept):
        for j in kept[:place]:
            low, high = (
                np.maximum(boxes[i, :2], boxes[j, :2]),
                np.minimum(boxes[i, 2:], boxes[j, 2:]),
            )
            shared = (high - low).clip(0).prod()
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[j])]
            assert shared <= 0.4 * (sum(areas) - shared)


def test_suppression_of_nothing_keeps_nothing():
    none = np.zeros((0, 4), np.int64)
    assert len(suppress(none, np.zeros(0), max_iou=0.5)) == 0
    assert len(thesis_suppress(none, max_overlap=0.5)) == 0
    assert len(cover_object(_disc(), none, np.zeros(0), limit=4)) == 0


def test_the_seeds_sampler_gives_parts_and_part_0():
    parts = _sample(_disc(), sampler="thesis", limit=300)
    assert 20 < len(parts) <= 301
    assert parts[0].tolist() == [80.5, 60.5, 69]


def test_the_seeds_sampler_finds_nothing_on_an_object_smaller_than_a_block():
    mask = np.zeros((480, 640), bool)
    mask[100:112, 100:112] = True  # blocks have 16 pixels at 480p
    assert len(_sample(mask, sampler="thesis", limit=300)) == 1


def test_the_table_of_sides_follows_the_size_of_the_image():
    assert side_table(320, image_short_side_px=480) == (64, 32, 152)
    assert side_table(50, image_short_side_px=480) == (16, 24, 96)
    assert side_table(160, image_short_side_px=240) == (32, 16, 76)
    assert side_table(20, image_short_side_px=120)[1] == 12


def test_an_empty_mask_has_no_box():
    assert tight_box(np.zeros((4, 5), bool)) is None
