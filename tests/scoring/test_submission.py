"""Pre-upload checks and the zips for the servers."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
from made_masks import blobs, write_video
from PIL import Image

from vosrepro.base.errors import DataError, ProtocolError
from vosrepro.base.labels import write_labels
from vosrepro.cli import main
from vosrepro.lab.fuzz import encode
from vosrepro.scoring import score_folder
from vosrepro.scoring.submission import check_submission, expect_davis, expect_youtube, write_zip


@pytest.fixture
def davis(tmp_path):
    """A test-dev archive of two sequences and perfect masks."""
    root, videos = tmp_path / "DAVIS", {"ants": blobs(1, 5), "bees": blobs(2, 4)}
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/test-dev.txt").write_text("ants\nbees\n")
    for name, video in videos.items():
        write_video(tmp_path / "masks", name, video)
        write_video(root / "Annotations/480p", name, {"00000": video["00000"]})
        (root / "JPEGImages/480p" / name).mkdir(parents=True)
        for frame in video:
            Image.new("RGB", (100, 60)).save(root / "JPEGImages/480p" / name / f"{frame}.jpg")
    return tmp_path


@pytest.fixture
def youtube(tmp_path):
    """A valid split whose second object begins on frame 00010."""
    root = tmp_path / "valid"
    names = ("00000", "00005", "00010", "00015")
    video = dict(zip(names, blobs(1, 4).values(), strict=True))
    for name in names[:2]:
        video[name] = video[name] * (video[name] == 1)
    write_video(root / "Annotations", "a", {k: video[k] for k in ("00000", "00010")})
    write_video(tmp_path / "masks", "a", video)
    objects = {
        "1": {"category": "ape", "frames": ["00000"]},
        "2": {"category": "yak", "frames": ["00010"]},
    }
    (root / "meta.json").write_text(json.dumps({"videos": {"a": {"objects": objects}}}))
    (root / "JPEGImages/a").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (100, 60)).save(root / "JPEGImages/a" / f"{name}.jpg")
    return tmp_path


def findings(folder, expected, server="davis"):
    return [str(f) for f in check_submission(folder, expected, server).findings]


def test_good_masks_pass_and_the_zip_is_always_the_same(davis):
    expected = expect_davis(davis / "DAVIS")
    assert findings(davis / "masks", expected) == []
    manifest = write_zip(davis / "masks", davis / "a.zip", expected, "davis")
    again = write_zip(davis / "masks", davis / "b.zip", expected, "davis")
    assert manifest["sha256"] == again["sha256"]
    assert (manifest["sequences"], manifest["files"]) == (2, 9)
    with zipfile.ZipFile(davis / "a.zip") as archive:
        assert {n.split("/")[0] for n in archive.namelist()} == {"ants", "bees"}
    report = check_submission(davis / "a.zip", expected, "davis")
    assert report.passed
    assert report.digest == manifest["masks_sha256"]
    assert score_folder(davis / "a.zip", davis / "masks", "davis2017").global_["J&F-Mean"] == 1


def damage(folder):
    ants, bees = folder / "ants", folder / "bees"
    labels = blobs(1, 5)["00002"]
    wrong = labels.copy()
    wrong[0, 0] = 7
    write_labels(ants / "00002.png", wrong)
    write_labels(ants / "00003.png", labels[:50])
    write_labels(ants / "00000.png", np.roll(labels, 9))
    (ants / "00001.png").write_bytes(encode(labels, depth=4))
    (ants / "00004.png").unlink()  # not read by the server
    (ants / "00009.png").write_bytes(b"")
    (bees / "00001.png").unlink()
    (bees / "00002.png").write_bytes(b"x")


def test_everything_that_the_server_rejects_is_found(davis):
    damage(davis / "masks")
    text = "\n".join(findings(davis / "masks", expect_davis(davis / "DAVIS")))
    for line in (
        "error: ants/00002: holds id 7; the objects are 1, 2",
        "error: ants/00003: is 100 x 50, not 100 x 60 pixels",
        "error: ants/00001: has 4 bits per pixel",
        "error: bees/00001: is missing",
        "error: bees/00002: it is not a PNG file",
        "warning: ants/00000: object 1 differs from its given mask",
        "warning: ants/00004: is missing",
        "warning: ants/00009: is not a frame that the server wants",
    ):
        assert line in text
    assert text.index("warning") > text.rindex("error")


def test_masks_with_errors_are_not_packed(davis):
    damage(davis / "masks")
    with pytest.raises(ProtocolError, match="not fit for upload: ants.*and 2 more"):
        write_zip(davis / "masks", davis / "a.zip", expect_davis(davis / "DAVIS"), "davis")
    assert not (davis / "a.zip").exists()


def test_vanishing_objects_and_missing_sequences(davis):
    for frame, labels in blobs(1, 5).items():
        write_labels(davis / f"masks/ants/{frame}.png", labels * (labels == 1) if frame > "00000" else labels)
    shutil.rmtree(davis / "masks/bees")
    (davis / "masks/extra").mkdir()
    text = findings(davis / "masks", expect_davis(davis / "DAVIS"))
    assert "warning: ants: object 2 is in no predicted frame" in text
    assert "error: bees: is missing" in text
    assert any("extra: is not a sequence of the list" in line for line in text)


def test_zips_of_the_wrong_layout(davis):
    expected = expect_davis(davis / "DAVIS")
    shutil.make_archive(str(davis / "wrapped"), "zip", davis, "masks")
    assert any("wraps everything in 'masks'" in f for f in findings(davis / "wrapped.zip", expected))
    write_zip(davis / "masks", davis / "a.zip", expected, "davis")
    with zipfile.ZipFile(davis / "a.zip", "a") as archive:
        archive.writestr("__MACOSX/ants/._00000.png", b"x")
    assert any("__MACOSX" in f for f in findings(davis / "a.zip", expected))
    assert any("one folder 'Annotations'" in f for f in findings(davis / "a.zip", expected, "youtube"))


def test_youtube_layout_and_late_objects(youtube):
    expected = expect_youtube(youtube / "valid")
    assert findings(youtube / "masks", expected, "youtube") == []
    shutil.copy(youtube / "masks/a/00015.png", youtube / "masks/a/00012.png")  # 30 fps inference
    write_zip(youtube / "masks", youtube / "a.zip", expected, "youtube")
    with zipfile.ZipFile(youtube / "a.zip") as archive:
        assert archive.namelist() == [f"Annotations/a/{n}.png" for n in ("00000", "00005", "00010", "00015")]
    assert check_submission(youtube / "a.zip", expected, "youtube").passed
    shutil.copy(youtube / "masks/a/00010.png", youtube / "masks/a/00005.png")
    text = findings(youtube / "masks", expected, "youtube")
    assert "error: a/00005: holds id 2, which only begins on frame 00010" in text


def test_the_command_checks_packs_and_exits(davis, capsys):
    options = ["--for", "davis17-testdev", "--data", str(davis / "DAVIS")]
    assert main(["submit", "check", str(davis / "masks"), *options]) == 0
    assert "ready to upload" in capsys.readouterr().out
    assert main(["submit", "zip", str(davis / "masks"), str(davis / "a.zip"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 9
    damage(davis / "masks")
    assert main(["submit", "check", str(davis / "masks"), *options, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert main(["submit", "zip", str(davis / "masks"), *options]) == 2
    assert main(["submit", "check", "x", "--for", "davis17-val", "--data", "y"]) == 2


def test_an_incomplete_archive_is_explained(davis):
    shutil.rmtree(davis / "DAVIS/JPEGImages/480p/bees")
    with pytest.raises(DataError, match="bees holds no image"):
        expect_davis(davis / "DAVIS")
    (davis / "DAVIS/ImageSets/2017/test-dev.txt").unlink()
    with pytest.raises(DataError, match="test-dev.txt"):
        expect_davis(davis / "DAVIS")
