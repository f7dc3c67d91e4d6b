from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vosrepro.base.errors import DataError
from vosrepro.base.labels import write_labels
from vosrepro.datasets import Video
from vosrepro.inference.clock import FrameTime, summarize
from vosrepro.inference.runner import Objects, segment_video

CPU = torch.device("cpu")


class Recorder:
    """Keeps what it is given; returns certainty for the last known labels."""

    def __init__(self):
        self.calls = []
        self.labels = None

    def init(self, frame, mask):
        self.calls.append(("init", frame, mask))
        self.labels = mask.long()

    def step(self, frame, new=None):
        self.calls.append(("step", frame, new))
        if new is not None:
            self.labels = torch.where(new > 0, new.long(), self.labels)
        count = int(self.labels.max())
        return torch.nn.functional.one_hot(self.labels, count + 1).permute(2, 0, 1).float()


def make_video(folder, masks, *, frames=4, size=(20, 30), starts=None):
    """Frames of noise with the given {frame number: label map}."""
    rng = np.random.default_rng(0)
    images, annotations = [], {}
    folder.mkdir(exist_ok=True)
    for index in range(frames):
        path = folder / f"{index:05d}.jpg"
        cv2.imwrite(str(path), rng.integers(0, 255, (*size, 3), dtype=np.uint8))
        images.append(path)
    for index, labels in masks.items():
        path = folder / f"{index:05d}.png"
        write_labels(path, labels)
        annotations[path.stem] = path
    if starts is None:
        starts = {}
        for index, labels in sorted(masks.items()):
            for identity in np.unique(labels[labels > 0]).tolist():
                starts.setdefault(identity, f"{index:05d}")
    return Video("clip", tuple(images), annotations, starts)


def square(identity, top=2, left=3, size=(20, 30)):
    labels = np.zeros(size, np.uint8)
    labels[top : top + 6, left : left + 6] = identity
    return labels


def test_ids_are_consecutive_inside_and_restored_outside(tmp_path):
    first = square(7) + square(3, top=12)
    recorder = Recorder()
    results = list(segment_video(lambda: recorder, make_video(tmp_path, {0: first}), device=CPU))
    assert sorted(np.unique(recorder.calls[0][2]).tolist()) == [0, 1, 2]
    assert [r.frame for r in results] == ["00000", "00001", "00002", "00003"]
    assert all(np.array_equal(r.labels, first) for r in results)


def test_a_late_object_is_handed_over_on_its_frame_alone(tmp_path):
    masks = {0: square(5), 2: square(5) + square(9, top=12)}
    recorder = Recorder()
    results = list(segment_video(lambda: recorder, make_video(tmp_path, masks), device=CPU))
    handed = [call[2] for call in recorder.calls]
    assert handed[1] is None
    assert handed[3] is None
    assert torch.unique(handed[2]).tolist() == [0, 2]
    assert set(np.unique(results[1].labels)) == {0, 5}
    assert set(np.unique(results[3].labels)) == {0, 5, 9}
    assert [r.time.objects for r in results] == [1, 1, 2, 2]


def test_frames_before_the_first_mask_are_left_out(tmp_path):
    recorder = Recorder()
    video = make_video(tmp_path, {2: square(1)})
    results = list(segment_video(lambda: recorder, video, device=CPU))
    assert [r.frame for r in results] == ["00002", "00003"]


def test_frames_are_rgb_in_0_1_at_the_evaluation_size_and_labels_at_the_file_size(tmp_path):
    recorder = Recorder()
    video = make_video(tmp_path, {0: square(1)})
    results = list(segment_video(lambda: recorder, video, device=CPU, short_side_px=40))
    frame = recorder.calls[0][1]
    assert frame.shape == (3, 40, 60)
    assert frame.dtype == torch.float32
    assert 0.2 < float(frame.mean()) < 0.8
    assert results[1].labels.shape == (20, 30)
    assert np.array_equal(results[0].labels, square(1))


def test_a_video_of_one_frame_gives_its_mask(tmp_path):
    results = list(segment_video(Recorder, make_video(tmp_path, {0: square(3)}, frames=1), device=CPU))
    assert [np.array_equal(r.labels, square(3)) for r in results] == [True]


def test_ids_up_to_254_with_gaps_come_back(tmp_path):
    first = square(254) + square(1, top=12) + square(100, left=20)
    results = list(segment_video(Recorder, make_video(tmp_path, {0: first}), device=CPU))
    assert all(np.array_equal(r.labels, first) for r in results)


def test_an_empty_first_mask_names_the_file(tmp_path):
    video = make_video(tmp_path, {0: np.zeros((20, 30), np.uint8)}, starts={1: "00000"})
    with pytest.raises(DataError, match=r"00000\.png has no object pixel"):
        list(segment_video(Recorder, video, device=CPU))


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path):
    video = make_video(tmp_path, {0: square(1, size=(20, 31))})
    with pytest.raises(DataError, match="31x20 pixels but its image is 30x20"):
        list(segment_video(Recorder, video, device=CPU))


def test_a_video_without_any_mask_is_named(tmp_path):
    with pytest.raises(DataError, match="clip has no annotated first frame"):
        list(segment_video(Recorder, make_video(tmp_path, {}), device=CPU))


def test_an_object_that_appears_again_keeps_its_number():
    objects = Objects()
    objects.add(np.array([[4, 0]], np.uint8), {4})
    assert objects.add(np.array([[4, 6]], np.uint8), {4, 6}).tolist() == [[0, 2]]
    assert objects.ids == [4, 6]


