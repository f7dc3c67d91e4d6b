"""Parity with recordings that no one has seen: other counts, sizes, settings and starts, and files that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_recordings import META, SIZE, family, video

from vosrepro.lab.parity.rules import ABSOLUTE, RELATIVE, Rule, compare_arrays, informative, inputs

pytestmark = pytest.mark.parity


def wrong(report):
    return [f"{r.array}: {r.error:.2e} > {r.tolerance:.1e} {r.unit}" for r in report.rows if not r.passed]


# ------------------------------------------------------------------------------------------ the engine


def test_nan_and_other_shapes_never_agree():
    rules = (Rule("a", lambda r, g: np.array([np.nan, 1.0]), 1e9), Rule("b", lambda r, g: np.zeros(3), 1e9))
    report = compare_arrays(rules, {"a": np.array([0.0, 1.0]), "b": np.zeros(2)})
    assert [row.passed for row in report.rows] == [False, False]
    assert "shape" in report.rows[1].unit
    theirs = compare_arrays((Rule("a", lambda r, g: np.zeros(2), 1e9),), {"a": np.array([np.nan, 0.0])})
    assert not theirs.passed


def test_an_array_that_no_rule_knows_is_no_success():
    rules = (Rule("a", lambda r, g: np.zeros(2)), *informative("b"), *inputs("c"))
    arrays = {"a": np.zeros(2), "b": np.ones(1), "c": np.ones(1)}
    assert compare_arrays(rules, arrays).passed
    report = compare_arrays(rules, {**arrays, "d": np.ones(1)})
    assert not report.passed
    assert report.kinds == {"a": "compared", "b": "informative", "c": "informative", "d": "not known"}


def test_inputs_count_as_such_only_where_a_row_read_them():
    rules = (Rule("a", lambda r, g: r["c"]), *inputs("c"))
    assert compare_arrays(rules, {"a": np.zeros(2), "c": np.zeros(2)}).kinds["c"] == "input"


def test_what_cannot_be_made_says_what_it_lacks_and_fails_nothing():
    rules = (Rule("a", lambda r, g: r["b"]), Rule("c", lambda r, g: np.zeros(1)))
    report = compare_arrays(rules, {"a": np.zeros(1), "c": np.zeros(1)})
    assert report.lacking == {"a": "b"}
    assert report.passed


def test_our_own_exceptions_are_failures_and_no_tracebacks():
    def broken(r, g):
        raise ValueError("shapes do not fit")

    report = compare_arrays((Rule("a", broken),), {"a": np.zeros(1)})
    assert not report.passed
    assert "shapes do not fit" in report.rows[0].unit


@pytest.mark.parametrize(("dtype", "half"), [(np.float16, 2**-11), (np.float32, 2**-24), (np.float64, 2**-53)])
def test_a_tolerance_grows_by_half_a_unit_in_the_last_place_of_the_stored_type(dtype, half):
    theirs = np.array([4.0, 1.0], dtype)
    rules = (Rule("a", lambda r, g: theirs, 1e-9, ABSOLUTE), Rule("a", lambda r, g: theirs, 1e-9, RELATIVE))
    absolute, relative = compare_arrays(rules, {"a": theirs}).rows
    assert absolute.tolerance == pytest.approx(1e-9 + 4 * half)
    assert relative.tolerance == pytest.approx(1e-9 + half)


def test_a_series_may_stop_early_but_not_go_on():
    rules = (Rule("a", lambda r, g: np.arange(4.0), series=True),)
    assert compare_arrays(rules, {"a": np.arange(2.0)}).passed
    assert not compare_arrays(rules, {"a": np.arange(5.0)}).passed
    assert not compare_arrays(rules, {"a": np.zeros(0)}).passed


# -------------------------------------------------------------------------------- the family of FRTM

TOGETHER, LATE = {1: 0, 2: 0, 3: 0}, {1: 0, 2: 0, 3: 2}


@pytest.fixture(scope="module")
def recordings():
    from functools import partial

    from vosrepro.methods.frtm.model import FRTM
    from vosrepro.methods.frtm.segmenter import FRTMSegmenter
    from vosrepro.methods.gfrtm.model import GFRTM
    from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter
    from vosrepro.methods.mtmfi.model import MTMFI
    from vosrepro.methods.mtmfi.segmenter import MTMFISegmenter

    gated = partial(GFRTMSegmenter, tau=0.6, fast=False, record_gate=True)
    small = {"backbone": META["backbone"]}
    made = {
        "frtm": family({"walk": (FRTMSegmenter, FRTM(**small), LATE)}),
        "mtmfi": family({"fi.walk": (MTMFISegmenter, MTMFI(head="bise", **small), LATE)}),
        "gfrtm": family({"walk": (gated, GFRTM(**small), LATE)}) | {"tau": np.float64(0.6)},
    }
    return made


def compared(method, arrays):
    from vosrepro.lab.parity import compare_recording

    return compare_recording(method, arrays)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["frtm", "mtmfi", "gfrtm"])
def test_three_objects_of_which_the_third_is_late_agree_in_a_made_recording(recordings, method):
    report = compared(method, recordings[method])
    assert wrong(report) == []
    assert report.names("not known") == []
    assert report.lacking == {}
    assert len(report.names("compared")) > 20


CHANGED = [
    ("frtm", "walk.o3.score"),
    ("frtm", "walk.o2.filter"),
    ("frtm", "walk.o2.project"),
    ("frtm", "walk.o3.mem_idx"),
    ("frtm", "walk.soft"),
    ("frtm", "images"),
    ("mtmfi", "fi.walk.o3.layer3.mem_w"),
    ("mtmfi", "fi.walk.o1.logit"),
    ("gfrtm", "walk.gate_prob"),
    ("gfrtm", "walk.match"),
    ("gfrtm", "walk.prevx_init"),
    ("gfrtm", "walk.frame"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), CHANGED)
def test_a_change_of_one_array_of_a_made_recording_is_noticed(recordings, method, name):
    value = recordings[method][name].copy()
    last = value[-1:]
    last[...] = 1 - last if value.dtype.kind in "ui" else last * 1.5 + 0.1
    assert wrong(compared(method, {**recordings[method], name: value})) != []


@pytest.mark.slow
def test_a_recording_of_one_frame_and_a_shorter_series_agree(recordings):
    arrays = dict(recordings["frtm"])
    for name in list(arrays):
        if name.startswith("walk.") and name.endswith((".score", ".logit", ".filter", ".mem_w", ".mem_idx")):
            arrays[name] = arrays[name][:1]
    report = compared("frtm", arrays)
    assert wrong(report) == []
    one = {"images": arrays["images"][:1], "labels": arrays["labels"][:1], "meta": arrays["meta"]}
    one |= {k: v for k, v in arrays.items() if k.startswith(("walk.o1.aug", "walk.o1.init", "walk.o2.aug"))}
    report = compared("frtm", {**one, "walk.masks": arrays["walk.masks"][:1]})
    assert wrong(report) == []
    assert len(report.names("compared")) == 6


# ------------------------------------------------------------------------------------------------ pml


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def knn(k, labels, cells=(5, 7)):
    """Neighbours and votes by definition, over every pair."""
    rng = np.random.default_rng(k)
    count = cells[0] * cells[1]
    pool, query = unit(rng, count, 6), unit(rng, count, 6)
    of_pool = rng.integers(0, labels, cells).astype(np.uint8)
    distances = ((query[:, None].astype(float) - pool[None].astype(float)) ** 2).sum(2)
    index = np.argsort(distances, axis=1, kind="stable")[:, :k]
    near = of_pool.ravel()[index]
    votes = np.stack([(near == label).sum(1) for label in range(labels)], 1)
    tied = votes == votes.max(1, keepdims=True)
    multi = np.array([next(n for n in row if tied[q, n]) for q, row in enumerate(near)], np.uint8)
    best = 1 - np.stack([distances[:, of_pool.ravel() == label].min(1) for label in range(labels)], 1) / 2
    return {
        "knn_ref": pool,
        "knn_cur": query,
        "knn_ref_label": of_pool,
        "knn_K": np.int64(k),
        "knn_idx": index.astype(np.uint16),
        "knn_d2": np.take_along_axis(distances, index, 1),
        "knn_mask": ((near > 0).sum(1) > k / 2).reshape(cells).astype(np.uint8),
        "knn_multi": multi.reshape(cells),
        "knn_multi_k1": near[:, 0].reshape(cells),
        "knn_label_max": best,
    }


@pytest.mark.parametrize(("k", "labels"), [(4, 4), (6, 2), (5, 3), (1, 4)])
def test_votes_of_any_number_of_neighbours_and_labels_agree(k, labels):
    report = compared("pml", knn(k, labels))
    assert wrong(report) == []
    assert report.names("not known") == []


@pytest.mark.parametrize("name", ["knn_idx", "knn_d2", "knn_mask", "knn_multi", "knn_multi_k1", "knn_label_max"])
def test_a_change_of_one_vote_is_noticed(name):
    arrays = knn(4, 4)
    value = arrays[name].copy()
    value.flat[3] = value.flat[3] + 1 if value.dtype.kind == "f" else (value.flat[3] + 1) % 4
    assert wrong(compared("pml", {**arrays, name: value})) != []


# ------------------------------------------------------------------------------------------------ stm


@pytest.fixture(scope="module")
def stm_recording():
    """A loop of three objects on odd sizes, one of one object, and a YouTube-VOS video whose third object is late."""
    from vosrepro.methods.common.seeded import seed_weights
    from vosrepro.methods.stm.model import STM
    from vosrepro.methods.stm.segmenter import STMSegmenter

    model = STM(objects=2).eval()
    seed_weights(model, gain=1.05)
    with torch.no_grad():
        model.get_parameter("decoder.pred.bias").fill_(3.0)
    images, labels = video(frames=4, late=2, size=SIZE)
    frames = images.transpose(0, 2, 3, 1)
    floats = torch.from_numpy(images).float() / 255

    def loop(first, top_k, every, late=None):
        segmenter = STMSegmenter(model, top_k=top_k, memory_every_frames=every)
        segmenter.init(floats[0], torch.from_numpy(first))
        found = [first]
        for t in range(1, len(floats)):
            new = None if late is None or t != late[0] else torch.from_numpy(late[1])
            found.append(segmenter.step(floats[t], new).argmax(0).byte().numpy())
        return np.stack(found)

    ids = np.array([0, 2, 7, 5], np.uint8)  # the late object's id lies between the others'
    late = np.where(labels[2] == 3, labels[2], 0)
    walked = loop(labels[0], 9, 2, (2, late))
    given = np.stack([ids[labels[0]], ids[late]])
    three = np.where(labels[0] == 0, labels[3] // 3 * 3, labels[0])
    return {
        "gain": np.float32(1.05),
        "pred_bias": np.float32(3.0),
        "frames": frames,
        "label0": three,
        "top_k": np.int64(11),
        "mem_freq": np.int64(3),
        "masks_full": loop(three, None, 3),
        "masks_topk": loop(three, 11, 3),
        "one_frames": frames[:3],
        "one_label0": (labels[0] > 0).astype(np.uint8) * 255,
        "one_mem_freq": np.int64(1),
        "one_masks_full": loop((labels[0] > 0).astype(np.uint8), None, 1)[:3] * 255,
        "yv_frames": frames,
        "yv_gt_frames": np.array([0, 2]),
        "yv_gt_masks": given,
        "yv_short": np.int64(SIZE[0]),
        "yv_min_idx": np.int64(0),
        "yv_top_k": np.int64(9),
        "yv_mem_freq": np.int64(2),
        "yv_out": ids[walked],
    }


@pytest.mark.slow
def test_videos_of_other_counts_sizes_and_settings_agree_in_a_made_recording_of_stm(stm_recording):
    report = compared("stm", stm_recording)
    assert wrong(report) == []
    assert report.names("not known") == []
    assert {"one_masks_full", "yv_out", "yv_min_idx", "masks_topk"} <= set(report.names("compared"))


# --------------------------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: path.write_text("frames, labels\n1, 2\n"), "not a readable .npz"),
        (lambda path: path.write_bytes(b""), "not a readable .npz"),
        (lambda path: path.write_bytes(_archive(path)[:-40]), "not a readable .npz"),
        (lambda path: path.write_bytes(_archive(path).replace(b"NUMPY", b"NUMPX", 1)), "not a readable .npz"),
        (lambda path: np.savez(path, meta=np.array({"a": 1}, dtype=object)), "Python objects"),
        (lambda path: np.savez(path), "no array"),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "not a readable .npz"),
        (lambda path: np.savez(path, images=np.zeros(1), **{"dv.gate": np.zeros(1), "dv.match": np.zeros(1)}), "gfrtm"),
    ],
)
def test_a_file_that_is_no_recording_of_the_method_ends_in_one_sentence(tmp_path, capsys, write, sentence):
    from vosrepro.cli import main

    path = tmp_path / "x.npz"
    write(path)
    assert main(["parity", "frtm", str(path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def _archive(path):
    np.savez(path, images=np.arange(4000))
    return path.read_bytes()
