from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.errors import BusyError, DataError
from vosrepro.base.labels import palette, read_labels
from vosrepro.datasets import benchmark_videos, read_annotation, read_frame
from vosrepro.datasets.generated import MARKER, generate, is_current, read_marker
from vosrepro.datasets.generated.encode import label_png
from vosrepro.datasets.generated.numbers import cosine, sine, smooth_integers
from vosrepro.study.params import DataParams, load_benchmark

#: Digest of the root of `small_root`.
RECORDED = "31b1932ebe0ff146aea73bec543d111b3f44d7cbe7f2d05fbc65639671f8bd14"

_SCRIPT = """
import sys
from pathlib import Path
from vosrepro.datasets.generated import generate
if __name__ == "__main__":
    generate(Path(sys.argv[1]), seed=0, limit=1, processes=int(sys.argv[2]))
"""


def _digest(root: Path) -> str:
    marker = read_marker(root)
    assert marker is not None
    return marker["digest"]


def test_the_sine_table_is_far_from_ties_so_no_library_can_round_it_differently():
    exact = np.sin(2 * np.pi * np.arange(4096) / 4096) * 2**14
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-9
    assert sine(0.25) == 1.0
    assert cosine(0.5) == -1.0
    assert sine(np.array([-0.25, 1.25])).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("wrap", [True, False])
def test_smoothing_keeps_a_constant_and_the_shape(wrap: bool):
    values = np.full((5, 7, 3), 200, np.uint16)
    assert np.array_equal(smooth_integers(values, wrap=wrap), values)


def test_smoothing_spreads_a_point_by_the_binomial_weights():
    values = np.zeros((5, 5), np.int64)
    values[2, 2] = 16
    expected = np.outer([0, 1, 2, 1, 0], [0, 1, 2, 1, 0])
    assert np.array_equal(smooth_integers(values, wrap=False), expected)


@pytest.mark.parametrize("grey", [True, False])
def test_the_png_packer_writes_what_pillow_reads(grey: bool, tmp_path: Path):
    labels = np.random.default_rng(0).integers(0, 256, (31, 17)).astype(np.uint8)
    path = tmp_path / "labels.png"
    path.write_bytes(label_png(labels, grey=grey))
    assert np.array_equal(read_labels(path), labels)
    assert (palette() in path.read_bytes()) is not grey


def test_one_clip_of_each_kind_has_the_recorded_bytes(small_root: Path):
    """The hash of all clips, which data.dvc records, is compared by `make all-data`."""
    assert _digest(small_root) == RECORDED, "after a wanted change: raise REVISION, generate, `dvc commit -f data.dvc`"


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(small_root: Path, tmp_path: Path):
    script = tmp_path / "make.py"
    script.write_text(_SCRIPT)
    subprocess.run([sys.executable, str(script), str(tmp_path / "again"), "2"], check=True)
    assert _digest(tmp_path / "again") == _digest(small_root)


@pytest.mark.slow
def test_an_older_processor_gives_the_same_bytes(small_root: Path, tmp_path: Path):
    import cv2

    dispatched = [f.strip("*?") for f in cv2.getCPUFeaturesLine().split() if f.startswith("*")]
    features = np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
        "OPENCV_CPU_DISABLE": ",".join(dispatched),
        "JSIMD_FORCENONE": "1",  # libjpeg-turbo without vector code
        "JSIMD_FORCE_NONE": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(tmp_path / "plain"), "1"]
    subprocess.run(command, check=True, env={**os.environ, **plain})
    assert _digest(tmp_path / "plain") == _digest(small_root)


def test_another_seed_gives_other_bytes(small_root: Path, tmp_path: Path):
    from vosrepro.datasets.generated.clips import make_clip
    from vosrepro.datasets.generated.trees import all_clips

    clip = next(c for c in all_clips(1) if c.name == "davis/val-00")
    make_clip(clip, tmp_path, 1)
    name = "DAVIS/2016/JPEGImages/480p/val-00/00000.jpg"
    assert (tmp_path / name).read_bytes() != (small_root / name).read_bytes()


