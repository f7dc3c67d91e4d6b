"""Going on with a corrected mask, and the beginning of a clip: what stays, what is made again, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import HEIGHT, WIDTH, copy_clip, mask, write_folder, write_video
from mini_clips import mini_setup, moving_clip

from vosrepro.base.labels import read_labels, write_labels
from vosrepro.inference.own.correct import correct_clip
from vosrepro.inference.own.own_clip import open_images
from vosrepro.inference.own.segment import ClipJob, segment_clip
from vosrepro.methods import get_method
from vosrepro.weights.files import inference_model

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


def test_an_object_that_is_not_drawn_is_remembered_and_a_new_one_begins(clip, caplog):
    write_labels(clip / "mended.png", mask((2, 30), (5, 0)))
    made = corrected(clip, "--correct", f"3={clip}/mended.png")
    assert [sorted(np.unique(labels)) for labels in made] == [[0, 1, 2]] * 3 + [[0, 2, 5]] * 3
    assert "does not show object 1: it is remembered" in caplog.text


def test_a_corrected_first_frame_replaces_what_begins_there_for_later_corrections_too(clip, caplog):
    write_labels(clip / "mended.png", mask((2, 30), (5, 0)))
    write_labels(clip / "again.png", FIRST)
    corrected(clip, "--correct", f"0={clip}/mended.png")
    assert "does not show object 1: it ends there" in caplog.text
    made = corrected(clip, "--correct", f"4={clip}/again.png")
    assert is_(made, *[mask((2, 30), (5, 0))] * 4, FIRST, FIRST)
    assert "came out otherwise" not in caplog.text


# ----------------------------------------------------------------- what a method remembers, with tiny networks


def mini(folder: Path, method: str) -> ClipJob:
    return ClipJob(moving_clip(folder), mini_setup(method, folder), folder / "out", torch.device("cpu"), None)


def masks_of(job: ClipJob) -> list[np.ndarray]:
    return [read_labels(job.mask(frame)) for frame in job.clip.frame_names]


@pytest.mark.parametrize("method", ["stm", "frtm", "gfrtm", "mtmfi", "pml", "flow"])
def test_a_correction_goes_on_from_the_state_in_which_the_first_call_was_there(method, tmp_path, in_root, caplog):
    torch.manual_seed(0)
    job = mini(tmp_path, method)
    segment_clip(job)
    before = masks_of(job)
    mended = np.zeros_like(before[0])
    mended[10:30, 30:60] = 3
    write_labels(tmp_path / "mended.png", mended)
    asked = correct_clip(job, "7", tmp_path / "mended.png")
    assert "came out otherwise" not in caplog.text  # the frames before gave the very masks of the first call
    after = masks_of(job)
    assert is_(after[:7], *before[:7])
    assert np.array_equal(after[7], mended)
    assert is_(after[7:], *by_hand(job, mended))
    assert (asked["frames"], asked["frames_of_earlier_calls"]) == (10, 7)


def by_hand(job: ClipJob, mended: np.ndarray) -> list[np.ndarray]:
    """Frames 7 to 9 of `moving_clip`, with nothing of the runner: object 3 is the first, and 1 the second."""
    setup = job.setup
    model = inference_model(setup.method, setup.model, weights=setup.weights, seed=0, device=job.device)
    segmenter = get_method(setup.method).segmenter(model, **job.settings)
    frames = [torch.from_numpy(job.clip.image(i)).permute(2, 0, 1).float() / 255 for i in range(10)]
    late = torch.from_numpy((job.clip.labels("5") == 1).astype(np.uint8)) * 2
    with torch.inference_mode():
        segmenter.init(frames[0], torch.from_numpy((job.clip.labels("0") == 3).astype(np.uint8)))
        for index in range(1, 7):
            segmenter.step(frames[index], late if index == 5 else None)
        segmenter.correct(frames[7], torch.from_numpy((mended == 3).astype(np.uint8)))
        rest = [segmenter.step(frames[index]).argmax(0).numpy() for index in (8, 9)]
    return [mended, *(np.array([0, 3, 1], np.uint8)[labels] for labels in rest)]


@pytest.fixture
def seven_frames(in_root, tmp_path):
    """Makes a segmenter that saw seven frames of `moving_clip`, and one that saw none; the frames; a mended mask."""
    torch.manual_seed(0)
    clip = moving_clip(tmp_path)
    frames = [torch.from_numpy(clip.image(i)).permute(2, 0, 1).float() / 255 for i in range(10)]
    first, mended = (torch.zeros(frames[0].shape[1:], dtype=torch.uint8) for _ in range(2))
    first[6:26, 8:36], mended[36:56, 29:57] = 1, 1

    def made(method: str):
        setup = mini_setup(method, tmp_path)
        model = inference_model(method, setup.model, weights=setup.weights, seed=0, device=torch.device("cpu"))
        one, other = (get_method(method).segmenter(model, **setup.settings) for _ in range(2))
        one.init(frames[0], first)
        for frame in frames[1:7]:
            one.step(frame)
        return one, other

    with torch.inference_mode():
        yield made, frames, mended


@pytest.mark.parametrize("method", ["stm", "frtm", "pml"])
def test_what_was_seen_before_a_correction_matters_after_it(method, seven_frames):
    made, frames, mended = seven_frames
    remembering, anew = made(method)
    remembering.correct(frames[7], mended)
    anew.init(frames[7], mended)
    assert not torch.equal(remembering.step(frames[8]), anew.step(frames[8]))


@pytest.mark.parametrize("method", ["frtm", "mtmfi", "gfrtm"])
def test_target_models_score_what_a_corrected_mask_shows_higher_at_once(method, seven_frames):
    made, frames, mended = seven_frames
    segmenter, _ = made(method)
    features = segmenter.model.backbone(frames[7][None])

    def inside(level: str) -> float:
        score = segmenter.targets[level].score(features[level])
        shown = torch.nn.functional.interpolate(mended[None, None].float(), score.shape[-2:]) > 0
        return float(score[shown].mean() - score[~shown].mean())

    before = {level: inside(level) for level in segmenter.targets}
    segmenter.correct(frames[7], mended)
    assert all(inside(level) > before[level] for level in segmenter.targets)


def test_a_method_that_cannot_take_a_correction_begins_anew_there(tmp_path, in_root):
    torch.manual_seed(0)
    job = mini(tmp_path, "parts")
    segment_clip(job)
    before = masks_of(job)
    mended = np.zeros_like(before[0])
    mended[10:30, 30:60] = 3
    write_labels(tmp_path / "mended.png", mended)
    assert correct_clip(job, "7", tmp_path / "mended.png")["timing"]["frames"] == 3
    assert is_(masks_of(job)[:8], *before[:7], mended)


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
