"""An interrupted clip goes on with the same masks as if nothing had happened."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from mini_clips import mini_setup, moving_clip

from vosrepro.base.errors import CheckpointError
from vosrepro.base.files import file_digest, write_json
from vosrepro.base.labels import write_labels
from vosrepro.inference.own import segment
from vosrepro.inference.own.segment import ClipJob, segment_clip
from vosrepro.inference.own.snapshot import load_segmenter, save_segmenter
from vosrepro.methods import REGISTRY

CPU = torch.device("cpu")


@pytest.mark.resume
@pytest.mark.parametrize("stop", [3, 7])
@pytest.mark.parametrize("method", list(REGISTRY))
def test_every_method_goes_on_exactly(method, stop, tmp_path, in_root, monkeypatch):
    torch.manual_seed(0)
    setup, video = mini_setup(method, tmp_path), moving_clip(tmp_path)
    segment_clip(ClipJob(video, setup, tmp_path / "whole", CPU, None))
    whole = {p.name: file_digest(p) for p in (tmp_path / "whole").glob("*.png")}
    assert len(whole) == 10
    monkeypatch.setattr(segment, "SAVE_EVERY_S", 0.0)
    job = ClipJob(video, setup, tmp_path / "cut", CPU, None)
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count > stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_clip(job, progress=interrupt)
    saved = (tmp_path / "cut/.state/past.json").is_file()
    assert saved == (method != "flow")  # OpenCV's flow object cannot be saved: such a clip starts anew
    (tmp_path / f"cut/{stop}.png").unlink()  # written after the last saved state
    steps = 0
    real = segment.segment_video

    def counted(*arguments, **options):
        nonlocal steps
        for result in real(*arguments, **options):
            steps += 1
            yield result

    monkeypatch.setattr(segment, "segment_video", counted)
    record = segment_clip(job)
    assert record["frames_of_earlier_calls"] == (stop if saved else 0)
    assert steps == (10 - stop + 1 if saved else 10)  # and the frame of the state, whose result is left out
    assert {p.name: file_digest(p) for p in (tmp_path / "cut").glob("*.png")} == whole
    assert not (tmp_path / "cut/.state").exists()
    assert record["timing"]["frames"] == 10


@pytest.mark.resume
def test_changed_masks_or_a_damaged_state_start_the_clip_anew(tmp_path, in_root, monkeypatch):
    setup, video = mini_setup("copy", tmp_path), moving_clip(tmp_path)
    monkeypatch.setattr(segment, "SAVE_EVERY_S", 0.0)
    job = ClipJob(video, setup, tmp_path / "cut", CPU, None)

    def interrupt() -> None:
        if (tmp_path / "cut/4.png").is_file():
            raise KeyboardInterrupt

    for damage in ("mask", "state", "record"):
        with pytest.raises(KeyboardInterrupt):
            segment_clip(job, progress=interrupt)
        if damage == "mask":
            write_labels(tmp_path / "cut/1.png", np.zeros((64, 96), np.uint8))
        elif damage == "state":
            (tmp_path / "cut/.state/objects.pickle").write_bytes(b"nothing")
        else:
            write_json(tmp_path / "cut/.state/past.json", {"digests": 5})
        record = segment_clip(job)
        assert record["frames"] == 10
        write_json(tmp_path / "cut/segment.json", {**record, "identity": "of other code"})  # for the next round


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_state_cannot_run_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert save_segmenter({"a": torch.ones(2)}, None, tmp_path)  # type: ignore[arg-type]
    loaded = load_segmenter(None, tmp_path)
    assert torch.equal(loaded["a"], torch.ones(2))  # type: ignore[index]
    (tmp_path / "objects.pickle").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="system is not part of a segmenter's state"):
        load_segmenter(None, tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_what_cannot_be_written_is_said_and_costs_nothing(tmp_path):
    assert not save_segmenter(lambda: None, None, tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
