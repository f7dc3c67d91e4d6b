"""Folders, zips and arrays through every protocol: the same numbers, and errors that name the spot."""

from __future__ import annotations

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from made_masks import blobs, write_video
from slow_scorer import counts

from vosrepro.base.errors import ConfigError, DataError, ProtocolError
from vosrepro.base.labels import write_labels
from vosrepro.lab.fuzz import encode
from vosrepro.scoring import score_arrays, score_folder
from vosrepro.scoring.counting.protocols import PROTOCOLS


def same(a, b):
    assert a.rows == b.rows
    assert a.global_ == b.global_
    for x, y in zip(a.parts, b.parts, strict=True):
        assert x.frames == y.frames
        assert np.array_equal(x.counts, y.counts)


def test_counts_of_a_folder_are_right(masks):
    root, truth, predictions = masks
    score = score_folder(root / "pred", root / "gt", "davis2017")
    assert [(r.sequence, r.object_id, r.frames) for r in score.rows] == [
        ("ants", 1, 5),
        ("ants", 2, 5),
        ("bees", 1, 3),
        ("bees", 2, 3),
        ("bees", 3, 3),
    ]
    for part in score.parts:
        for frame, row in zip(part.frames, part.counts, strict=True):
            pair = [a[part.sequence][frame] == part.object_id for a in (truth, predictions)]
            assert row.tolist() == counts(*pair)
    j = [np.mean([r.values[k] for r in score.rows]) for k in (0, 3)]
    assert score.global_["J&F-Mean"] == pytest.approx(np.mean(j), abs=1e-15)


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"davis2016"}))
def test_folder_zip_arrays_and_processes_agree(masks, protocol, monkeypatch):
    root, truth, predictions = masks
    expected = score_folder(root / "pred", root / "gt", protocol)
    same(expected, score_arrays(predictions, truth, protocol))
    same(expected, score_arrays(predictions, root / "gt", protocol))
    archive = shutil.make_archive(str(root / "masks"), "zip", root / "pred")
    same(expected, score_folder(archive, root / "gt", protocol))
    monkeypatch.setattr("vosrepro.scoring.counting.execution.MIN_FRAMES", 1)
    monkeypatch.setattr("vosrepro.scoring.counting.execution.BLOCK_FRAMES", 2)
    same(expected, score_folder(archive, root / "gt", protocol, processes=2))


