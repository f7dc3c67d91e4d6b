from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.types import Batch
from vosrepro.datasets.sets.imagenet import LabeledImage
from vosrepro.study.params import ClipParams
from vosrepro.training.data.clips import (
    Item,
    Readers,
    choose_anywhere,
    choose_frames,
    choose_objects,
    load_items,
    make_sampler,
    max_jump_at,
    read_soft_mask,
    to_batch,
)
from vosrepro.training.data.loader import StageSamples, _shares, batches, collate, fits_shared, make_loader


def rng(seed=0):
    return np.random.default_rng(seed)


@given(count=st.integers(3, 100), jump=st.integers(1, 25), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_chosen_frames_stay_inside_the_video_and_within_the_jump(count, jump, seed):
    frames = choose_frames(count, 3, jump, rng(seed))
    ordered = sorted(frames)
    assert frames in (ordered, ordered[::-1])
    assert ordered[0] >= 0
    assert ordered[-1] <= count - 1
    assert all(b - a <= min(count, jump) + 1 for a, b in itertools.pairwise(ordered))


def test_chosen_frames_follow_upstreams_bounds():
    seen = np.array([sorted(choose_frames(20, 3, 5, rng(i))) for i in range(3000)])
    start, first, second = seen.T
    assert set(start) == set(range(16))  # r(n - J + 1)
    assert first.max() == 15  # n - J
    assert second.max() == 18  # n - J // 2
    steps = first[start < 9] - start[start < 9]
    assert set(steps) == set(range(1, 7))  # 1 + r(J + 1)
    np.testing.assert_allclose(np.bincount(steps)[1:] / len(steps), 1 / 6, atol=0.05)


@given(count=st.integers(3, 40), frames=st.integers(2, 3), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_frames_anywhere_are_distinct_and_the_first_can_be_given(count, frames, seed):
    chosen = choose_anywhere(count, frames, rng(seed), first=1)
    assert chosen[0] == 1
    assert len(set(chosen)) == frames
    assert all(0 <= i < count for i in chosen)


def test_frames_anywhere_are_uniform_in_time_and_in_order():
    seen = np.array([choose_anywhere(6, 3, rng(i)) for i in range(3000)])
    for column in seen.T:
        np.testing.assert_allclose(np.bincount(column) / len(column), 1 / 6, atol=0.03)


def test_frames_of_a_video_that_is_too_short_are_repeated():
    assert sorted(choose_anywhere(2, 3, rng())) in ([0, 0, 1], [0, 1, 1])


def test_half_of_the_clips_run_backwards():
    backwards = [np.diff(choose_frames(50, 3, 5, rng(i)))[0] < 0 for i in range(1000)]
    assert 0.45 < np.mean(backwards) < 0.55


def test_the_jump_follows_the_curriculum():
    params = ClipParams(kind="video", max_jump=((0.0, 5), (0.1, 10), (0.9, 5)))
    assert [max_jump_at(params, s) for s in (0.0, 0.099, 0.1, 0.5, 0.9, 1.0)] == [
        5,
        5,
        10,
        10,
        5,
        5,
    ]


def test_objects_are_distinct_and_uniform():
    chosen = [tuple(choose_objects([2, 5, 9], 2, rng(i))) for i in range(600)]
    assert all(a != b for a, b in chosen)
    assert len(set(chosen)) == 6
    assert choose_objects([4], 2, rng()) == [4]
    assert choose_objects([], 2, rng()) == []


def sampler(tiny, *, readers=None, **changes):
    params = ClipParams.model_validate({"kind": "video", "size_px": [16, 24], "augment": "mini-video", **changes})
    readers = Readers(
        **{
            "frame": tiny.fake_frame,
            "labels": tiny.fake_labels,
            "mask": lambda path: np.full((20, 30), 200, np.uint8),
            **(readers or {}),
        }
    )
    return make_sampler(params, readers)


def test_a_video_sample_has_consistent_masks_labels_and_selector(tiny):
    item = Item("davis17-train", tiny.fake_videos("", None)[0])
    for seed in range(20):
        sample = sampler(tiny).sample(item, rng(seed), share=0.0)
        assert sample["frames"].shape == (3, 16, 24, 3)
        assert sample["masks"].shape == (3, 2, 16, 24)
        for k in range(2):
            np.testing.assert_array_equal(sample["masks"][:, k] > 0, sample["labels"] == k + 1)
        present = {k for k in (1, 2) if (sample["labels"][0] == k).any()}
        assert present == set(range(1, 1 + int(sample["selector"].sum())))


def test_without_an_object_the_clip_is_drawn_five_times_and_is_background(tiny):
    calls = []

    def empty(video, frame):
        calls.append(frame)
        return np.zeros((20, 30), np.uint8)

    s = sampler(tiny, readers={"labels": empty})
    sample = s.sample(Item("davis17-train", tiny.fake_videos("", None)[0]), rng(), share=0.0)
    assert len(calls) == 15
    assert sample["labels"].max() == 0
    assert sample["selector"].tolist() == [1, 0]


def test_samples_say_where_in_the_video_their_frames_are(tiny):
    video = tiny.fake_videos("", None)[0]
    s = sampler(tiny, pick="anywhere", augment="resize-video", size_px=[20, 30])
    sample = s.sample(Item("davis17-train", video), rng(), share=0.0)
    assert len(set(sample["times"].tolist())) == 3
    assert sample["lengths"] == 6
    for time, frame in zip(sample["times"], sample["frames"], strict=True):
        np.testing.assert_array_equal(frame, tiny.fake_frame(video.frames[time]))


def test_a_clip_of_one_object_starts_where_it_is_visible(tiny):
    def appears_late(video, frame):
        labels = tiny.fake_labels(video, frame)
        return labels if int(frame) in (2, 5) else np.where(labels == 2, 0, labels)

    readers = {"labels": appears_late}
    s = sampler(tiny, readers=readers, pick="visible-first", augment="resize-video", objects=1)
    starts = set()
    for seed in range(20):
        item = Item("davis17-train", tiny.fake_videos("", None)[0], label=2)
        sample = s.sample(item, rng(seed), share=0.0)
        starts.add(int(sample["times"][0]))
        assert len(set(sample["times"].tolist())) == 3
        assert sample["labels"].max() == 1
        assert sample["labels"][0].any()
    assert starts == {2, 5}


def test_a_set_without_meta_json_is_named_where_objects_are_wanted(tmp_path):
    from vosrepro.study.params import DataParams

    for kind, end in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for name in ("00000", "00005", "00010"):
            path = tmp_path / "YouTube/train" / kind / "abc" / f"{name}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    data = DataParams(root=str(tmp_path), sets={"ytvos": "YouTube"})
    clips = SimpleNamespace(
        clips=ClipParams(kind="video", objects=1, pick="visible-first"),
        data=[SimpleNamespace(set="ytvos-train", repeat=1, min_labels=None)],
    )
    with pytest.raises(DataError, match="meta.json"):
        load_items(clips, data)


@pytest.mark.parametrize("name", ["ytvos-train", "ytvos-train-all"])
def test_youtube_jumps_count_labeled_frames(tiny, name):
    video = tiny.fake_videos("", None)[0]
    frames = []
    readers = {"frame": lambda path: frames.append(int(path.stem)) or tiny.fake_frame(path)}
    s = sampler(tiny, readers=readers, max_jump=[[0.0, 5]])
    for seed in range(50):
        s.sample(Item(name, video), rng(seed), share=0.0)
    assert np.abs(np.diff(np.reshape(frames, (-1, 3)))).max() == 2  # 5 // 5 + 1


@pytest.mark.parametrize(("kind", "augment"), [("video", "mini-video"), ("static", "mini-static"), ("image", "")])
def test_a_batch_holds_what_its_type_says(tiny, tmp_path, kind, augment):
    if kind == "image":
        path = tmp_path / "a.jpg"
        Image.new("RGB", (40, 30)).save(path)
        item, options = Item("imagenet", LabeledImage("a", path, 3)), {"frames": 1, "augment": "random-crop"}
    else:
        picture = tiny.FakeImage("x", Path("v0/00000.jpg"), Path("x.png"))
        item = Item("", picture) if kind == "static" else Item("davis17-train", tiny.fake_videos("", None)[0])
        options = {"augment": augment}
    sample = sampler(tiny, kind=kind, **options).sample(item, rng(), share=0.0)
    batch = to_batch(collate([sample, sample]), torch.device("cpu"))
    others = {"classes"} if kind == "image" else {"times", "lengths"}
    assert set(batch) == {"frames", "masks", "labels", "selector"} | others
    assert set(batch) <= set(Batch.__annotations__)
    floats = {"frames", "masks", "selector"}
    assert {k: v.dtype for k, v in batch.items()} == {k: torch.float32 if k in floats else torch.int64 for k in batch}
    times, objects, size = options.get("frames", 3), 2, (16, 24)
    assert batch["frames"].shape == (2, times, 3, *size)
    if kind != "image":
        assert batch["masks"].shape == (2, times, objects, *size)
        assert batch["labels"].shape == (2, times, *size)
        assert batch["selector"].shape == (2, objects)
        assert batch["times"].shape == (2, times)
        assert batch["lengths"].shape == (2,)


def test_a_static_sample_keeps_soft_masks(tiny):
    image = tiny.FakeImage("x", Path("v0/00000.jpg"), Path("x.png"))
    s = sampler(tiny, kind="static", augment="mini-static", objects=1)
    sample = s.sample(Item("static", image), rng(), share=0.0)
    assert sample["masks"].shape == (3, 1, 16, 24)
    assert sample["masks"].max() == 200
    np.testing.assert_array_equal(sample["labels"], (sample["masks"][:, 0] > 127).astype(np.uint8))


def test_batches_have_the_agreed_types_and_ranges(tiny):
    item = Item("davis17-train", tiny.fake_videos("", None)[0])
    samples = [sampler(tiny).sample(item, rng(i), share=0.0) for i in range(2)]
    batch = to_batch(collate(samples), torch.device("cpu"))
    assert batch["frames"].shape == (2, 3, 3, 16, 24)
    assert batch["masks"].shape == (2, 3, 2, 16, 24)
    assert {n: v.dtype for n, v in batch.items()} == {
        "frames": torch.float32,
        "masks": torch.float32,
        "labels": torch.int64,
        "selector": torch.float32,
        "times": torch.int64,
        "lengths": torch.int64,
    }
    assert batch["frames"].min() >= 0
    assert batch["frames"].max() <= 1
    assert set(batch["masks"].unique().tolist()) == {0.0, 1.0}


def test_wrong_names_and_options_are_explained(tiny):
    with pytest.raises(ConfigError, match="did you mean 'video'"):
        sampler(tiny, kind="vidoe")
    with pytest.raises(ConfigError, match="is for clips of kind 'video'"):
        sampler(tiny, kind="static", augment="mini-video")
    with pytest.raises(ConfigError, match="has no option 'degree': it has degrees"):
        sampler(tiny, options={"degree": 3})


def test_a_mask_of_another_size_names_both_files(tiny):
    s = sampler(tiny, readers={"labels": lambda video, frame: np.zeros((20, 31), np.uint8)})
    with pytest.raises(DataError, match=r"png is 31x20 but its image v0/.*jpg is 30x20"):
        s.sample(Item("davis17-train", tiny.fake_videos("", None)[0]), rng(), share=0.0)


def test_soft_masks_are_read_as_grey_and_damage_is_named(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 77], [128, 255]], np.uint8)).save(path)
    assert read_soft_mask(path).tolist() == [[0, 77], [128, 255]]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"m\.png cannot be read"):
        read_soft_mask(path)


