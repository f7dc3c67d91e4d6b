"""What training must know of each set: its rules by hand, the spacing of its labels against its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.datasets import training_facts, training_pictures, training_videos
from vosrepro.datasets.sets import youtube
from vosrepro.datasets.sets.bl30k import large_labels
from vosrepro.datasets.sets.catalog import TRAINING_SETS
from vosrepro.datasets.sets.files import frame_names

FULL = 480 * 854
VIDEOS = [name for name, known in TRAINING_SETS.items() if known.facts.videos]


def shown(sequence, areas, *, label=1, set_name="davis17-train", pixels=FULL):
    return training_facts(set_name).visible(sequence, label, np.array(areas), pixels).tolist()


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


def test_bl30k_keeps_large_objects_and_small_ones_that_stay_small():
    labels = np.zeros((3, 384, 384), np.uint8)
    labels[0].reshape(-1)[:901] = 1  # large
    labels[0].reshape(-1)[1000:1900] = 2  # 900 is not more than 900, and it grows
    labels[1].reshape(-1)[1000:1400] = 2
    labels[0].reshape(-1)[2000:2101] = 3  # 101 and at most 399 elsewhere
    labels[2].reshape(-1)[2000:2399] = 3
    labels[0].reshape(-1)[3000:3100] = 4  # 100 is too small
    assert large_labels(labels) == [1, 3]


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_per_label_is_the_distance_of_labeled_frames_in_their_numbers(name, broken):
    every = "\n".join(video.name for video in training_videos("ytvos-train-all", broken))
    for place, _ in youtube.LISTS.values():
        (Path(broken.root) / "YouTube" / place).write_text(every)
    for video in training_videos(name, broken):
        labeled = sorted(int(frame) for frame in set(frame_names(video.frames)) & set(video.annotations))
        assert set(np.diff(labeled).tolist()) == {training_facts(name).frames_per_label}


@pytest.mark.parametrize("name", VIDEOS)
def test_only_bl30k_leaves_small_objects_out(name):
    labels = np.zeros((2, 64, 64), np.uint8)
    labels[:, :40, :40], labels[0, 50, 50] = 2, 7
    assert training_facts(name).worth_learning(labels) == ([2] if name == "bl30k" else [2, 7])


@pytest.mark.parametrize("name", VIDEOS)
def test_only_davis_asks_for_a_quarter_of_the_largest_area(name):
    assert shown("bear", [4000, 999], set_name=name) == [True, not name.startswith("davis")]


def test_a_set_of_pictures_is_no_set_of_videos_and_a_mistyped_one_is_named(small):
    with pytest.raises(ConfigError, match="training set of videos 'static'"):
        training_videos("static", small)
    with pytest.raises(ConfigError, match="training set of pictures 'bl30k'"):
        training_pictures("bl30k", small)
    with pytest.raises(ConfigError, match="training set 'bl30'.*bl30k"):
        training_facts("bl30")
