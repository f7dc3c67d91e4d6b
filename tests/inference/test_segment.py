"""A user's own clip, from a video file or a folder to masks and an overlay."""

from __future__ import annotations

import gc
import json
import struct
import weakref
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from clips import HEIGHT, WIDTH, copy_clip, frame, mask, write_folder, write_video

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.inference.own.own_clip import (
    OwnClip,
    VideoImages,
    assign_masks,
    open_images,
    upright,
)
from vosrepro.inference.own.setup import find_setup
from vosrepro.inference.runner import segment_video


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mp4", "libx264"), ("clip.webm", "libvpx-vp9"), ("clip.avi", "mpeg4"), ("clip.mkv", "mjpeg")],
)
def test_a_video_becomes_masks_of_its_size_and_an_overlay_that_browsers_play(tmp_path, in_root, name, codec):
    pixel_format_codec = "mpeg4" if codec == "mjpeg" else codec
    video = write_video(tmp_path / name, codec=pixel_format_codec)
    write_labels(tmp_path / "first.png", mask((1, 8), (7, 20), height=HEIGHT + 1))
    out, look = tmp_path / "out", tmp_path / "look.mp4"
    copy_clip(video, tmp_path / "first.png", "--out", out, "--overlay", look)
    masks = sorted(out.glob("*.png"))
    assert [p.stem for p in masks] == [f"{i:05d}" for i in range(12)]
    assert all(set(np.unique(read_labels(p))) == {0, 1, 7} for p in masks)
    assert read_labels(masks[3]).shape == (HEIGHT + 1, WIDTH)
    with av.open(str(look)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 24
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(shown) == 12
    plain = next(iter(av.open(str(video)).decode(video=0))).to_ndarray(format="rgb24")
    red = shown[0][9:13, 8:13].astype(int) - plain[9:13, 8:13]
    assert red[..., 0].mean() > 10  # object 1 is tinted red
    assert red[..., 1:].mean() < 0
    head = look.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays before it is loaded


def test_a_folder_with_odd_sizes_gets_masks_and_a_webm(tmp_path, in_root):
    folder = write_folder(tmp_path / "frames")
    cv2.imwrite(str(tmp_path / "white.png"), mask((255, 8)))
    copy_clip(
        folder, tmp_path / "white.png", "--out", tmp_path / "out", "--overlay", tmp_path / "look.webm", "--fps", "12"
    )
    assert set(np.unique(read_labels(tmp_path / "out/00005.png"))) == {0, 1}
    with av.open(str(tmp_path / "look.webm")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.height, stream.width) == (
            "vp9",
            HEIGHT + 1,
            WIDTH,
        )
    record = json.loads((tmp_path / "out/segment.json").read_text())
    assert record["frames"] == 6
    assert record["finished"] is True
    assert record["timing"]["fps_amortised"] > 0


def test_masks_on_several_frames_begin_their_objects_there(tmp_path, in_root):
    folder = write_folder(tmp_path / "frames")
    write_labels(tmp_path / "a.png", mask((1, 2)))
    write_labels(tmp_path / "b.png", mask((1, 2), (2, 20)))
    out = tmp_path / "out"
    copy_clip(folder, f"1={tmp_path / 'a.png'}", f"00003={tmp_path / 'b.png'}", "--out", out)
    ids = {p.stem: set(np.unique(read_labels(p))) - {0} for p in sorted(out.glob("*.png"))}
    assert ids == {"00001": {1}, "00002": {1}, "00003": {1, 2}, "00004": {1, 2}, "00005": {1, 2}}


def test_a_finished_clip_is_not_segmented_again_and_an_interrupted_one_is(tmp_path, in_root, capsys, monkeypatch):
    folder = write_folder(tmp_path / "frames")
    write_labels(tmp_path / "a.png", mask((1, 2)))
    call = (folder, tmp_path / "a.png", "--out", tmp_path / "out")
    copy_clip(*call)
    capsys.readouterr()
    monkeypatch.setattr("vosrepro.inference.own.segment.segment_video", lambda *_, **__: 1 / 0)
    copy_clip(*call)
    assert "finished before (6 masks)" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.chdir(Path(__file__).parents[2])

    def killed(*arguments, **options):
        for number, result in enumerate(segment_video(*arguments, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    write_labels(tmp_path / "a.png", mask((1, 20)))
    monkeypatch.setattr("vosrepro.inference.own.segment.segment_video", killed)
    copy_clip(*call, expect=2)  # what another mask gave is not replaced without a word
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    copy_clip(*call, "--force", expect=130)
    names = [p.stem for p in sorted((tmp_path / "out").glob("*.png"))]
    assert names == ["00000", "00001", "00002"]  # nothing of the earlier masks is left
    monkeypatch.undo()
    monkeypatch.chdir(Path(__file__).parents[2])
    copy_clip(*call)
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert read_labels(tmp_path / "out/00005.png")[22, 8] == 1


@pytest.fixture
def quick_collection():
    """Garbage collection that looks at what the test makes only, not at all of torch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collection")
def test_frames_do_not_pile_up_in_memory(tmp_path):
    alive: set[int] = set()
    most = 0

    class Many:
        name, rate, frame_names = "many", Fraction(25), [f"{i:05d}" for i in range(24)]

        def image(self, index):
            nonlocal most
            made = frame(index % 20)
            alive.add(index)
            weakref.finalize(made, alive.discard, index)
            gc.collect()
            most = max(most, len(alive))
            return made

    class Still:
        def init(self, image, labels):
            self.probs = torch.stack([labels == 0, labels == 1]).float()

        def step(self, image, new=None):
            return self.probs

    write_labels(tmp_path / "a.png", mask((1, 2)))
    clip = OwnClip(Many(), {"00000": tmp_path / "a.png"})
    assert sum(1 for _ in segment_video(Still, clip, device=torch.device("cpu"))) == 24
    assert most <= 4


def test_frames_of_a_folder_are_sorted_as_people_count(tmp_path):
    folder = write_folder(tmp_path / "frames", 12, "shot{}.png")
    assert list(open_images(folder).frame_names)[:3] == ["shot0", "shot1", "shot2"]
    assert open_images(folder).frame_names[-1] == "shot11"


def test_a_name_that_is_not_utf8_works(tmp_path, in_root):
    folder = write_folder(tmp_path / "frames", 2)
    for index, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / (b"bild\xe4" + str(index).encode() + b".png").decode("utf-8", "surrogateescape"))
    write_labels(tmp_path / "a.png", mask((1, 2)))
    copy_clip(folder, tmp_path / "a.png", "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_video_is_counted_by_decoding_and_a_damaged_end_is_left_out(tmp_path, caplog):
    video = write_video(tmp_path / "whole.mkv", 40)
    assert len(VideoImages(video).frame_names) == 40
    data = video.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    cut = VideoImages(tmp_path / "cut.mkv")
    assert 0 < len(cut.frame_names) < 40
    last = cut.image(len(cut.frame_names) - 1)
    assert last.shape == (HEIGHT + 1, WIDTH, 3)
    assert np.abs(cut.image(0).astype(int) - frame(0, HEIGHT + 1)).mean() < 8  # going back works


#: Of a picture [[0, 1, 2], [3, 4, 5]]: display matrices, and what players show.
SHOWN = {
    (1, 0, 0, 1): [[0, 1, 2], [3, 4, 5]],
    (0, 1, -1, 0): [[3, 0], [4, 1], [5, 2]],  # a quarter clockwise, as phones held upright write
    (0, -1, 1, 0): [[2, 5], [1, 4], [0, 3]],
    (-1, 0, 0, -1): [[5, 4, 3], [2, 1, 0]],
    (-1, 0, 0, 1): [[2, 1, 0], [5, 4, 3]],  # mirrored, as front cameras write
    (1, 0, 0, -1): [[3, 4, 5], [0, 1, 2]],
    (0, 1, 1, 0): [[0, 3], [1, 4], [2, 5]],  # mirrored and turned
    (0, -1, -1, 0): [[5, 2], [4, 1], [3, 0]],
}


@pytest.mark.parametrize(("matrix", "shown"), SHOWN.items())
def test_phone_videos_are_shown_upright_and_mirrored_as_players_do(matrix, shown):
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert upright(image, matrix)[..., 0].tolist() == shown


@pytest.mark.parametrize("matrix", list(SHOWN))
def test_the_display_matrix_of_a_file_turns_and_mirrors_its_frames(tmp_path, matrix):
    plain = VideoImages(write_video(tmp_path / "plain.mp4", 2)).image(0)
    written = bytearray((tmp_path / "plain.mp4").read_bytes())
    place = written.index(b"tkhd") + 44  # ISO 14496-12, track header of version 0
    a, b, c, d = (value << 16 for value in matrix)
    written[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(written)
    turned = VideoImages(tmp_path / "turned.mp4").image(0)
    assert np.array_equal(turned, upright(plain, matrix))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((), None),
        (("nothing.png",), "there is no mask nothing.png"),
        (("{a}", "{b}"), "which frame .*a.png belongs to is not known: write FRAME=a.png"),
        (("6={a}",), "which frame .*a.png belongs to .* from 0 to 5 or a name such as 00000"),
        (("0={a}", "00000={b}"), "a.png and .*b.png are both for frame 00000"),
    ],
)
def test_a_mask_without_a_frame_is_explained(tmp_path, given, sentence):
    names = [f"{i:05d}" for i in range(6)]
    for name in "ab":
        write_labels(tmp_path / f"{name}.png", mask((1, 2)))
    given = [g.format(a=tmp_path / "a.png", b=tmp_path / "b.png") for g in given]
    if sentence is None:
        assert assign_masks(given, names) == {}
        return
    with pytest.raises(DataError, match=sentence):
        assign_masks(given, names)


def test_a_folder_of_masks_is_taken_by_its_names(tmp_path):
    for name in ("00001", "00004"):
        write_labels(tmp_path / "m" / f"{name}.png", mask((1, 2)))
    found = assign_masks([str(tmp_path / "m")], [f"{i:05d}" for i in range(6)])
    assert sorted(found) == ["00001", "00004"]


def bad_soft(folder):
    cv2.imwrite(str(folder / "m.png"), cv2.resize(mask((255, 2)), (WIDTH, HEIGHT * 2))[:HEIGHT])
    cv2.imwrite(str(folder / "m.png"), np.tile(np.arange(WIDTH, dtype=np.uint8) * 5, (HEIGHT, 1)))
    wide = np.tile(np.linspace(0, 250, 100).astype(np.uint8), (HEIGHT, 1))
    cv2.imwrite(str(folder / "m.png"), wide)


def bad_color(folder):
    cv2.imwrite(str(folder / "m.png"), frame(0))


def bad_size(folder):
    write_labels(folder / "m.png", mask((1, 2), width=WIDTH - 1))


def bad_empty(folder):
    write_labels(folder / "m.png", mask())


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (bad_soft, "m.png has 99 different values, so it is a picture or has soft edges"),
        (bad_color, "m.png is a RGB image, not a label map"),
        (bad_size, "m.png is 45x33 pixels but its image is 46x33"),
        (bad_empty, "m.png has no object pixel, so there is nothing to track: draw"),
    ],
)
def test_a_bad_mask_is_one_sentence_and_leaves_nothing(tmp_path, in_root, capsys, draw, sentence):
    import re

    folder = write_folder(tmp_path / "frames")
    draw(tmp_path)
    copy_clip(folder, tmp_path / "m.png", "--out", tmp_path / "out", expect=2)
    error = capsys.readouterr().err
    assert re.search(sentence, error)
    assert "Traceback" not in error
    assert not list((tmp_path / "out").glob("*.png"))


def test_an_object_given_twice_and_an_empty_later_mask_are_warned_of(tmp_path, caplog):
    folder = write_folder(tmp_path / "frames")
    write_labels(tmp_path / "a.png", mask((1, 2)))
    write_labels(tmp_path / "b.png", mask((1, 10)))
    write_labels(tmp_path / "c.png", mask())
    paths = {f"0000{i}": tmp_path / f"{n}.png" for i, n in enumerate("abc")}
    clip = OwnClip(open_images(folder), paths)
    assert clip.starts == {1: "00000"}
    assert "began on frame 00000 already: its mask on frame 00001 is left out" in caplog.text
    assert "c.png has no object pixel: it is left out" in caplog.text


def test_files_that_are_no_clip_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "both", 2, "{}.png")
    cv2.imwrite(str(tmp_path / "both/1.jpg"), frame(1))
    for name, sentence in (
        ("nothing.mp4", "there is no video or folder"),
        ("text.mp4", "text.mp4 cannot be read as a video"),
        ("empty", "empty has no .jpg"),
        ("both", "both has several images called 1: keep frames and masks"),
    ):
        with pytest.raises(DataError, match=sentence):
            open_images(tmp_path / name)


def test_foreign_files_are_not_overwritten_and_endings_are_checked_first(tmp_path, in_root, capsys):
    folder = write_folder(tmp_path / "frames")
    write_labels(tmp_path / "a.png", mask((1, 2)))
    copy_clip(folder, tmp_path / "a.png", "--out", folder, expect=2)
    assert "is an input, which it would replace" in capsys.readouterr().err
    write_folder(tmp_path / "others", 1)
    copy_clip(folder, tmp_path / "a.png", "--out", tmp_path / "others", expect=2)
    assert "holds files that `vosrepro segment` did not make" in capsys.readouterr().err
    copy_clip(folder, tmp_path / "a.png", "--overlay", "x.gif", expect=2)
    assert "an overlay is .mp4 (H.264) or .webm (VP9)" in capsys.readouterr().err


def test_weights_are_described_by_their_study_or_the_caller(tmp_path, in_root):
    from vosrepro.weights.files import save_weights

    with pytest.raises(ConfigError, match="method 'stm' needs weights"):
        find_setup("stm", None)
    with pytest.raises(CheckpointError, match="there are no weights"):
        find_setup("stm", tmp_path / "w.safetensors")
    save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"method": "stm"})
    with pytest.raises(ConfigError, match="lies outside results/<study>/: give --size and"):
        find_setup("stm", tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="holds weights of 'stm', not of 'frtm'"):
        find_setup("frtm", tmp_path / "w.safetensors")
    found = find_setup("stm", tmp_path / "w.safetensors", size="mini", recipe="s0")
    assert found.model["objects"] == 1
    assert found.settings["top_k"] == 50
    place = tmp_path / "results/mini/stm/s012/seed0"
    save_weights(place / "selected.safetensors", {"a": torch.zeros(1)}, {"method": "stm"})
    save_weights(place / "s0/weights/step-1.safetensors", {"a": torch.zeros(1)}, {})
    (tmp_path / "params").symlink_to(in_root / "params" if in_root else "params")
    selected = find_setup("stm", place / "selected.safetensors", changes={"top_k": 7})
    assert selected.origin == "stm/s012/seed0"
    assert selected.model.get("objects", 2) == 2
    assert selected.settings["top_k"] == 7
    assert find_setup("stm", place / "s0/weights/step-1.safetensors").model["objects"] == 1
