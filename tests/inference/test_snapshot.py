"""An interrupted clip goes on with the same masks as if nothing had happened."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.base.files import file_digest, write_json
from vosrepro.base.labels import write_labels
from vosrepro.inference.own import segment
from vosrepro.inference.own.own_clip import OwnClip, open_images
from vosrepro.inference.own.segment import Job, segment_clip
from vosrepro.inference.own.setup import Setup
from vosrepro.inference.own.snapshot import load_segmenter, save_segmenter
from vosrepro.methods import REGISTRY, get_method
from vosrepro.study.params import load_method
from vosrepro.study.plan import variant_settings
from vosrepro.weights.files import build_model, save_weights

CPU = torch.device("cpu")


def mini_setup(method: str, folder: Path) -> Setup:
    """The method at mini size with random weights."""
    params = load_method(method)
    size = params.sizes["mini"]
    model = dict(size.model)
    weights = None
    if get_method(method).build is not None:
        network = build_model(method, model, weights=None, seed=0, device=CPU)
        assert network is not None
        weights = folder / "w.safetensors"
        save_weights(weights, network.state_dict(), {"method": method, "model": model})
    settings = variant_settings(params, size, params.default_variant)
    return Setup(method, weights, model, params.default_variant, settings, None, "test")


def clip(folder: Path) -> OwnClip:
    """Ten frames; object 3 begins first, object 1 on frame 5."""
    (folder / "frames").mkdir()
    rng = np.random.default_rng(0)
    background = rng.integers(0, 90, (64, 96, 3), dtype=np.uint8)
    for index in range(10):
        image = background.copy()
        for top, color in ((6, 220), (36, 150)):
            image[top : top + 20, 8 + 3 * index : 36 + 3 * index] = color
        cv2.imwrite(str(folder / f"frames/{index}.png"), image)
    for name, index, objects in (("a", 0, ((3, 6),)), ("b", 5, ((3, 6), (1, 36)))):
        labels = np.zeros((64, 96), np.uint8)
        for identity, top in objects:
            labels[top : top + 20, 8 + 3 * index : 36 + 3 * index] = identity
        write_labels(folder / f"{name}.png", labels)
    return OwnClip(open_images(folder / "frames"), {"0": folder / "a.png", "5": folder / "b.png"})


@pytest.mark.resume
@pytest.mark.parametrize("stop", [3, 7])
@pytest.mark.parametrize("method", list(REGISTRY))
def test_every_method_goes_on_exactly(method, stop, tmp_path, in_root, monkeypatch):
    torch.manual_seed(0)
    setup, video = mini_setup(method, tmp_path), clip(tmp_path)
    segment_clip(Job(video, setup, tmp_path / "whole", CPU, None))
    whole = {p.name: file_digest(p) for p in (tmp_path / "whole").glob("*.png")}
    assert len(whole) == 10
    monkeypatch.setattr(segment, "SAVE_EVERY_S", 0.0)
    job = Job(video, setup, tmp_path / "cut", CPU, None)
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
    setup, video = mini_setup("copy", tmp_path), clip(tmp_path)
    monkeypatch.setattr(segment, "SAVE_EVERY_S", 0.0)
    job = Job(video, setup, tmp_path / "cut", CPU, None)

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
