from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.datasets import (
    benchmark_truth,
    benchmark_videos,
    read_annotation,
    read_frame,
    training_pictures,
    training_videos,
    verify,
)
from vosrepro.datasets.generated.encode import jpeg, label_png
from vosrepro.datasets.sets.video import open_video
from vosrepro.study.params import BenchmarkParams, DataParams, load_benchmark

PARAMS = Path(__file__).parents[2] / "params"


def _benchmark(name: str, **changes: object) -> BenchmarkParams:
    return load_benchmark(name, root=PARAMS).model_copy(update=changes)


def _jjval(**changes: object) -> BenchmarkParams:
    return _benchmark("ytvos18-jjval", split="jjval", frame_source="annotated", **changes)


# ------------------------------------------------------------------------------------------- files


def test_a_grey_image_reads_as_three_equal_channels(tmp_path: Path):
    Image.new("L", (7, 5), 90).save(tmp_path / "grey.jpg", quality=95)
    image = read_frame(tmp_path / "grey.jpg")
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert np.all(image == 90)


def test_channels_are_red_green_blue(tmp_path: Path):
    path = tmp_path / "red.jpg"
    path.write_bytes(jpeg(np.full((16, 16, 3), (250, 10, 10), np.uint8)))
    assert np.abs(read_frame(path).astype(int) - (250, 10, 10)).max() <= 3


def test_the_pixels_of_a_frame_are_not_turned_by_its_viewing_rotation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (7, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_frame(tmp_path / "turned.jpg").shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda b: b[: len(b) // 2], "is truncated"),
        (lambda b: b"", "is empty"),
        (lambda b: b"hello", "is neither a JPEG nor a PNG"),
    ],
)
def test_a_broken_frame_is_named(content, sentence: str, tmp_path: Path):
    path = tmp_path / "00007.jpg"
    path.write_bytes(content(jpeg(np.zeros((64, 64, 3), np.uint8))))
    with pytest.raises(DataError, match=f"00007.jpg {sentence}"):
        read_frame(path)


def test_a_missing_frame_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="00001.jpg cannot be read"):
        read_frame(tmp_path / "00001.jpg")


def _one_frame(folder: Path, labels: np.ndarray, *, binary: bool):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    image = np.zeros((*labels.shape, 3), np.uint8)
    (folder / "images/00000.jpg").write_bytes(jpeg(image))
    (folder / "masks/00000.png").write_bytes(label_png(labels))
    return open_video("v", folder / "images", folder / "masks", binary=binary)


def test_void_is_background(tmp_path: Path):
    video = _one_frame(tmp_path, np.array([[0, 1, 255, 3]], np.uint8), binary=False)
    assert read_annotation(video, "00000").tolist() == [[0, 1, 0, 3]]
    assert dict(video.starts) == {1: "00000", 3: "00000"}


def test_in_a_binary_video_every_label_is_object_1(tmp_path: Path):
    video = _one_frame(tmp_path, np.array([[0, 1, 255, 3]], np.uint8), binary=True)
    assert read_annotation(video, "00000").tolist() == [[0, 1, 1, 1]]
    assert dict(video.starts) == {1: "00000"}


def test_a_frame_without_annotation_is_an_error(small: DataParams):
    (video,) = benchmark_videos(_benchmark("davis17-testdev"), small)
    assert list(video.annotations) == ["00000"]
    with pytest.raises(DataError, match="dev-00 has no annotation for frame 00001"):
        read_annotation(video, "00001")


def test_a_video_travels_to_a_loader_process(small: DataParams):
    video = training_videos("davis17-train", small)[0]
    assert dict(pickle.loads(pickle.dumps(video)).starts) == dict(video.starts)


# ------------------------------------------------------------------------------------------- DAVIS


