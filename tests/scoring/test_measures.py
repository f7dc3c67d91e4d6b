"""J, F and statistics from counts."""

from __future__ import annotations

import numpy as np
import pytest

from vosrepro.scoring.measures import contour_accuracy, region_similarity, statistics


def test_empty_masks_agree_perfectly():
    empty = np.zeros((1, 7), np.int64)
    assert region_similarity(empty) == [1.0]
    assert contour_accuracy(empty) == [1.0]


def test_one_sided_boundaries_score_zero():
    rows = np.array([[0, 9, 0, 4, 0, 0, 0], [0, 0, 9, 0, 4, 0, 0]])
    assert region_similarity(rows).tolist() == [0, 0]
    assert contour_accuracy(rows).tolist() == [0, 0]


def test_frame_filling_truth_and_empty_prediction_give_no_j_but_full_f():
    row = np.array([[0, 100, 0, 0, 0, 0, 0]])
    assert region_similarity(row) == [0]
    assert contour_accuracy(row) == [1]


def test_f_is_the_harmonic_mean_of_boundary_precision_and_recall():
    row = np.array([[0, 5, 5, 10, 20, 4, 15]])
    precision, recall = 15 / 20, 4 / 10
    assert contour_accuracy(row) == [2 * precision * recall / (precision + recall)]


def test_recall_is_strictly_above_one_half():
    assert statistics(np.array([0.5, 0.5, 0.500001, 0.2])).recall == 0.25


def test_decay_uses_overlapping_quarters():
    values = np.arange(9) / 10  # edges 0, 2, 4, 6, 8, both inclusive
    assert statistics(values).decay == pytest.approx(0.1 - 0.7)
    assert statistics(np.array([0.3])).decay == 0


@pytest.mark.parametrize("length", [255, 256, 257, 512, 513])
def test_decay_of_long_sequences_does_not_wrap(length):
    values = np.linspace(1, 0, length)
    assert statistics(values).decay == pytest.approx(0.75, abs=0.01)
