from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.cli import main
from vosrepro.datasets import verify
from vosrepro.datasets.generated.encode import jpeg, label_png
from vosrepro.datasets.prepare.verification import parts_of_plan
from vosrepro.datasets.sets.catalog import benchmark_part
from vosrepro.datasets.sets.image_files import Defect, image_size
from vosrepro.study.params import DataParams, EntryParams, load_benchmark, load_study
from vosrepro.study.plan import load_plan

VAL = "DAVIS/2017/trainval"


def test_a_complete_root_is_described(small: DataParams):
    manifest = verify(small)
    parts = manifest["parts"]
    assert list(parts) == [
        "davis16-train",
        "davis16-val",
        "davis17-train",
        "davis17-val",
        "davis17-testdev",
        "ytvos-train",
        "ytvos-valid",
        "ytvos-valid-all",
        "ytvos-jjval",
        "static",
        "ali21",
        "bl30k",
        "imagenet-vid",
        "imagenet",
    ]
    assert parts["davis17-val"]["videos"] == 2
    assert parts["davis17-val"]["frames"] == parts["davis17-val"]["masks"] == 40
    assert parts["davis17-val"]["files"] == 81  # and the list
    assert parts["davis17-testdev"]["masks"] == 1
    assert parts["ytvos-valid-all"]["frames"] == 36
    assert manifest["bytes"] == sum(p["bytes"] for p in parts.values())
    assert json.loads(json.dumps(manifest)) == manifest


def test_the_digest_follows_the_bytes_and_not_the_place(small: DataParams, broken: DataParams):
    names = ["davis17-val"]
    before = verify(small, names)["digest"]
    assert verify(broken, names)["digest"] == before
    path = Path(broken.root) / VAL / "Annotations/480p/val-04/00007.png"
    labels = np.zeros((135, 240), np.uint8)
    shape = image_size(path.read_bytes())[::-1]
    path.write_bytes(label_png(np.resize(labels, shape)))
    assert verify(broken, names)["digest"] != before