def test_the_lists_name_what_is_there(small_root: Path):
    tree = small_root / "DAVIS/2017/trainval"
    assert (tree / "ImageSets/2017/val.txt").read_text() == "val-00\nval-04\n"
    assert (tree / "ImageSets/2016/val.txt").read_text() == "val-00\nval-08\n"
    pairs = (small_root / "DAVIS/2016/ImageSets/480p/val.txt").read_text().splitlines()
    assert pairs[0] == ("/JPEGImages/480p/val-00/00000.jpg /Annotations/480p/val-00/00000.png")
    for line in pairs:
        for path in line.split():
            assert (small_root / "DAVIS/2016" / path.strip("/")).is_file()
    for split in ("train", "val"):
        for name in (tree / f"ImageSets/2016/{split}.txt").read_text().split():
            assert (tree / "Annotations/480p" / name).is_dir()  # so both truths can be scored


def test_the_2016_masks_are_the_2017_objects_together(small_root: Path):
    for frame in ("00000", "00019"):
        both = [
            read_labels(small_root / f"DAVIS/{tree}/Annotations/480p/val-00/{frame}.png")
            for tree in ("2016", "2017/trainval")
        ]
        assert set(np.unique(both[0])) == {0, 255}
        assert set(np.unique(both[1])) == {0, 1, 2}
        assert np.array_equal(both[0] > 0, both[1] > 0)


def test_objects_move_so_far_that_repeating_the_first_mask_fails(small: DataParams):
    overlaps = []
    for video in benchmark_videos(load_benchmark("davis17-val", root=_params()), small):
        first = read_annotation(video, "00000")
        for frame in list(video.annotations)[1:-1]:
            labels = read_annotation(video, frame)
            for k in video.starts:
                union = ((labels == k) | (first == k)).sum()
                overlaps.append(((labels == k) & (first == k)).sum() / max(union, 1))
    assert 0.1 < np.mean(overlaps) < 0.5


def test_every_object_can_be_told_from_its_background_by_color(small: DataParams):
    for video in benchmark_videos(load_benchmark("davis17-val", root=_params()), small):
        image, labels = read_frame(video.frames[0]), read_annotation(video, "00000")
        for k in video.starts:
            inside, around = image[labels == k], image[labels == 0]
            colors = [np.bincount((p // 64 @ [16, 4, 1]).ravel(), minlength=64) / len(p) for p in (inside, around)]
            assert np.minimum(*colors).sum() < 0.7


def test_a_root_is_current_until_a_byte_of_it_changes(small_root: Path, tmp_path: Path):
    root = tmp_path / "mini"
    generate(root, seed=0, limit=0, processes=1)
    assert not list(root.rglob("*.JPEG"))
    assert is_current(root, seed=0, limit=0)
    assert not is_current(root, seed=1, limit=0)
    assert not is_current(root, seed=0)
    meta = root / "YouTube/train/meta.json"
    meta.write_text(meta.read_text().replace("{", "[", 1))
    assert not is_current(root, seed=0, limit=0)
    generate(root, seed=0, limit=0, processes=1)  # replaces what it made itself
    assert is_current(root, seed=0, limit=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="did not make: choose another root"):
        generate(tmp_path, seed=0, limit=0)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_two_generations_of_one_root_do_not_meet(tmp_path: Path):
    work = tmp_path / ".mini.partial"
    work.mkdir()
    (work / "half").write_text("of the other")
    handle = os.open(work, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(BusyError, match="another process is generating"):
            generate(tmp_path / "mini", seed=0, limit=0, processes=1)
    finally:
        os.close(handle)
    assert (work / "half").is_file()
    generate(tmp_path / "mini", seed=0, limit=0, processes=1)  # the other was killed
    assert not (tmp_path / "mini" / "half").exists()
    assert not work.exists()


def test_a_failed_generation_leaves_the_old_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "mini"
    generate(root, seed=0, limit=0, processes=1)
    before = (root / MARKER).read_text()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vosrepro.datasets.generated.trees.write_lists", full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        generate(root, seed=1, limit=0, processes=1)
    assert (root / MARKER).read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]


def _params() -> Path:
    return Path(__file__).parents[2] / "params"