def test_held_out_sequences_and_short_videos_are_left_out_and_sources_repeat(tiny, monkeypatch):
    from vosrepro import datasets

    params = tiny.stage(data=[{"set": "davis17-train", "repeat": 3}, {"set": "ytvos-train"}])

    def some(set_name, data, *, exclude=()):
        videos = tiny.fake_videos(set_name, data, exclude=exclude)
        short = tiny.FakeVideo("s", videos[0].frames, {"00000": Path("a"), "00003": Path("b")})
        return [*videos, short]

    monkeypatch.setattr(datasets, "training_videos", some)
    items = load_items(params, tiny.STUDY.data, held_out=("v1",))
    assert len(items) == 4 * 3 + 4
    assert {i.content.name for i in items} == {"v0", "v2", "v3", "v4"}
    params = tiny.stage(data=[{"set": "davis17-train", "min_labels": 2}, {"set": "ytvos-train", "min_labels": 99}])
    assert {i.content.name for i in load_items(params, tiny.STUDY.data)} == {"v0", "v1", "v2", "v3", "v4", "s"}
    assert {i.set for i in load_items(params, tiny.STUDY.data)} == {"davis17-train"}


def test_the_loader_gives_each_rank_its_samples_of_the_same_global_batch(tiny):
    node = tiny.node(tiny.stage())
    items = load_items(node.params, tiny.STUDY.data, held_out=tiny.STUDY.selection.sequences)
    whole = list(make_loader(node, items, share=range(4), first=0, pin=False))
    odd = list(make_loader(node, items, share=range(1, 4, 2), first=0, pin=False))
    late = list(make_loader(node, items, share=range(4), first=7, pin=False))
    assert len(whole) == 10
    assert len(late) == 3
    for a, b in zip(whole, odd, strict=True):
        assert torch.equal(a["frames"][1::2], b["frames"])
    for a, b in zip(whole[7:], late, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_batches_are_the_same_where_shared_memory_is_too_small_for_them(tiny, tmp_path, caplog, monkeypatch):
    assert fits_shared(1 << 10, 8, where=tmp_path)
    assert not fits_shared(1 << 60, 8, where=tmp_path)
    assert fits_shared(1 << 60, 8, where=tmp_path / "none")  # no such folder: another system
    node = tiny.node(tiny.stage(loader_workers=2))
    items = load_items(node.params, tiny.STUDY.data, held_out=tiny.STUDY.selection.sequences)
    with batches(make_loader(node, items, share=range(4), first=7, pin=False)) as found:
        shared = list(found)
    assert "through pipes" not in caplog.text
    monkeypatch.setattr("vosrepro.training.data.loader._PREFETCH", 1 << 40)  # no memory has room for so many
    assert not _shares(StageSamples(node, items), range(4), 7, 2)
    assert "is too small for the batches of 2 workers: they go through pipes" in caplog.text
    monkeypatch.setattr("vosrepro.training.data.loader._shares", lambda *_: False)
    monkeypatch.setattr("vosrepro.training.data.loader._PREFETCH", 4)
    with batches(make_loader(node, items, share=range(4), first=7, pin=False)) as found:
        piped = list(found)
    assert len(shared) == len(piped) == 3
    for a, b in zip(shared, piped, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert a.keys() == b.keys()


def test_each_item_is_seen_once_before_any_is_seen_again(tiny):
    node = tiny.node(tiny.stage(batch_size=5, steps=4))
    items = load_items(node.params, tiny.STUDY.data, held_out=tiny.STUDY.selection.sequences)
    seen = []
    clips = StageSamples(node, items)
    clips._sampler.sample = lambda item, rng, share: seen.append(item.content.name)
    for step in range(4):
        for index in range(5):
            clips[step, index]
    rounds = np.reshape(seen, (4, 5))
    assert all(len(set(r)) == 5 for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1