def test_davis2016_reads_all_its_encodings(tmp_path):
    truth, results = {}, {}
    for k, labels in enumerate(blobs(5, objects=1).values()):
        shifted = np.roll(labels, 2, 1)
        truth[f"{k:05d}"], results[f"{k:05d}"] = labels, shifted
        (tmp_path / "gt/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pred/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"gt/a/{k:05d}.png").write_bytes(encode(labels * 255, color=0, filters=(1, 4)))
        files = (encode(shifted, depth=1, color=0), encode(shifted), encode(shifted * 255, color=0))
        (tmp_path / f"pred/a/{k:05d}.png").write_bytes(files[k % 3])
    found = score_folder(tmp_path / "pred", tmp_path / "gt", "davis2016")
    same(found, score_arrays({"a": results}, {"a": truth}, "davis2017"))
    (tmp_path / "pred/a/00002.png").write_bytes(encode(shifted * 128, color=0))
    with pytest.raises(DataError, match="'a', frame '00002'.*holds 128"):
        score_folder(tmp_path / "pred", tmp_path / "gt", "davis2016")


def test_merged_ids_score_as_one_object():
    truth, results = blobs(1), {f: np.roll(a, 1, 0) for f, a in blobs(1).items()}
    truth["00003"][0, 0] = 255  # void is background
    merged = score_arrays({"a": results}, {"a": truth}, "davis2016-merged17")
    one = {f: ((a > 0) & (a < 255)).astype(np.uint8) for f, a in truth.items()}
    single = {f: (a > 0).astype(np.uint8) for f, a in results.items()}
    same(merged, score_arrays({"a": single}, {"a": one}, "davis2017"))


def test_davis2017_takes_void_as_background_and_counts_gaps_in_ids():
    truth = blobs(1)
    for labels in truth.values():
        labels[labels == 2] = 3
        labels[:2] = 255
    results = {f: np.where(a == 255, 0, a) for f, a in truth.items()}
    score = score_arrays({"a": results}, {"a": truth}, "davis2017")
    assert [(r.object_id, r.values[0]) for r in score.rows] == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_late_objects_are_scored_after_their_first_annotation(tmp_path):
    video = blobs(3, 6)
    for k in range(3):
        video[f"{k:05d}"][video[f"{k:05d}"] == 2] = 0
    rows = {r.object_id: r.frames for r in score_arrays({"a": video}, {"a": video}, "ytvos-local").rows}
    assert rows == {1: 5, 2: 2}
    rows = {r.object_id: r.frames for r in score_arrays({"a": video}, {"a": video}, "frtm").rows}
    assert rows == {1: 4, 2: 1}
    rows = {r.object_id for r in score_arrays({"a": video}, {"a": video}, "vos-benchmark").rows}
    assert rows == {1, 2}


def meta(path, objects):
    path.write_text(json.dumps({"videos": {"a": {"objects": objects}}}))
    return path


def test_meta_gives_starts_and_groups(tmp_path):
    video = blobs(3, 6)
    file = meta(
        tmp_path / "meta.json",
        {
            "1": {"category": "ape", "frames": ["00002"]},
            "2": {"category": "yak", "frames": ["00000"]},
        },
    )
    results = {f: a for f, a in video.items() if f != "00000"}
    score = score_arrays({"a": results}, {"a": video}, "ytvos-local", meta=file, seen=["ape"])
    assert [(r.object_id, r.frames, r.group) for r in score.rows] == [
        (1, 3, "seen"),
        (2, 5, "unseen"),
    ]
    assert score.global_["G"] == 1.0
    assert score.header()[-1] == "group"
    only_seen = score_arrays({"a": results}, {"a": video}, "ytvos-local", meta=file, seen=["ape", "yak"])
    assert "G" not in only_seen.global_
    assert "J_unseen" not in only_seen.global_


def test_meta_that_does_not_fit_is_explained(tmp_path):
    video = blobs(3, 6)
    file = meta(tmp_path / "meta.json", {"1": {"frames": ["00099"]}})
    with pytest.raises(DataError, match=r"object 1 begins on frame '00099'.*a/00099.png is missing"):
        score_arrays({"a": video}, {"a": video}, "ytvos-local", meta=file)
    with pytest.raises(DataError, match="sequence 'b'"):
        score_arrays({"b": video}, {"b": video}, "ytvos-local", meta=file)


def test_one_folder_per_object_is_understood_by_sav_only(tmp_path):
    video = blobs(4, 6)
    moved = {f: np.roll(a, 1, 1) for f, a in video.items()}
    for k in (1, 2):
        write_video(tmp_path / "gt/a", f"{k:03d}", {f: (a == k) * np.uint8(255) for f, a in video.items()})
        write_video(tmp_path / "pred/a", f"{k:03d}", {f: (a == k).astype("u1") for f, a in moved.items()})
    found = score_folder(tmp_path / "pred", tmp_path / "gt", "sav")
    expected = score_arrays({"a": moved}, {"a": video}, "vos-benchmark")
    assert [r[:4] for r in found.rows] == [r[:4] for r in expected.rows]
    with pytest.raises(DataError, match="sequence 'a' has no annotation"):
        score_folder(tmp_path / "pred", tmp_path / "gt", "davis2017")


@pytest.mark.parametrize("protocol", ["davis2017", "ytvos-local"])
def test_an_unknown_id_is_refused_by_name(masks, protocol):
    root, _, predictions = masks
    predictions["bees"]["00002"][3, 3] = 9
    with pytest.raises(ProtocolError, match="sequence 'bees', frame '00002': id 9"):
        score_arrays(predictions, root / "gt", protocol)
    predictions["bees"]["00002"][3, 3] = 0
    predictions["bees"]["00000"][3, 3] = 9  # not scored
    score_arrays(predictions, root / "gt", protocol)


def test_an_id_in_a_gap_of_the_list_is_refused(tmp_path):
    video = {f: np.where(a == 2, 5, a) for f, a in blobs(3, 6).items()}
    wrong = {f: a.copy() for f, a in video.items()}
    wrong["00003"][0, 0] = 4
    file = meta(tmp_path / "meta.json", {k: {"frames": ["00000"]} for k in "15"})
    with pytest.raises(ProtocolError, match="frame '00003': id 4.*are 1, 5"):
        score_arrays({"a": wrong}, {"a": video}, "ytvos-local", meta=file)


def test_bad_results_are_named(masks):
    root, *_ = masks
    target = root / "pred/bees/00002.png"

    def refused(words):
        with pytest.raises(DataError, match=words) as caught:
            score_folder(root / "pred", root / "gt", "davis2017")
        assert caught.value.exit_code == 2
        assert "sequence 'bees'" in str(caught.value)
        assert "00002" in str(caught.value)

    good = target.read_bytes()
    write_labels(target, np.zeros((51, 70), np.uint8))
    refused("70 x 51 pixels, but its annotation is 70 x 50")
    target.write_bytes(good[: len(good) // 2])
    refused("truncated")
    target.write_bytes(encode(np.zeros((50, 70, 3), int), color=2))
    refused("RGB")
    target.write_bytes(encode(np.zeros((50, 70), int), color=0, depth=16))
    refused("16-bit")
    target.unlink()
    refused("is missing")
    target.symlink_to(target)
    refused("cannot be read")
    target.unlink()
    os.mkfifo(target)
    refused("not a regular file")


def test_results_at_the_wrong_depth_are_explained(masks):
    root, *_ = masks
    (root / "deep/Annotations").mkdir(parents=True)
    shutil.move(root / "pred", root / "deep/Annotations/480p")
    with pytest.raises(DataError, match=r"folder '480p' does: give .*/480p"):
        score_folder(root / "deep/Annotations", root / "gt", "davis2017")
    with pytest.raises(DataError, match="none of the sequences to score"):
        score_folder(root / "deep", root / "gt", "davis2017")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="no folder at all"):
        score_folder(root / "empty", root / "gt", "davis2017")
    with pytest.raises(DataError, match="does not exist"):
        score_folder(root / "nowhere", root / "gt", "davis2017")
    shutil.rmtree(root / "deep/Annotations/480p/bees")
    with pytest.raises(DataError, match="lacks 1 of 2 sequences \\(bees\\)"):
        score_folder(root / "deep/Annotations/480p", root / "gt", "davis2017")


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_macos_twins_and_other_files_are_ignored(masks):
    root, truth, predictions = masks
    files = {p.relative_to(root / "pred").as_posix(): p.read_bytes() for p in root.glob("pred/*/*.png")}
    noise = {f"__MACOSX/{n}": b"x" for n in files} | {
        "ants/._00001.png": b"x",
        "ants/notes.txt": b"x",
    }
    archive = zipped(root / "a.zip", files | noise)
    same(
        score_folder(archive, root / "gt", "davis2017"),
        score_arrays(predictions, truth, "davis2017"),
    )
    wrapped = zipped(root / "b.zip", {f"masks/{n}": d for n, d in files.items()})
    with pytest.raises(DataError, match="give .*b.zip/masks"):
        score_folder(wrapped, root / "gt", "davis2017")
    same(
        score_folder(wrapped / "masks", root / "gt", "davis2017"),
        score_folder(archive, root / "gt", "davis2017"),
    )


@pytest.mark.parametrize("name", ["../a/00000.png", "/etc/00000.png", "a\\..\\b.png", "C:/a/0.png"])
def test_a_zip_that_reaches_outside_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"x")
    with pytest.raises(DataError, match="leaves the zip"):
        score_zip(tmp_path / "a.zip")


def score_zip(path):
    return score_folder(path, path, "davis2017")


def test_a_zip_bomb_or_a_link_or_a_broken_zip_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vosrepro.scoring.counting.trees.MAX_FILE_BYTES", 1000)
    with pytest.raises(DataError, match="inflates to 5000 bytes"):
        score_zip(zipped(tmp_path / "a.zip", {"a/0.png": bytes(5000)}))
    link = zipfile.ZipInfo("a/0.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        score_zip(tmp_path / "b.zip")
    (tmp_path / "c.zip").write_bytes(b"PK\3\4 not really")
    with pytest.raises(DataError, match="not a readable zip"):
        score_zip(tmp_path / "c.zip")


def test_a_damaged_member_is_named(masks):
    root, *_ = masks
    archive = zipped(root / "a.zip", {f"ants/{k:05d}.png": b"\0" * 50 for k in range(7)})
    data = bytearray(archive.read_bytes())
    data[data.index(b"ants/00001.png") + 20] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match="ants/00001.png cannot be read"):
        score_folder(archive, root / "gt", "davis2017", sequences=["ants"])


def test_annotations_that_do_not_fit_the_protocol_are_explained():
    video = {f: (a > 0) * np.uint8(255) for f, a in blobs(1).items()}
    with pytest.raises(ProtocolError, match="use protocol davis2016"):
        score_arrays({"a": video}, {"a": video}, "davis2017")
    first = {"00000": blobs(1)["00000"]}
    with pytest.raises(ProtocolError, match="first frames only"):
        score_arrays({"a": first}, {"a": first}, "davis2017")
    empty = {f: a * 0 for f, a in video.items()}
    with pytest.raises(ProtocolError, match="holds no object"):
        score_arrays({"a": empty}, {"a": empty}, "davis2017")


def test_names_that_do_not_exist_are_explained(masks):
    root, truth, _ = masks
    with pytest.raises(ConfigError, match="did you mean 'davis2017'"):
        score_folder(root / "pred", root / "gt", "davis-2017")
    with pytest.raises(ConfigError, match="'ants' is listed twice"):
        score_arrays(truth, truth, "davis2017", sequences=["ants", "ants"])
    with pytest.raises(DataError, match="lacks 1 of 2 sequences \\(cats\\)"):
        score_folder(root / "pred", root / "gt", "davis2017", sequences=["ants", "cats"])


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 3)), np.zeros((4, 4)), np.full((4, 4), 300)])
def test_arrays_that_are_no_label_maps_are_refused(bad):
    good = {f"{k}": np.ones((4, 4), np.uint8) for k in range(3)}
    with pytest.raises(DataError, match="labels must be"):
        score_arrays({"a": good | {"1": bad}}, {"a": good}, "davis2017")


def test_the_cache_changes_no_number_and_follows_the_content(masks):
    root, truth, _ = masks
    plain = score_folder(root / "pred", root / "gt", "davis2017")
    for _ in range(2):
        same(plain, score_folder(root / "pred", root / "gt", "davis2017", cache=root / "cache"))
    entries = sorted((root / "cache").iterdir())
    assert len(entries) == 2
    for entry in entries:  # a damaged entry is made anew
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    same(plain, score_folder(root / "pred", root / "gt", "davis2017", cache=root / "cache"))
    changed = truth["ants"]["00002"].copy()
    changed[10:30, 10:30] = 1
    write_labels(root / "gt/ants/00002.png", changed)
    cached = score_folder(root / "pred", root / "gt", "davis2017", cache=root / "cache")
    same(cached, score_folder(root / "pred", root / "gt", "davis2017"))
    assert cached.rows != plain.rows


def test_a_cache_that_cannot_be_written_does_not_stop_scoring(masks, caplog):
    root, *_ = masks
    (root / "file").write_text("")
    score = score_folder(root / "pred", root / "gt", "davis2017", cache=root / "file/cache")
    assert len(score.rows) == 5
    assert "not cached" in caplog.text
