"""What a person has is not lost: clips, masks and videos beside the masks that `vosrepro segment` makes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vosrepro.base.files import file_digest
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.cli import main


def clip(folder: Path, frames: int = 4, *, shade: int = 60) -> Path:
    folder.mkdir(parents=True)
    for index in range(frames):
        cv2.imwrite(str(folder / f"{index:05d}.png"), np.full((24, 32, 3), shade + index, np.uint8))
    return folder


def square(path: Path, identity: int = 1, size: tuple[int, int] = (24, 32)) -> Path:
    labels = np.zeros(size, np.uint8)
    labels[4:12, 4:12] = identity
    write_labels(path, labels)
    return path


def segment(*arguments: object, method: str = "copy") -> int:
    return main(["segment", "--method", method, "--device", "cpu", *map(str, arguments)])


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def done(tmp_path, in_root) -> Path:
    """A clip whose masks are made."""
    clip(tmp_path / "a/clip")
    square(tmp_path / "first.png")
    assert segment(tmp_path / "a/clip", tmp_path / "first.png", "--out", tmp_path / "out") == 0
    return tmp_path


def test_an_overlay_replaces_neither_mask_nor_clip_nor_a_video_of_others(done, capsys):
    video = done / "clip.mp4"
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--overlay", video) == 0
    held = file_digest(video)
    again = (video, done / "first.png", "--out", done / "other", "--overlay", video)
    assert segment(*again) == 2
    assert "--overlay" in capsys.readouterr().err
    mask = done / "mask.mp4"
    mask.write_bytes((done / "first.png").read_bytes())
    assert segment(done / "a/clip", mask, "--out", done / "other", "--overlay", mask, "--force") == 2
    assert "is an input, which it would replace" in capsys.readouterr().err
    foreign = done / "holiday.mp4"
    foreign.write_bytes(b"a video of somebody")
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--overlay", foreign) == 2
    assert "was not made by vosrepro: name another file, or add --force" in capsys.readouterr().err
    assert foreign.read_bytes() == b"a video of somebody"
    assert file_digest(video) == held
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--overlay", video) == 0  # ours
    assert not (done / "other").exists()


def test_masks_of_another_clip_or_method_are_not_replaced(done, capsys):
    before = digests(done / "out")
    clip(done / "b/clip", shade=90)
    assert segment(done / "b/clip", done / "first.png", "--out", done / "out") == 2
    assert "holds 4 masks that were asked for differently (copy of clip" in capsys.readouterr().err
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", method="flow") == 2
    assert "give another folder with --out, or replace them with --force" in capsys.readouterr().err
    assert digests(done / "out") == before


def test_a_call_that_fails_deletes_nothing_even_by_force(done, capsys):
    before = digests(done / "out")
    square(done / "large.png", size=(48, 64))
    assert segment(done / "a/clip", done / "large.png", "--out", done / "out", "--force") == 2
    assert "large.png is 64x48 pixels but its image is 32x24: draw the mask" in capsys.readouterr().err
    weights = done / "w.safetensors"
    weights.write_bytes(b"nothing")
    call = (done / "a/clip", done / "first.png", "--out", done / "out", "--force", "--weights", weights)
    assert segment(*call, "--size", "mini", "--recipe", "s0", method="stm") == 2
    assert "w.safetensors" in capsys.readouterr().err
    assert digests(done / "out") == before


def test_by_force_a_shorter_clip_leaves_its_own_masks_only_and_files_of_others(done):
    (done / "out/notes.txt").write_text("mine")
    clip(done / "b/clip", 2)
    assert segment(done / "b/clip", done / "first.png", "--out", done / "out", "--force") == 0
    assert {p.name for p in (done / "out").iterdir()} == {"00000.png", "00001.png", "notes.txt", "segment.json"}


def test_a_mask_that_a_person_mended_is_not_replaced(done, capsys):
    mended = square(done / "out/00002.png", 3)
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out") == 2
    assert "1 masks of " in capsys.readouterr().err
    assert segment(done / "a/clip", mended, "--out", done / "out", "--force") == 2  # as an input of the next call
    assert "copy it elsewhere, or give another --out" in capsys.readouterr().err
    assert set(np.unique(read_labels(mended))) == {0, 3}
    assert segment(done / "a/clip", mended, "--out", done / "corrected") == 0


def test_a_mask_that_is_missing_is_made_again(done):
    (done / "out/00002.png").unlink()
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out") == 0
    assert set(np.unique(read_labels(done / "out/00002.png"))) == {0, 1}


def test_other_code_makes_the_same_request_anew(done):
    record = json.loads((done / "out/segment.json").read_text())
    (done / "out/segment.json").write_text(json.dumps({**record, "identity": "of an older version"}))
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out") == 0
    assert json.loads((done / "out/segment.json").read_text())["identity"] == record["identity"]


def test_names_in_a_record_reach_no_file_outside(done):
    record = json.loads((done / "out/segment.json").read_text())
    record["masks"] = {"../first.png": None, **record["masks"]}
    (done / "out/segment.json").write_text(json.dumps({**record, "identity": "older"}))
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--force") == 0
    assert (done / "first.png").is_file()


def test_masks_go_to_a_folder_of_their_clip_and_method(done, monkeypatch):
    (done / "here").mkdir()
    (done / "here/params").symlink_to(Path("params").resolve())
    monkeypatch.chdir(done / "here")
    for method in ("copy", "flow"):
        assert segment(done / "a/clip", done / "first.png", method=method) == 0
    assert {p.name for p in Path().iterdir()} == {"params", "clip-copy-masks", "clip-flow-masks"}


def test_check_says_what_would_be_done_and_writes_nothing(done, capsys):
    before = digests(done)
    capsys.readouterr()
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--check") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{done / 'a/clip'}: 4 frames; object 1 on frame 00000",
        f"{done / 'out'}: 4 masks; finished before",
    ]
    assert segment(done / "a/clip", done / "first.png", "--out", done / "new", "--check") == 0
    assert "4 masks; nothing is in the way" in capsys.readouterr().out
    assert segment(done / "a/clip", done / "first.png", "--out", done / "out", "--check", method="flow") == 2
    square(done / "large.png", size=(48, 64))
    assert segment(done / "a/clip", done / "large.png", "--out", done / "new", "--check") == 2
    (done / "large.png").unlink()
    assert digests(done) == before


def test_a_frame_of_another_size_is_said_before_anything_is_written(done, capsys):
    cv2.imwrite(str(done / "a/clip/00003.png"), np.zeros((30, 40, 3), np.uint8))
    assert segment(done / "a/clip", done / "first.png", "--out", done / "new") == 2
    assert "00003.png is 40x30 pixels but the first frame is 32x24" in capsys.readouterr().err
    assert not (done / "new").exists()
