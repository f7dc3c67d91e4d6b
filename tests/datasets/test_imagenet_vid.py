"""ImageNet-VID: boxes as label maps, snippets as training videos, and what verification says of broken trees."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.errors import DataError
from vosrepro.datasets import read_annotation, read_frame, training_videos
from vosrepro.datasets.generated.encode import box_xml
from vosrepro.datasets.prepare.prepare import prepare_set
from vosrepro.datasets.prepare.verification import verify
from vosrepro.datasets.sets.boxes import box_labels, read_boxes
from vosrepro.study.params import DataParams

VID = "ILSVRC2015"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _xml(*objects: tuple[int, tuple[int, int, int, int]], size: tuple[int, int] = (40, 60)) -> str:
    """An annotation with (track, (xmin, ymin, xmax, ymax)), fields in the official order."""
    items = "".join(
        f"<object><trackid>{track}</trackid><name>n02084071</name><bndbox><xmax>{b[2]}</xmax>"
        f"<xmin>{b[0]}</xmin><ymax>{b[3]}</ymax><ymin>{b[1]}</ymin></bndbox><occluded>0</occluded>"
        "<generated>1</generated></object>"
        for track, b in objects
    )
    extent = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    return f"<annotation><folder>x</folder>{extent}{items}</annotation>"


def test_boxes_are_filled_with_their_track_and_small_ones_lie_on_top(tmp_path: Path):
    path = _write(tmp_path / "0.xml", _xml((3, (5, 6, 9, 12)), (0, (0, 0, 30, 20))))
    labels = box_labels(path)
    assert labels.shape == (40, 60)
    assert labels.dtype == np.uint8
    assert (labels == 4).sum() == 4 * 6
    assert labels[6, 5] == labels[11, 8] == 4
    assert (labels == 1).sum() == 30 * 20 - 4 * 6


def test_boxes_are_cut_at_the_frame_and_empty_ones_left_out(tmp_path: Path):
    path = _write(tmp_path / "0.xml", _xml((0, (-4, 30, 10, 99)), (1, (60, 0, 60, 10))))
    assert read_boxes(path).boxes == {0: (0, 30, 10, 40)}


def test_generated_boxes_are_the_tight_ones(tmp_path: Path):
    labels = np.zeros((20, 30), np.uint8)
    labels[3:7, 4:11], labels[10, 12], labels[0, 0] = 1, 2, 255
    found = read_boxes(_write(tmp_path / "0.xml", box_xml(labels)))
    assert found.size == (20, 30)
    assert found.boxes == {0: (4, 3, 11, 7), 1: (12, 10, 13, 11)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation><size>", "no element found"),
        ("<annotation></annotation>", "no size/height"),
        (_xml((0, (1, 1, 5, 5)), (0, (2, 2, 6, 6))), "track 0 is given twice"),
        (_xml((254, (1, 1, 5, 5))), "track 254"),
        (_xml().replace("40", "tall"), "tall"),
    ],
)
def test_a_malformed_annotation_is_one_sentence(text: str, reason: str, tmp_path: Path):
    path = _write(tmp_path / "7.xml", text)
    with pytest.raises(DataError, match=rf"7.xml is not a box annotation of ImageNet-VID .*{reason}"):
        read_boxes(path)


def test_snippets_are_videos_with_boxes_for_masks(small: DataParams):
    (video,) = training_videos("imagenet-vid", small)
    assert video.name == "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    assert [path.stem for path in video.frames] == [f"{n:06d}" for n in range(12)]
    assert set(video.starts) == {1}
    labels = read_annotation(video, "000000")
    assert labels.shape == read_frame(video.frames[0]).shape[:2]
    inside = labels == 1
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(rows) * len(columns) > 80  # a filled box
    both = [v.name.partition("/")[0] for v in training_videos("imagenet-vid-all", small)]
    assert both == ["train", "val"]


def test_snippets_without_groups_are_found(broken: DataParams):
    root = Path(broken.root) / VID
    for tree in ("Data", "Annotations"):
        (group,) = (root / tree / "VID/train").iterdir()
        for snippet in group.iterdir():
            snippet.rename(root / tree / "VID/train" / snippet.name)
        group.rmdir()
    (video,) = training_videos("imagenet-vid", broken)
    assert video.name == "train/ILSVRC2015_train_00000000"


def test_verification_counts_both_halves(small: DataParams):
    facts = verify(small, ["imagenet-vid"])["parts"]["imagenet-vid"]
    assert (facts["videos"], facts["frames"], facts["masks"]) == (2, 24, 24)
    assert facts["files"] == 24 + 24 + 2  # and two lists


def _first(root: Path, tree: str, half: str) -> Path:
    return next(p for p in sorted((root / VID / tree / "VID" / half).rglob("*.*")) if p.is_file())


def test_a_missing_annotation_is_named(broken: DataParams):
    path = _first(Path(broken.root), "Annotations", "train")
    path.unlink()
    with pytest.raises(DataError, match=f"{path} is missing, but its frame is there"):
        verify(broken, ["imagenet-vid"])


def test_a_half_extracted_archive_is_noticed_by_the_official_lists(broken: DataParams):
    import shutil

    root = Path(broken.root) / VID
    lists = root / "ImageSets/VID/train_1.txt"
    lists.write_text(lists.read_text() + "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000009 1\n")
    shutil.rmtree(next((root / "Data/VID/val").iterdir()))
    with pytest.raises(DataError) as caught:
        verify(broken, ["imagenet-vid"])
    said = str(caught.value)
    assert "ILSVRC2015_train_00000009 is missing, but the lists in ImageSets/VID name it" in said
    assert "val/ILSVRC2015_val_00000000 is missing" in said


def test_a_box_file_of_another_size_than_its_frame_is_noticed(broken: DataParams):
    path = _first(Path(broken.root), "Annotations", "val")
    path.write_text(_xml((0, (1, 1, 5, 5)), size=(853, 480)))
    with pytest.raises(DataError, match=f"{path} is 480x853 pixels but its frame"):
        verify(broken, ["imagenet-vid"])


def test_the_official_archive_is_prepared(small_root: Path, tmp_path: Path):
    archive = tmp_path / "ILSVRC2015_VID.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(small_root / VID, arcname=VID)
    manifest = prepare_set("imagenet-vid", DataParams(root=str(tmp_path / "real")), [archive])
    assert manifest["parts"]["imagenet-vid"]["videos"] == 2
    assert (tmp_path / "real" / VID / "Data/VID/val").is_dir()
    with pytest.raises(DataError, match="log in at image-net.org, ILSVRC2015"):
        prepare_set("imagenet-vid", DataParams(root=str(tmp_path / "elsewhere")))
