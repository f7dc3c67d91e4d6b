"""One answer to which files of a folder count and in which order, whoever asks."""

from __future__ import annotations

import json
import logging
import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import vosrepro
from vosrepro.base import names
from vosrepro.base.errors import DataError
from vosrepro.base.files import read_json
from vosrepro.base.labels import write_labels
from vosrepro.datasets.prepare.inventory import _files
from vosrepro.datasets.sets.files import frame_names
from vosrepro.datasets.sets.video import list_frames, list_masks, open_video, read_frame, read_lines
from vosrepro.inference.own.own_clip import FolderImages, assign_masks
from vosrepro.scoring.counting.layout import read_sequence_list as read_scored
from vosrepro.scoring.counting.trees import ArrayTree, FolderTree, ZipTree
from vosrepro.scoring.scorer import Meta
from vosrepro.scoring.submission import expect_davis, expect_youtube

SOURCE = Path(vosrepro.__file__).parent
COUNTED = ["8", "9", "10", "11"]
LEFT_BEHIND = ("._9.png", "._9.jpg", ".DS_Store", "Thumbs.db", "desktop.ini")


@pytest.fixture(autouse=True)
def _warn_again(monkeypatch):
    monkeypatch.setattr(names, "_SAID", set())


@pytest.fixture
def data(tmp_path) -> Path:
    """A data set in the layouts of DAVIS and YouTube-VOS whose frames are called 8, 9, 10, 11."""
    for images, masks in (("JPEGImages/480p/v", "Annotations/480p/v"), ("JPEGImages/v", "Annotations/v")):
        for name in COUNTED:
            (tmp_path / images).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / images / f"{name}.jpg"), np.zeros((8, 8, 3), np.uint8))
            labels = np.zeros((8, 8), np.uint8)
            labels[2:4, 2:4] = 1
            write_labels(tmp_path / masks / f"{name}.png", labels)
        (tmp_path / images / "11.jpg").rename(tmp_path / images / "11.JPG")
        (tmp_path / masks / "11.png").rename(tmp_path / masks / "11.PNG")
        for folder in (images, masks):
            for name in LEFT_BEHIND:
                (tmp_path / folder / name).write_bytes(b"not an image")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/test-dev.txt").write_text("\ufeffv\n")
    meta = {"videos": {"v": {"objects": {"1": {"category": "cat", "frames": ["8", "9"]}}}}}
    (tmp_path / "meta.json").write_text("\ufeff" + json.dumps(meta))
    return tmp_path


def zipped(folder: Path) -> Path:
    target = folder / "masks.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in (folder / "Annotations/v").iterdir():
            archive.write(path, f"v/{path.name}")
            archive.writestr(f"__MACOSX/v/._{path.name}", b"")
    return target


#: Every module that lists frames or masks: how it is asked.
LISTERS = {
    "frames of a data set": lambda d: frame_names(list_frames(d / "JPEGImages/v")),
    "masks of a data set": lambda d: list(list_masks(d / "Annotations/v")),
    "the inventory": lambda d: [p.stem for p in _files(d / "Annotations/v", (".png",))],
    "the scorer's folders": lambda d: FolderTree(d / "Annotations").frames("v"),
    "the scorer's zips": lambda d: ZipTree(zipped(d)).frames("v"),
    "the scorer's arrays": lambda d: ArrayTree({"v": dict.fromkeys(sorted(COUNTED))}, "arrays").frames("v"),
    "submissions to DAVIS": lambda d: list(expect_davis(d)["v"].frames),
    "submissions to YouTube-VOS": lambda d: list(expect_youtube(d)["v"].frames),
    "a person's frames": lambda d: list(FolderImages(d / "JPEGImages/v").frame_names),
    "a person's masks": lambda d: list(assign_masks([str(d / "Annotations/v")], COUNTED)),
}


@pytest.mark.parametrize("who", LISTERS)
def test_everybody_finds_the_same_frames_in_the_same_order_and_warns(who, data, caplog):
    with caplog.at_level(logging.WARNING):
        assert LISTERS[who](data) == COUNTED
    assert re.search(r"8(\.\w+)? is taken to come before 10(\.\w+)?, as their numbers say", caplog.text)
    assert "are left out" not in caplog.text


#: Modules of the rooms that deal with frames that list folders by themselves, and what they find there.
OWN_LISTS = {
    "datasets/generated/__init__.py": "files that it made",
    "datasets/generated/trees.py": "files that it made",
    "datasets/prepare/archives.py": "unpacked archives, moved whole",
    "datasets/prepare/conversions.py": "pairs at any depth, by `visible`",
    "datasets/prepare/inventory.py": "official lists",
    "datasets/prepare/prepare.py": "downloads",
    "datasets/prepare/verification.py": "whether a part is there",
    "datasets/sets/imagenet_vid.py": "official lists",
    "inference/own/kept.py": "masks that we made",
    "inference/videos.py": "masks that we made",
    "reporting/results.py": "records of a study",
    "reporting/pages/viewer.py": "which of the frames of a video have a mask",
    "scoring/counting/trees.py": "names for `chosen`, without an object for each",
    "commands/coverage.py": "parameter files",
}