def test_a_large_part_is_described_by_sizes(small: DataParams, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vosrepro.datasets.prepare.checking.READ_WHOLE_BYTES", 1000)
    sampled = verify(small, ["bl30k"])["parts"]["bl30k"]
    assert sampled["digest_of"] == "sizes"
    whole = verify(small, ["bl30k"], full=True)["parts"]["bl30k"]
    assert whole["digest_of"] == "content"
    assert whole["bytes"] == sampled["bytes"]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(bytes(data))


def _narrow(path: Path) -> None:
    width, height = image_size(path.read_bytes())
    path.write_bytes(label_png(np.ones((height, width - 1), np.uint8)))


def _blank(path: Path) -> None:
    width, height = image_size(path.read_bytes())
    path.write_bytes(label_png(np.zeros((height, width), np.uint8)))


@pytest.mark.parametrize(
    ("part", "path", "damage", "sentence"),
    [
        ("davis2017", VAL, _remove, "data set 'davis2017' is missing: .*davischallenge.org"),
        ("davis17-val", f"{VAL}/ImageSets", _remove, "ImageSets/2017/val.txt is missing: extract"),
        ("davis17-val", f"{VAL}/JPEGImages/480p/val-04", _remove, "480p/val-04 is missing or has no JPEG"),
        (
            "davis17-val",
            f"{VAL}/Annotations/480p/val-04/00007.png",
            _remove,
            "val-04/00007.png is missing, but its frame is there",
        ),
        (
            "davis17-val",
            f"{VAL}/JPEGImages/480p/val-04/00007.jpg",
            _remove,
            "val-04/00007.jpg is missing, but its mask is there",
        ),
        ("davis17-val", f"{VAL}/JPEGImages/480p/val-04/00007.jpg", _cut, "val-04/00007.jpg is truncated"),
        ("davis17-val", f"{VAL}/Annotations/480p/val-04/00007.png", _cut, "val-04/00007.png is truncated"),
        ("davis17-val", f"{VAL}/Annotations/480p/val-04/00007.png", _flip, "val-04/00007.png is damaged"),
        (
            "davis17-val",
            f"{VAL}/Annotations/480p/val-04/00007.png",
            lambda p: p.write_bytes(b""),
            "val-04/00007.png is empty",
        ),
        (
            "davis17-val",
            f"{VAL}/Annotations/480p/val-04/00007.png",
            _narrow,
            r"00007.png is 239x135 pixels but its frame .*00007.jpg is 240x135|is \d+x\d+ pixels but",
        ),
        ("davis17-val", f"{VAL}/Annotations/480p/val-04/00000.png", _blank, "val-04/00000.png has no object pixel"),
        (
            "davis16-val",
            "DAVIS/2016/JPEGImages/480p/val-00/00019.jpg",
            _remove,
            "00019.jpg is missing, but .*val.txt names it|but its mask is there",
        ),
        (
            "davis17-testdev",
            "DAVIS/2017/test-dev/Annotations/480p/dev-00/00000.png",
            _remove,
            "480p/dev-00 is missing or has no PNG",
        ),
        ("static", "static/DUTS-TR/DUTS-TR_0001.png", _remove, "DUTS-TR_0001.png is missing"),
        ("ytvos-train", "YouTube/train/meta.json", _remove, "train/meta.json is missing"),
        ("ytvos-jjval", "YouTube/train/ImageSets", _remove, "jjval.txt is missing"),
        ("ytvos-valid", "YouTube/valid/Annotations", _remove, ".png is missing"),
        ("bl30k", "BL30K/Annotations", _remove, "video-000 is missing or has no PNG"),
    ],
)
def test_each_defect_is_said(part: str, path: str, damage, sentence: str, broken: DataParams):
    damage(Path(broken.root) / path)
    with pytest.raises(DataError, match=sentence):
        verify(broken, [part])


def test_a_mask_that_meta_names_must_be_there(broken: DataParams):
    next(iter(sorted((Path(broken.root) / "YouTube/train/Annotations").rglob("00020.png")))).unlink()
    with pytest.raises(DataError, match=r"00020.png is missing, but .*meta.json says"):
        verify(broken, ["ytvos-train"])


def test_many_defects_are_counted(broken: DataParams):
    for path in (Path(broken.root) / VAL / "JPEGImages/480p/val-04").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty; and 15 more. Extract the archive again"):
        verify(broken, ["davis17-val"])


def test_a_damaged_generated_root_is_to_be_generated_again(broken: DataParams):
    shutil.rmtree(Path(broken.root) / "static")
    data = broken.model_copy(update={"generated": True})
    with pytest.raises(DataError, match="vosrepro data generate --root"):
        verify(data, ["static"])


def test_a_half_set_is_enough_for_who_needs_that_half(broken: DataParams):
    (Path(broken.root) / VAL / "ImageSets/2017/train.txt").unlink()
    assert list(verify(broken, ["davis17-val"])["parts"]) == ["davis17-val"]
    with pytest.raises(DataError, match=r"train.txt is missing"):
        verify(broken, ["davis2017"])


def test_an_empty_root_says_what_is_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds none of the folders DAVIS/2016, .*, BL30K"):
        verify(DataParams(root=str(tmp_path)))


def test_an_unknown_name_is_corrected(small: DataParams):
    with pytest.raises(ConfigError, match="did you mean 'davis17-val'"):
        verify(small, ["davis17-vall"])


def test_a_read_only_root_verifies(broken: DataParams):
    folders = [Path(broken.root), *(p for p in Path(broken.root).rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert verify(broken)["files"] > 0
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_verifying_the_small_root_is_fast(small: DataParams):
    started = time.process_time()
    verify(small)
    assert time.process_time() - started < 1.0


def test_a_study_needs_what_it_names(in_root: Path):
    parts = parts_of_plan(load_plan("params/studies/mini.yaml"))
    assert {"davis17-train", "davis16-val", "davis17-val", "ytvos-jjval", "static"} <= set(parts)


def test_a_classifier_that_is_not_trained_here_needs_one_half_of_imagenet(in_root: Path):
    mini = load_study("params/studies/mini.yaml")
    entry = EntryParams(method="parts", recipes=("untrained",), variants=("full",), benchmarks=("imagenet-val",))
    assert parts_of_plan(load_plan(mini.model_copy(update={"entries": (entry,)}))) == ["imagenet-val"]
    trained = entry.model_copy(update={"recipes": ("s0",)})
    parts = parts_of_plan(load_plan(mini.model_copy(update={"entries": (trained,)})))
    assert "imagenet" in parts and "imagenet-val" not in parts


@pytest.mark.parametrize(
    ("benchmark", "part"),
    [
        ("davis16-val", "davis16-val"),
        ("davis17-val", "davis17-val"),
        ("davis17-testdev", "davis17-testdev"),
        ("ytvos18-val", "ytvos-valid-all"),
        ("ytvos18-jjval", "ytvos-jjval"),
        ("imagenet-val", "imagenet-val"),
    ],
)
def test_a_benchmark_reads_one_part(benchmark: str, part: str, root: Path):
    assert benchmark_part(load_benchmark(benchmark, root=root / "params")) == part


@pytest.mark.parametrize("progressive", [False, True])
def test_sizes_are_read_from_headers(progressive: bool, tmp_path: Path):
    from PIL import Image

    path = tmp_path / "image.jpg"
    Image.new("RGB", (31, 17)).save(path, progressive=progressive, comment=b"\xff\xc0 not a header")
    assert image_size(path.read_bytes()) == (31, 17)
    assert image_size(label_png(np.zeros((17, 31), np.uint8))) == (31, 17)


def test_bytes_cut_anywhere_are_a_defect():
    for data in (jpeg(np.zeros((20, 20, 3), np.uint8)), label_png(np.eye(20, dtype=np.uint8))):
        for length in range(len(data) - 1):
            with pytest.raises(Defect):
                image_size(data[:length])


def test_fewer_videos_than_the_official_set_are_shown(broken: DataParams, capsys: pytest.CaptureFixture[str]):
    assert verify(broken, ["davis17-val"])["parts"]["davis17-val"]["official_videos"] == 30
    generated = broken.model_copy(update={"generated": True})
    assert "official_videos" not in verify(generated, ["davis17-val"])["parts"]["davis17-val"]
    call = ["data", "verify", "davis17-val", "--root", broken.root]
    assert main(call) == 0
    assert "2 of 30" not in capsys.readouterr().out
    (Path(broken.root) / "generated.json").unlink()
    assert main(call) == 0
    assert "2 of 30 videos" in capsys.readouterr().out