def test_davis_2016_has_one_object_and_every_frame(small: DataParams):
    videos = benchmark_videos(_benchmark("davis16-val"), small)
    assert [v.name for v in videos] == ["val-00", "val-08"]
    assert all(dict(v.starts) == {1: "00000"} for v in videos)
    assert [p.stem for p in videos[0].frames] == [f"{i:05d}" for i in range(20)]
    assert list(videos[0].annotations) == [p.stem for p in videos[0].frames]


def test_the_merged_variant_of_davis_2016_has_its_list_and_the_objects_of_2017_as_one(broken: DataParams):
    tree = Path(broken.root) / "DAVIS/2017/trainval"
    name = (tree / "ImageSets/2016/val.txt").read_text().split()[0]
    path = tree / f"Annotations/480p/{name}/00000.png"
    labels = np.zeros_like(np.asarray(Image.open(path)))
    labels[2:9, 3:8], labels[20:30, 11:19] = 1, 2
    path.write_bytes(label_png(labels))
    videos = benchmark_videos(_benchmark("davis16-val-merged17"), broken)
    assert [v.name for v in videos] == (tree / "ImageSets/2016/val.txt").read_text().split()
    assert dict(videos[0].starts) == {1: "00000"}
    assert np.array_equal(read_annotation(videos[0], "00000"), labels > 0)
    truth = benchmark_truth(_benchmark("davis16-val-merged17"), broken)
    assert truth.folder == tree / "Annotations/480p"


def test_a_merged_variant_is_verified_in_the_tree_of_2017(broken: DataParams):
    listed = Path(broken.root) / "DAVIS/2017/trainval/ImageSets/2016/val.txt"
    assert verify(broken, ["davis16-merged17-val"])["parts"]["davis16-merged17-val"]["videos"] == len(
        listed.read_text().split()
    )
    listed.unlink()
    with pytest.raises(DataError, match=r"2016/val\.txt is missing"):
        verify(broken, ["davis16-merged17-val"])


def test_davis_2017_keeps_its_objects_apart(small: DataParams):
    videos = benchmark_videos(_benchmark("davis17-val"), small)
    assert {v.name: list(v.starts) for v in videos} == {"val-00": [1, 2], "val-04": [1, 2]}


def test_masks_have_the_size_of_their_frames(small: DataParams):
    for name in ("davis16-train", "davis17-train", "bl30k", "ytvos-train-all"):
        video = training_videos(name, small)[-1]
        frame = next(iter(video.annotations))
        image = read_frame(next(p for p in video.frames if p.stem == frame))
        assert read_annotation(video, frame).shape == image.shape[:2]


def test_the_list_of_names_serves_where_the_list_of_pairs_is_absent(broken: DataParams):
    (Path(broken.root) / "DAVIS/2016/ImageSets/480p/val.txt").unlink()
    videos = benchmark_videos(_benchmark("davis16-val"), broken)
    assert [v.name for v in videos] == ["val-00", "val-08"]


def test_one_extra_level_of_folders_is_looked_through(broken: DataParams):
    folder = Path(broken.root) / "DAVIS/2016"
    folder.rename(folder.with_name("DAVIS"))
    folder.mkdir()
    folder.with_name("DAVIS").rename(folder / "DAVIS")
    assert len(benchmark_videos(_benchmark("davis16-val"), broken)) == 2


def test_a_set_may_lie_anywhere(small_root: Path, tmp_path: Path):
    folder = str(small_root / "DAVIS/2016")
    data = DataParams(root=str(tmp_path), sets={"davis2016": folder})
    assert len(benchmark_videos(_benchmark("davis16-val"), data)) == 2


def test_gaps_in_the_numbering_and_hidden_files_do_not_matter(broken: DataParams):
    tree = Path(broken.root) / "DAVIS/2016"
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        place = tree / folder / "480p/val-00"
        (place / f"00003.{ending}").unlink()
        (place / f"._00004.{ending}").write_bytes(b"of a Mac")
    video = benchmark_videos(_benchmark("davis16-val"), broken)[0]
    assert [p.stem for p in video.frames][:4] == ["00000", "00001", "00002", "00004"]