def test_no_other_module_lists_the_frames_of_a_folder():
    lists = re.compile(r"\.iterdir\(|listdir\(|scandir\(|glob\(")
    found = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if lists.search(p.read_text())}
    rooms = ("datasets/", "scoring/", "inference/", "commands/", "reporting/", "training/data/")
    assert {name for name in found if name.startswith(rooms)} == set(OWN_LISTS)


def test_names_with_leading_zeros_are_sorted_as_ever_without_a_word(caplog):
    shuffled = ["00010.jpg", "00009.jpg", "00100.jpg"]
    assert names.in_order(shuffled, "here") == sorted(shuffled)
    assert names.in_order(["b2", "b10", "a"], "here") == ["a", "b2", "b10"]
    assert caplog.text.count("is taken to come before") == 1


def test_files_of_other_kinds_are_named_and_twins_refused(data, caplog):
    for name in ("12.tiff", "13.bmp", "notes.txt", "folder.d"):
        (data / "JPEGImages/v" / name).write_bytes(b"") if name != "folder.d" else (
            data / "JPEGImages/v" / name
        ).mkdir()
    list_frames(data / "JPEGImages/v")
    assert "2 files are left out, first 12.tiff: only .jpg, .jpeg are read here" in caplog.text
    shutil.copy(data / "Annotations/v/9.png", data / "Annotations/v/9.PNG")
    with pytest.raises(DataError, match=r"holds 9.png and 9.PNG: leave one of them"):
        FolderTree(data / "Annotations").frames("v")


def test_masks_with_upper_case_endings_are_read(data):
    assert FolderTree(data / "Annotations").image("v", "11").height == 8
    assert ZipTree(zipped(data)).image("v", "11").height == 8
    assert list_masks(data / "Annotations/v")["11"].is_file()
    assert open_video("v", data / "JPEGImages/v", data / "Annotations/v").starts == {1: "8"}


def test_byte_order_marks_are_no_part_of_a_name(data):
    path = data / "ImageSets/2017/test-dev.txt"
    assert read_lines(path) == ["v"]
    assert read_scored(path) == ("v",)
    assert read_json(data / "meta.json")["videos"]
    assert Meta(data / "meta.json", None).starts("v") == {1: "8"}


def test_lists_and_json_of_others_are_read_by_one_reader():
    """Which takes byte-order marks; the rest reads files that we wrote, or the system."""
    rooms = ("datasets/", "scoring/", "inference/", "commands/", "weights/", "study/")
    found = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if "read_text(enc" in p.read_text()}
    ours = {"inference/classify.py", "study/code.py", "datasets/generated/__init__.py"}
    assert {name for name in found if name.startswith(rooms)} == ours


@pytest.mark.parametrize("names_of", [["00001", "00002", "00003"], ["1", "2", "3"]])
def test_a_mask_for_frame_1_goes_to_the_frame_that_is_called_1(names_of, tmp_path):
    write_labels(tmp_path / "m.png", np.ones((4, 4), np.uint8))
    assert list(assign_masks([f"1={tmp_path}/m.png"], names_of)) == [names_of[0]]
    with pytest.raises(DataError, match=f"a number from 1 to 3 or a name such as {names_of[0]}"):
        assign_masks([f"0={tmp_path}/m.png"], names_of)
    assert list(assign_masks([f"1={tmp_path}/m.png"], ["shot1", "shot2"])) == ["shot2"]


def test_a_photo_is_seen_as_viewers_turn_it_and_a_data_sets_frame_as_it_is_stored(tmp_path):
    from PIL import Image

    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(stored).save(tmp_path / "1.jpg", exif=exif, quality=95)
    assert read_frame(tmp_path / "1.jpg").shape == (16, 32, 3)
    shown = FolderImages(tmp_path).image(0)
    assert shown.shape == (32, 16, 3)
    assert shown[:8, 8:].mean() > 250
    assert shown[8:].mean() < 5


def test_a_sequence_whose_name_is_not_utf8_is_scored(tmp_path, capsysbinary):
    from vosrepro.cli import main

    name = b"stra\xdfe".decode("utf-8", "surrogateescape")
    for frame in range(4):
        labels = np.zeros((16, 16), np.uint8)
        labels[4:8, 4:8] = 1
        write_labels(tmp_path / "masks" / name / f"{frame}.png", labels)
    call = ["score", f"{tmp_path}/masks", "--truth", f"{tmp_path}/masks", "--protocol", "davis2017"]
    assert main([*call, "--out", f"{tmp_path}/out"]) == 0
    assert (tmp_path / "out/scores.csv").read_bytes().splitlines()[1].startswith(b"stra\xdfe,1,")
