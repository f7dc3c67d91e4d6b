from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_json
from vosrepro.base.labels import write_labels
from vosrepro.cli import main
from vosrepro.datasets import benchmark_truth, benchmark_videos, read_annotation
from vosrepro.datasets.sets import alibaba
from vosrepro.datasets.sets.catalog import original_videos
from vosrepro.datasets.sets.resized import fitted, restore, write_resized
from vosrepro.inference.persons import person_finder, person_labels
from vosrepro.study.digests import resized_copies
from vosrepro.study.params import DataParams, load_benchmark
from vosrepro.study.paths import resized_folder


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1280, 720), (853, 480)),
        ((1080, 1920), (270, 480)),
        ((1920, 810), (860, 363)),
        ((1104, 622), (852, 480)),
        ((640, 360), (640, 360)),
    ],
)
def test_sizes_are_those_of_the_published_scripts(size, expected):
    image = Image.new("L", size)
    assert fitted(image, Image.Resampling.NEAREST, inside=(860, 480)).size == expected


@pytest.mark.oracle
@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
@settings(deadline=None, max_examples=100)
def test_a_frame_fits_into_the_box_with_its_aspect_and_is_never_enlarged(width, height):
    image = Image.new("L", (width, height))
    image.thumbnail((86, 48), Image.Resampling.NEAREST)
    small = fitted(Image.new("L", (width, height)), Image.Resampling.NEAREST, inside=(86, 48))
    assert small.size == image.size
    assert small.width <= min(width, 86)
    assert small.height <= min(height, 48)


@pytest.mark.oracle
def test_masks_are_restored_as_pillow_does():
    labels = np.random.default_rng(0).integers(0, 4, (48, 85), dtype=np.uint8)
    ours = restore(labels, (72, 128))
    theirs = Image.fromarray(labels).resize((128, 72), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    assert restore(labels, (48, 85)) is labels


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two videos of 1280 x 720 in the set's layout."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root/Alibaba"
    for name in ("a", "b"):
        (root / "JPEGImages" / name).mkdir(parents=True)
        (root / "Annotations" / name).mkdir(parents=True)
        for number in (1, 2):
            frame = np.full((720, 1280, 3), 40 * number, np.uint8)
            cv2.imwrite(str(root / "JPEGImages" / name / f"{number:05d}.jpg"), frame)
        labels = np.zeros((720, 1280), np.uint8)
        labels[100:300, 200:400] = 2
        write_labels(root / "Annotations" / name / "00001.png", labels)
    (root / "ImageSets").mkdir()
    (root / "ImageSets/test.txt").write_text("a\nb\n")
    return DataParams(root=str(tmp_path / "root"))


@pytest.fixture
def benchmark(root):
    return load_benchmark("ali21", root=root / "params")


def test_scaled_copies_are_segmented_and_know_their_original_size(data, benchmark):
    with pytest.raises(DataError, match=r"scaled copies .* are missing: run the workflow"):
        benchmark_videos(benchmark, data)
    folder = resized_folder(resized_copies(benchmark, data))
    write_resized(original_videos(benchmark, data), folder, inside=benchmark.fit_px)
    assert read_json(folder / "sizes.json") == {"a": [1280, 720], "b": [1280, 720]}
    videos = benchmark_videos(benchmark, data)
    assert [v.name for v in videos] == ["a", "b"]
    assert videos[0].starts == {2: "00001"}
    assert videos[0].original_size == (720, 1280)
    assert cv2.imread(str(videos[0].frames[0])).shape == (480, 853, 3)
    labels = read_annotation(videos[0], "00001")
    assert labels.shape == (480, 853)
    assert set(np.unique(labels)) == {0, 2}
    assert benchmark_truth(benchmark, data).sequences == ("a", "b")


def test_an_interrupted_scaling_goes_on(data, benchmark):
    folder = resized_folder(resized_copies(benchmark, data))
    videos = original_videos(benchmark, data)
    write_resized(videos, folder, inside=benchmark.fit_px)
    first = folder / "JPEGImages/a/00001.jpg"
    before = first.stat().st_mtime_ns
    (folder / "JPEGImages/b/00002.jpg").unlink()
    write_resized(videos, folder, inside=benchmark.fit_px)
    assert first.stat().st_mtime_ns == before
    assert (folder / "JPEGImages/b/00002.jpg").is_file()


def test_frames_of_two_sizes_and_damaged_frames_are_named(data, benchmark, tmp_path):
    folder = resized_folder(resized_copies(benchmark, data))
    path = tmp_path / "root/Alibaba/JPEGImages/b/00002.jpg"
    cv2.imwrite(str(path), np.zeros((600, 800, 3), np.uint8))
    with pytest.raises(DataError, match=r"00002\.jpg is 800x600 .* before it are 1280x720"):
        write_resized(alibaba.benchmark("test", data), folder, inside=(860, 480))
    path.write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"00002\.jpg cannot be read"):
        write_resized(alibaba.benchmark("test", data), folder, inside=(860, 480))


def test_a_benchmark_of_its_own_size_needs_no_copies(capsys, in_root):
    study = ["--study", "params/studies/mini.yaml"]
    assert main(["resize", *study, "--benchmark", "davis16-val"]) == 2
    assert "segmented at its own size" in capsys.readouterr().err


def test_persons_of_a_first_frame_without_a_mask_are_found_and_followed(data, benchmark, tmp_path):
    (tmp_path / "root/Alibaba/Annotations/b/00001.png").unlink()
    folder = resized_folder(resized_copies(benchmark, data))
    videos = original_videos(benchmark, data)
    with pytest.raises(DataError, match="video b has no mask of its first frame"):
        write_resized(videos, folder, inside=(860, 480))
    with pytest.raises(DataError, match=r"maskrcnn_resnet50_fpn\.pth is missing: put torchvision's"):
        write_resized(videos, folder, inside=(860, 480), find=person_finder)
    asked = []

    def finder(frame):
        asked.append(frame.shape)
        labels = np.zeros(frame.shape[:2], np.uint8)
        labels[10:50, 10:50] = 1
        return labels

    write_resized(videos, folder, inside=(860, 480), find=lambda: finder)
    assert asked == [(480, 853, 3)]
    a, b = benchmark_videos(benchmark, data)
    assert a.starts == {2: "00001"}
    assert dict(b.starts) == {1: "00001"}
    write_resized(videos, folder, inside=(860, 480), find=lambda: finder)
    assert len(asked) == 1


def test_a_frame_without_persons_is_named(data, benchmark, tmp_path):
    (tmp_path / "root/Alibaba/Annotations/b/00001.png").unlink()
    nobody = np.zeros((480, 853), np.uint8)
    with pytest.raises(DataError, match=r"finds nothing in .*b/00001\.jpg"):
        write_resized(
            original_videos(benchmark, data),
            tmp_path / "out",
            inside=(860, 480),
            find=lambda: lambda frame: nobody,
        )


def test_the_better_of_two_persons_owns_their_common_pixels_and_others_are_left_out():
    masks = np.zeros((4, 1, 4, 8))
    masks[0, 0, :, :4], masks[1, 0, :, 2:6], masks[2], masks[3] = 0.9, 0.9, 0.9, 0.9
    found = {
        "labels": np.array([1, 1, 3, 1]),
        "scores": np.array([0.6, 0.9, 0.95, 0.3]),
        "masks": masks,
    }
    labels = person_labels(found, (4, 8))
    assert labels[0].tolist() == [2, 2, 1, 1, 1, 1, 0, 0]