def test_an_empty_first_mask_is_named(broken: DataParams):
    path = Path(broken.root) / "DAVIS/2016/Annotations/480p/val-08/00000.png"
    path.write_bytes(label_png(np.zeros((128, 224), np.uint8), grey=True))
    with pytest.raises(DataError, match=r"val-08/00000.png has no object pixel"):
        benchmark_videos(_benchmark("davis16-val"), broken)


def test_empty_masks_stay_in_training_videos(broken: DataParams):
    path = Path(broken.root) / "DAVIS/2016/Annotations/480p/train-00/00005.png"
    path.write_bytes(label_png(np.zeros((128, 224), np.uint8), grey=True))
    video = training_videos("davis16-train", broken)[0]
    assert len(video.annotations) == 16
    assert not read_annotation(video, "00005").any()


@pytest.mark.parametrize(
    ("remove", "sentence"),
    [
        ("DAVIS", "data set 'davis2016' is missing: there is no folder .*davischallenge.org"),
        ("DAVIS/2016/JPEGImages", "data set 'davis2016' is incomplete: .* has no JPEGImages/480p"),
        ("DAVIS/2016/ImageSets", "ImageSets/480p/val.txt is missing: extract the whole archive"),
        ("DAVIS/2016/JPEGImages/480p/val-00", "JPEGImages/480p/val-00 is missing"),
        ("DAVIS/2016/Annotations/480p/val-00", "Annotations/480p/val-00 has no PNG"),
    ],
)
def test_what_is_missing_is_said(remove: str, sentence: str, broken: DataParams):
    shutil.rmtree(Path(broken.root) / remove)
    with pytest.raises(DataError, match=sentence):
        benchmark_videos(_benchmark("davis16-val"), broken)


def test_a_foreign_line_in_a_list_is_quoted(broken: DataParams):
    (Path(broken.root) / "DAVIS/2016/ImageSets/480p/val.txt").write_text("a/b\n")
    with pytest.raises(DataError, match="has the line 'a/b'"):
        benchmark_videos(_benchmark("davis16-val"), broken)


def test_truth_of_davis_is_its_annotation_folder(small: DataParams):
    truth = benchmark_truth(_benchmark("davis17-val"), small)
    assert truth.sequences == ("val-00", "val-04")
    assert truth.meta is None
    assert (truth.folder / "val-04/00019.png").is_file()


@pytest.mark.parametrize("name", ["davis17-testdev", "ytvos18-val"])
def test_truth_of_a_server_is_refused(name: str, small: DataParams):
    with pytest.raises(DataError, match="is not public"):
        benchmark_truth(_benchmark(name), small)


def test_held_out_videos_are_left_out(small: DataParams):
    every = [v.name for v in training_videos("davis17-train", small)]
    some = training_videos("davis17-train", small, exclude=("train-28", "of-another-set"))
    assert "train-28" in every
    assert [v.name for v in some] == [n for n in every if n != "train-28"]


def test_a_misspelt_training_set_is_corrected(small: DataParams):
    with pytest.raises(ConfigError, match="did you mean 'davis17-train'"):
        training_videos("davis17-trian", small)


# ----------------------------------------------------------------------------------------- YouTube


def test_late_objects_start_where_meta_says(broken: DataParams):
    root = Path(broken.root) / "YouTube/valid"
    ((name, entry),) = json.loads((root / "meta.json").read_text())["videos"].items()
    (video,) = benchmark_videos(_benchmark("ytvos18-val"), broken)
    assert video.name == name
    assert dict(video.starts) == {int(k): v["frames"][0] for k, v in entry["objects"].items()}
    assert set(video.categories) == set(video.starts)


