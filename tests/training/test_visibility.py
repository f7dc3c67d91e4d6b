from __future__ import annotations

import numpy as np

from vosrepro.training.data.visibility import visible

FULL = 480 * 854


def shown(sequence, areas, *, label=1, set_name="davis17-train", pixels=FULL):
    return visible(set_name, sequence, label, np.array(areas), pixels).tolist()


def test_an_object_is_visible_with_a_quarter_of_its_largest_area_and_100_pixels():
    assert shown("bear", [4000, 1000, 999, 0]) == [True, True, False, False]
    assert shown("bear", [200, 100, 99, 50]) == [True, True, False, False]


def test_the_smallest_area_is_scaled_to_the_size_of_the_frames():
    assert shown("bear", [26, 25, 24], pixels=FULL // 4) == [True, True, False]


def test_youtube_knows_no_share_of_the_largest_area():
    assert shown("abc", [4000, 101, 99], set_name="ytvos-train") == [True, True, False]


def test_upstreams_exceptions_hold_by_the_name_of_the_sequence():
    assert shown("bus", [4000, 101, 99]) == [True, True, False]
    assert shown("drone", [4000, 400, 399], label=2) == [True, True, False]
    areas = [4000] + [150] * 30
    assert shown("drone", areas, label=1)[16:18] == [True, False]
    assert shown("night-race", areas, label=2) == [True] * 31