def test_objects_of_one_frame_are_numbered_in_the_order_that_is_asked_for():
    objects = Objects([6, 4])
    assert objects.add(np.array([[4, 6, 2]], np.uint8), {2, 4, 6}).tolist() == [[2, 1, 3]]
    assert objects.restore(np.array([1, 2, 3], np.uint8)).tolist() == [6, 4, 2]


def test_a_frame_of_another_size_than_those_before_is_named(tmp_path):
    video = make_video(tmp_path, {0: square(1)})
    cv2.imwrite(str(video.frames[2]), np.zeros((20, 28, 3), np.uint8))
    with pytest.raises(DataError, match="frame 00002 of clip is 28x20 pixels .* before it are 30x20"):
        list(segment_video(Recorder, video, device=CPU))


class Previewed(Recorder):
    def __init__(self):
        super().__init__()
        self.shown = []

    def preview(self, frames):
        self.shown.append((len(self.calls), frames))


def test_a_method_can_see_the_next_frames_in_blocks(tmp_path):
    seen = Previewed()
    video = make_video(tmp_path, {1: square(1)}, frames=12)
    results = list(segment_video(lambda: seen, video, device=CPU, short_side_px=40, preview=True))
    assert [r.frame for r in results] == [f"{i:05d}" for i in range(1, 12)]
    assert [(at, len(frames)) for at, frames in seen.shown] == [(0, 8), (8, 3)]
    for at, frames in seen.shown:
        for offset, frame in enumerate(frames):
            assert torch.equal(frame, seen.calls[at + offset][1])


@pytest.mark.parametrize("block", [2, 3, 7, 8, 32])
def test_labels_that_wait_for_a_block_all_come_out_in_order(tmp_path, block):
    masks = {1: square(5), 4: square(5) + square(9, top=12)}
    video = make_video(tmp_path, masks, frames=8)
    at_once = list(segment_video(Recorder, video, device=CPU, block=1))
    waited = list(segment_video(Recorder, video, device=CPU, block=block))
    assert [r.frame for r in waited] == [f"{i:05d}" for i in range(1, 8)]
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(at_once, waited, strict=True))
    assert [r.time.objects for r in waited] == [r.time.objects for r in at_once] == [1, 1, 1, 2, 2, 2, 2]
    assert [r.time.kind for r in waited] == ["init"] + 6 * ["step"]


def test_a_block_is_handed_out_when_it_is_full_and_not_before(tmp_path):
    recorder = Recorder()
    results = segment_video(lambda: recorder, make_video(tmp_path, {0: square(1)}, frames=8), device=CPU, block=3)
    done = []
    for _ in results:
        done.append(len(recorder.calls))
    assert done == [3, 3, 3, 6, 6, 6, 8, 8]


def test_without_a_gpu_nothing_is_shown_ahead(tmp_path):
    seen = Previewed()
    list(segment_video(lambda: seen, make_video(tmp_path, {0: square(1)}), device=CPU))
    assert seen.shown == []


def test_frames_per_second_follow_their_definitions():
    times = [
        FrameTime("a", "0", "init", 1, 4, 4, 1.0),
        FrameTime("a", "1", "step", 1, 4, 4, 0.5),
        FrameTime("b", "0", "init", 1, 4, 4, 0.25),
        FrameTime("b", "1", "step", 1, 4, 4, 0.25),
    ]
    facts = summarize(times)
    assert facts["fps_amortised"] == pytest.approx(4 / 2.0)
    assert facts["fps_steady"] == pytest.approx(2 / 0.75)
    assert facts["fps_sequence_mean"] == pytest.approx((2 / 1.5 + 2 / 0.5) / 2)
    assert facts["init_seconds_mean"] == pytest.approx(0.625)
    assert facts["latency_median_ms"] == pytest.approx(375)


def test_a_given_mask_is_kept_where_its_object_begins_or_becomes_what_the_evaluation_size_makes_of_it(tmp_path):
    late = square(2, top=3, left=17, size=(40, 60))
    late[9, 23] = 2  # a pixel that half the size does not know
    masks = {0: square(1, top=4, left=5, size=(40, 60)), 2: late}
    video = make_video(tmp_path, masks, frames=3, size=(40, 60))
    options = {"device": CPU, "short_side_px": 20}
    kept = [r.labels for r in segment_video(Recorder, video, **options)]
    made = [r.labels for r in segment_video(Recorder, video, **options, keep_given=False)]
    for index, identity in ((0, 1), (2, 2)):
        given = masks[index] == identity
        small = torch.from_numpy(given[::2, ::2].astype(np.float32))[None, None]  # what `nearest` takes
        back = torch.nn.functional.interpolate(small, (40, 60), mode="bilinear", align_corners=False)[0, 0]
        np.testing.assert_array_equal((made[index] == identity)[back.numpy() != 0.5], (back > 0.5).numpy()[back != 0.5])
    np.testing.assert_array_equal(kept[0], masks[0])
    np.testing.assert_array_equal(kept[2], np.where(masks[2] > 0, masks[2], made[2]))  # elsewhere what it predicts
    assert (made[2] != kept[2]).any()
    np.testing.assert_array_equal(made[1], kept[1])


def test_at_the_size_of_the_files_given_masks_are_kept_either_way(tmp_path):
    masks = {0: square(1), 2: square(2, top=12, left=17)}
    video = make_video(tmp_path, masks, frames=4)
    kept, made = (
        [r.labels for r in segment_video(Recorder, video, device=CPU, keep_given=keep)] for keep in (True, False)
    )
    np.testing.assert_array_equal(np.stack(kept), np.stack(made))