def test_all_frames_are_every_frame_and_annotated_ones_every_fifth(small: DataParams):
    (every,) = benchmark_videos(_benchmark("ytvos18-val"), small)
    (fifth,) = benchmark_videos(_benchmark("ytvos18-val", frame_source="annotated"), small)
    assert len(every.frames) == 36
    assert [p.stem for p in fifth.frames] == [f"{i:05d}" for i in range(0, 36, 5)]


def test_missing_all_frames_are_said(broken: DataParams):
    shutil.rmtree(Path(broken.root) / "YouTube/all_frames")
    with pytest.raises(DataError, match=r"extract valid_all_frames.zip into .*/all_frames"):
        benchmark_videos(_benchmark("ytvos18-val"), broken)


def test_the_held_out_list_is_a_benchmark_and_not_trained_on(small: DataParams):
    (held_out,) = benchmark_videos(_jjval(), small)
    assert held_out.name not in [v.name for v in training_videos("ytvos-train", small)]
    assert held_out.name in [v.name for v in training_videos("ytvos-train-all", small)]
    truth = benchmark_truth(_jjval(), small)
    assert truth.sequences == (held_out.name,)
    assert truth.meta is not None
    assert truth.meta.is_file()


def test_without_meta_the_masks_tell_where_objects_start(broken: DataParams):
    (before,) = benchmark_videos(_benchmark("ytvos18-val"), broken)
    (Path(broken.root) / "YouTube/valid/meta.json").write_text('{"videos": {}}')
    (after,) = benchmark_videos(_benchmark("ytvos18-val"), broken)
    assert dict(after.starts) == dict(before.starts)


def test_an_object_without_its_mask_is_named(broken: DataParams):
    (video,) = benchmark_videos(_benchmark("ytvos18-val"), broken)
    label, frame = max(video.starts.items(), key=lambda item: item[1])
    video.annotations[frame].unlink()
    with pytest.raises(DataError, match=f"object {label} of video .*/{frame}.png is missing"):
        benchmark_videos(_benchmark("ytvos18-val"), broken)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"videos": {"a": {"objects": {"255": {"frames": ["0"]}}}}}',
        "[]",
        '{"videos": {"a": {"objects": {"1": {"frames": []}}}}}',
    ],
)
def test_a_foreign_meta_is_refused(text: str, broken: DataParams):
    (Path(broken.root) / "YouTube/valid/meta.json").write_text(text)
    with pytest.raises(DataError, match=r"is not a meta.json of YouTube-VOS"):
        benchmark_videos(_benchmark("ytvos18-val"), broken)


def test_a_resized_copy_of_the_training_set_is_preferred(broken: DataParams):
    root = Path(broken.root) / "YouTube"
    shutil.copytree(root / "train", root / "train_480p")
    video = training_videos("ytvos-train", broken)[0]
    assert "train_480p" in video.frames[0].parts
    assert video.starts


# ---------------------------------------------------------------------------------- static, others


def test_the_two_small_static_sets_stand_five_times_in_the_list(small: DataParams):
    names = [image.name for image in training_pictures("static", small)]
    assert names.count("fss/blob/1") == 1
    assert names.count("BIG_small/BIG_small_0001") == 5
    assert all(i.image.is_file() and i.mask.is_file() for i in training_pictures("static", small))


def test_a_flat_folder_is_a_static_set_too(small_root: Path, tmp_path: Path):
    data = DataParams(root=str(tmp_path), sets={"static": str(small_root / "static/ecssd")})
    assert [i.name for i in training_pictures("static", data)] == ["ecssd_0001"]


def test_a_static_image_without_mask_is_named(broken: DataParams):
    (Path(broken.root) / "static/ecssd/ecssd_0001.png").unlink()
    with pytest.raises(DataError, match=r"ecssd_0001.png is missing beside its image"):
        training_pictures("static", broken)


# ------------------------------------------------------------------------------------------- real


