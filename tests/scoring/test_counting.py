"""The counting core against a slow second implementation."""

from __future__ import annotations

import numpy as np
import pytest
import slow_scorer
from hypothesis import given, settings
from hypothesis import strategies as st

from vosrepro.scoring.counting.counting import COUNTS, Counter
from vosrepro.scoring.counting.disc import dilation_plan, half_widths, radius
from vosrepro.scoring.counting.matching import BoundaryMatcher, match_plain
from vosrepro.scoring.counting.packing import pack_objects
from vosrepro.scoring.counting.png import LabelImage
from vosrepro.scoring.counting.scratch import Scratch


def count(truth: np.ndarray, prediction: np.ndarray, ids=(1,)) -> np.ndarray:
    counter = Counter()
    pair = [pack_objects(LabelImage(*a.shape, a.astype(np.uint8)), ids)[0] for a in (truth, prediction)]
    out = np.zeros((len(ids), len(COUNTS)), np.int64)
    counter.add(*pair, out)
    counter.flush()
    return out


def scene(seed: int, height: int, width: int, objects: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for _ in range(int(generator.integers(0, 7))):
        y, x = int(generator.integers(0, height)), int(generator.integers(0, width))
        h, w = int(generator.integers(1, height + 1)), int(generator.integers(1, width + 1))
        if generator.random() < 0.4:
            h, w = 1, 1
        labels[y : y + h, x : x + w] = generator.integers(0, objects + 1)
    return labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 70),
    width=st.one_of(st.integers(1, 140), st.sampled_from([63, 64, 65, 127, 128, 129, 192])),
    objects=st.integers(1, 4),
)
def test_counts_equal_the_slow_implementation(seed, height, width, objects):
    truth, prediction = scene(seed, height, width, objects), scene(seed + 1, height, width, objects)
    ids = tuple(range(1, objects + 1))
    found = count(truth, prediction, ids)
    for row, k in zip(found, ids, strict=True):
        assert row.tolist() == slow_scorer.counts(truth == k, prediction == k)


@pytest.mark.parametrize("size", [(480, 854), (720, 405), (120, 1200), (600, 1400)])
def test_counts_of_large_frames_equal_the_slow_implementation(size):
    truth, prediction = scene(3, *size, 2), scene(4, *size, 2)
    truth[5:9, -3:] = 1
    prediction[-2:, -9:] = 1
    for row, k in zip(count(truth, prediction, (1, 2)), (1, 2), strict=True):
        assert row.tolist() == slow_scorer.counts(truth == k, prediction == k)


@pytest.mark.parametrize("reach", [1, 7, 8, 9, 16, 17, 24])
def test_halo_words_equal_plain_words(reach):
    generator = np.random.default_rng(reach)
    bits = generator.random((2, 40, 256)) < 0.01
    bits[:, :, :63] = False  # all but the last bit of the first word stay empty
    words = np.packbits(bits, axis=2, bitorder="little").view("<u8")
    buffer = np.append(words.reshape(-1), np.uint64(0))
    out = np.zeros(2, np.int64)
    matcher = BoundaryMatcher(reach, Scratch())
    matcher.add(buffer, words.shape, out)
    matcher.flush()
    assert tuple(out) == match_plain(words[0], words[1], reach)
    near_prediction = slow_scorer.near(bits[1], reach)
    assert out[0] == (bits[0] & near_prediction).sum()


def test_batches_do_not_leak_into_each_other():
    counter = Counter()
    frames = [(scene(k, 90, 150, 2), scene(k + 50, 90, 150, 2)) for k in range(40)]
    outs = []
    for truth, prediction in frames:
        pair = [pack_objects(LabelImage(*a.shape, a), (1, 2))[0] for a in (truth, prediction)]
        outs.append(np.zeros((2, len(COUNTS)), np.int64))
        counter.add(*pair, outs[-1])
    counter.flush()
    for out, (truth, prediction) in zip(outs, frames, strict=True):
        assert (out == count(truth, prediction, (1, 2))).all()


def test_radius_and_disc_are_those_of_the_official_tool():
    sizes = {
        (480, 854): 8,
        (480, 910): 9,
        (720, 1280): 12,
        (1080, 1920): 18,
        (360, 640): 6,
        (32, 32): 1,
    }
    assert {size: radius(*size) for size in sizes} == sizes
    assert half_widths(8) == [8, 7, 7, 7, 6, 6, 5, 3, 0]
    assert sum(2 * (2 * w + 1) for w in half_widths(8)) - 17 == 197


@pytest.mark.parametrize("reach", range(1, 40))
def test_dilation_plan_covers_each_row_without_gaps(reach):
    width, rows = 0, []
    for step in dilation_plan(reach):
        for shift in step.shifts:
            assert shift <= 2 * width + 1
            width += shift
        rows += [(dy, width) for dy in step.rows]
    assert sorted(rows) == list(enumerate(half_widths(reach)))


def test_a_mask_that_fills_the_frame_has_no_boundary():
    full = np.ones((30, 70), np.uint8)
    assert count(full, full)[0].tolist() == [2100, 2100, 2100, 0, 0, 0, 0]


def test_a_lone_corner_pixel_has_its_known_boundary():
    for (y, x), pixels in {(0, 0): 1, (-1, -1): 3, (10, 20): 4}.items():
        mask = np.zeros((30, 70), np.uint8)
        mask[y, x] = 1
        assert count(mask, mask)[0, 3] == pixels
