"""Going on with a corrected mask, and the beginning of a clip: what stays, what is made again, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clips import HEIGHT, WIDTH, copy_clip, mask, write_folder, write_video

from vosrepro.base.labels import read_labels, write_labels
from vosrepro.inference.own.own_clip import open_images

FIRST, MENDED = mask((1, 0), (2, 20)), mask((1, 8), (2, 30))


@pytest.fixture
def clip(tmp_path: Path, in_root) -> Path:
    """Six frames, segmented with the floor that copies its first mask."""
    folder = write_folder(tmp_path / "clip")
    write_labels(tmp_path / "first.png", FIRST)
    write_labels(tmp_path / "mended.png", MENDED)
    copy_clip(folder, tmp_path / "first.png", "--out", tmp_path / "out")
    return tmp_path


def corrected(clip: Path, *more: object, expect: int = 0) -> list[np.ndarray]:
    call = [clip / "clip", clip / "first.png", "--out", clip / "out", *more]
    copy_clip(*call, expect=expect)
    return [read_labels(path) for path in sorted((clip / "out").glob("*.png"))]


def is_(made: list[np.ndarray], *wanted: np.ndarray) -> bool:
    return len(made) == len(wanted) and all(map(np.array_equal, made, wanted))


def test_masks_before_the_corrected_frame_stay_and_the_rest_follows_it(clip):
    before = {path.name: path.stat().st_mtime_ns for path in (clip / "out").glob("*.png")}
    assert is_(corrected(clip, "--correct", f"3={clip}/mended.png"), *[FIRST] * 3, *[MENDED] * 3)
    after = {path.name: path.stat().st_mtime_ns for path in (clip / "out").glob("*.png")}
    assert [after[name] == before[name] for name in sorted(after)] == [True] * 3 + [False] * 3
    record = json.loads((clip / "out/segment.json").read_text())
    assert (record["frames"], record["frames_of_earlier_calls"], record["finished"]) == (6, 3, True)
    assert [frame for frame, _ in record["corrections"]] == ["00003"]


def test_corrections_follow_each_other_and_an_earlier_one_undoes_later_ones(clip):
    write_labels(clip / "again.png", FIRST)
    corrected(clip, "--correct", f"2={clip}/mended.png")
    made = corrected(clip, "--correct", f"4={clip}/again.png")
    assert is_(made, FIRST, FIRST, MENDED, MENDED, FIRST, FIRST)
    assert is_(corrected(clip, "--correct", f"1={clip}/mended.png"), FIRST, *[MENDED] * 5)


def test_the_same_correction_again_does_nothing_and_a_call_without_it_does_not_undo_it(clip, capsys):
    corrected(clip, "--correct", f"3={clip}/mended.png")
    capsys.readouterr()
    made = corrected(clip, "--correct", f"3={clip}/mended.png")
    assert "finished before" in capsys.readouterr().out
    assert is_(corrected(clip, expect=2), *made)
    assert "were asked for differently" in capsys.readouterr().err


def test_an_object_that_is_not_drawn_ends_and_a_new_one_begins(clip, caplog):
    write_labels(clip / "mended.png", mask((2, 30), (5, 0)))
    made = corrected(clip, "--correct", f"3={clip}/mended.png")
    assert [sorted(np.unique(labels)) for labels in made] == [[0, 1, 2]] * 3 + [[0, 2, 5]] * 3
    assert "does not show object 1" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "given", "sentence"),
    [
        (lambda c: write_labels(c / "out/00001.png", MENDED), "3={}/mended.png", "was changed by hand"),
        (lambda c: (c / "out/00001.png").unlink(), "3={}/mended.png", "is not as the earlier call left it"),
        (lambda c: None, "3={}/out/00003.png", "lies in"),
        (lambda c: None, "{}/mended.png", "is not FRAME=MASK"),
        (lambda c: write_labels(c / "mended.png", np.zeros((HEIGHT, WIDTH), np.uint8)), "3={}/mended.png", "no object"),
        (lambda c: write_labels(c / "mended.png", MENDED[1:]), "3={}/mended.png", "draw the mask at the size"),
        (lambda c: (c / "out/segment.json").unlink(), "3={}/mended.png", "holds no masks to correct"),
    ],
)
def test_what_cannot_be_corrected_is_one_sentence_and_deletes_nothing(clip, capsys, spoil, given, sentence):
    spoil(clip)
    before = {path.name: path.read_bytes() for path in (clip / "out").glob("*.png")}
    corrected(clip, "--correct", given.format(clip), expect=2)
    assert sentence in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (clip / "out").glob("*.png")} == before


def test_a_preview_ends_after_its_seconds_and_lies_beside_the_whole(clip, monkeypatch):
    monkeypatch.chdir(clip)
    copy_clip(clip / "clip", f"1={clip}/first.png", f"5={clip}/mended.png", "--preview", "0.1", "--fps", "20")
    assert [path.name for path in sorted((clip / "clip-copy-preview").glob("*.png"))] == ["00001.png", "00002.png"]
    copy_clip(clip / "clip", f"1={clip}/first.png")
    assert len(list((clip / "clip-copy-masks").glob("*.png"))) == 5


def test_a_preview_of_a_video_makes_an_overlay_of_its_length(clip):
    video = write_video(clip / "clip.mp4", 12)
    first = clip / "tall.png"
    write_labels(first, mask((1, 0), height=HEIGHT + 1))
    copy_clip(video, first, "--out", clip / "short", "--preview", "0.2", "--overlay", clip / "look.mp4")
    assert len(list((clip / "short").glob("*.png"))) == 5  # 24 frames a second
    assert len(open_images(clip / "look.mp4").frame_names) == 5