@pytest.mark.data
def test_the_real_excerpts_load(real_data: Path, tmp_path: Path):
    data = DataParams(root=str(real_data), sets={"davis2016": "davis2016"})
    videos = benchmark_videos(_benchmark("davis16-val"), data)
    assert [len(v.frames) for v in videos if v.name == "blackswan"] == [50]
    assert read_annotation(videos[0], "00000").max() == 1
    train = training_videos("davis16-train", data)
    assert [p.stem for p in train[0].frames[:3]] == ["00000", "00002", "00004"]

    (tmp_path / "YouTube").mkdir()
    (tmp_path / "YouTube/valid").symlink_to(real_data / "multi_ytlike")
    data = DataParams(root=str(tmp_path))
    found = benchmark_videos(_benchmark("ytvos18-val", frame_source="annotated"), data)
    videos = {v.name: v for v in found}
    assert sorted(set(videos["judo"].starts.values())) == ["00000", "00005", "00008", "00013"]
    assert len(videos["caps"].frames) == 87


# ------------------------------------------------------------------------------------------- lists


def _lists(data: DataParams, **names: str) -> DataParams:
    return data.model_copy(update={"lists": names})


def test_a_list_keeps_some_videos_of_a_training_set(broken: DataParams):
    every = training_videos("bl30k", broken)
    extra = Path(broken.root) / "BL30K"
    for tree in ("JPEGImages", "Annotations"):
        shutil.copytree(extra / tree / every[0].name, extra / tree / "video-999")
    (Path(broken.root) / "kept.txt").write_text("video-999\n")
    kept = _lists(broken, bl30k="kept.txt")
    assert [v.name for v in training_videos("bl30k", broken)] == [every[0].name, "video-999"]
    assert [v.name for v in training_videos("bl30k", kept)] == ["video-999"]
    assert training_videos("bl30k", kept, exclude=["video-999"]) == []


def test_published_lists_are_training_sets_of_their_own_with_held_out_videos(broken: DataParams):
    folder = Path(broken.root) / "YouTube/train"
    every = [v.name for v in training_videos("ytvos-train-all", broken)]
    held_out = (folder / "ImageSets/jjval.txt").read_text().split()
    with pytest.raises(DataError, match=r"put util/yv_subset\.txt of hkchengrex/Mask-Propagation there as .*yv_subset"):
        training_videos("ytvos-train-subset", broken)
    with pytest.raises(DataError, match=r"put lib/ytvos_jjtrain\.txt of andr345/frtm-vos"):
        verify(broken, ["ytvos-train-jjtrain"])
    (folder / "ImageSets/yv_subset.txt").write_text("\n".join(held_out) + "\n")
    assert [v.name for v in training_videos("ytvos-train-subset", broken)] == sorted(held_out)
    assert set(held_out) <= set(every)
    assert verify(broken, ["ytvos-train-subset"])["parts"]["ytvos-train-subset"]["files"] == 1
    (folder / "ImageSets/yv_subset.txt").write_text("nowhere\n")
    with pytest.raises(DataError, match="names 1 videos that are not there, first nowhere"):
        training_videos("ytvos-train-subset", broken)


def test_a_list_belongs_to_the_manifest_of_its_set(broken: DataParams):
    path = Path(broken.root) / "kept.txt"
    digests = []
    for text in ("video-000\n", "video-001\n"):
        path.write_text(text)
        digests.append(verify(_lists(broken, bl30k="kept.txt"), ["bl30k"])["digest"])
    assert len({*digests, verify(broken, ["bl30k"])["digest"]}) == 3
    path.unlink()
    with pytest.raises(DataError, match=r"kept\.txt is missing"):
        verify(_lists(broken, bl30k="kept.txt"), ["bl30k"])


def test_a_list_that_names_other_videos_is_refused(broken: DataParams):
    (Path(broken.root) / "kept.txt").write_text("video-000\nvideo-777\n")
    with pytest.raises(DataError, match="names 1 videos that the training set 'bl30k' lacks, first video-777"):
        training_videos("bl30k", _lists(broken, bl30k="kept.txt"))
