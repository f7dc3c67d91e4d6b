from __future__ import annotations

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from vosrepro.base.errors import DataError
from vosrepro.datasets.generated.imagenet import CLASSES, wnid, write_imagenet
from vosrepro.datasets.prepare.verification import verify
from vosrepro.datasets.sets.imagenet import (
    DEVKIT,
    TRAIN_TAR,
    TRUTH,
    VAL_TAR,
    BrokenImage,
    LabeledImage,
    classes,
    read_image,
    training_images,
    validation_images,
)
from vosrepro.study.params import DataParams


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    write_imagenet(root, seed=0, limit=2)
    return root


def _data(root):
    return DataParams(root=str(root))


def _jpeg(color):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), color).save(buffer, "JPEG")
    return buffer.getvalue()


def _pack(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


@pytest.fixture
def official(tmp_path):
    """Two classes as the official archives and development kit, whose ids are not in alphabetical order."""
    folder = tmp_path / "ImageNet"
    folder.mkdir()
    inner = {}
    for name, color in (("n02", (200, 0, 0)), ("n01", (0, 0, 200))):
        files = {f"{name}_{i}.JPEG": _jpeg(color) for i in range(2)}
        inner[f"{name}.tar"] = _pack(tmp_path / f"{name}.tar", files)
    _pack(folder / TRAIN_TAR, inner)
    shown = {"ILSVRC2012_val_00000002.JPEG": _jpeg((0, 0, 200)), "ILSVRC2012_val_00000001.JPEG": _jpeg((200, 0, 0))}
    _pack(folder / VAL_TAR, shown)
    kit = folder / DEVKIT
    kit.mkdir(parents=True)
    (kit / TRUTH).write_text("1\n2\n")  # red, then blue: 1 is n02
    from scipy.io import savemat

    rows = np.zeros(2, dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
    rows["ILSVRC2012_ID"], rows["WNID"] = [1, 2], ["n02", "n01"]
    savemat(kit / "meta.mat", {"synsets": rows})
    return tmp_path


def test_generated_halves_have_all_classes_in_the_same_order(made):
    assert classes(_data(made)) == [wnid(n) for n in range(CLASSES)]
    train, val = training_images(_data(made)), validation_images(_data(made))
    assert len(train) == len(val) == 2 * CLASSES
    assert [i.label for i in train] == [i.label for i in val] == [n // 2 for n in range(2 * CLASSES)]


def test_generated_images_are_the_same_bytes_again(made, tmp_path):
    write_imagenet(tmp_path, seed=0, limit=2)
    for image in training_images(_data(made)):
        copy = tmp_path / image.path.relative_to(made)
        assert copy.read_bytes() == image.path.read_bytes()


def test_one_generated_image_is_grey_and_one_cmyk(made):
    modes = [Image.open(i.path).mode for i in training_images(_data(made))]
    assert sorted(set(modes)) == ["CMYK", "L", "RGB"]
    for image in training_images(_data(made))[:4]:
        pixels = read_image(image)
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_official_archives_are_read_in_place(official):
    train = training_images(_data(official))
    assert [i.label for i in train] == [0, 0, 1, 1]
    colors = [read_image(i).reshape(-1, 3).mean(0).argmax() for i in train]
    assert colors == [2, 2, 0, 0]  # n01 is blue, n02 red


def test_labels_of_the_development_kit_are_brought_into_alphabetical_order(official):
    val = validation_images(_data(official))
    assert [i.name for i in val] == [f"ILSVRC2012_val_0000000{n}.JPEG" for n in (1, 2)]
    assert [i.label for i in val] == [1, 0]
    assert read_image(val[0]).reshape(-1, 3).mean(0).argmax() == 0


def test_extracted_validation_images_need_no_class_folders(official):
    folder = official / "ImageNet"
    with tarfile.open(folder / VAL_TAR) as archive:
        archive.extractall(folder / "val", filter="data")
    (folder / VAL_TAR).unlink()
    assert [i.label for i in validation_images(_data(official))] == [1, 0]


def test_a_single_class_is_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "ImageNet/train/n01"
    folder.mkdir(parents=True)
    (folder / "a.JPEG").write_bytes(_jpeg((1, 2, 3)))
    with pytest.raises(DataError, match="only the class n01.*at least two"):
        training_images(_data(tmp_path))


def test_a_class_without_images_is_named(tmp_path):
    for name in ("n01", "n02"):
        (tmp_path / "ImageNet/train" / name).mkdir(parents=True)
    (tmp_path / "ImageNet/train/n01/a.JPEG").write_bytes(_jpeg((1, 2, 3)))
    with pytest.raises(DataError, match="n02 has no JPEG"):
        training_images(_data(tmp_path))


def test_a_missing_half_says_what_to_download(tmp_path):
    (tmp_path / "ImageNet").mkdir()
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train\.tar"):
        training_images(_data(tmp_path))
    with pytest.raises(DataError, match="image-net.org"):
        training_images(_data(tmp_path / "nowhere"))


def test_labels_that_do_not_fit_the_images_are_refused(official):
    (official / "ImageNet" / DEVKIT / TRUTH).write_text("1\n")
    with pytest.raises(DataError, match="1 labels for 2 validation images"):
        validation_images(_data(official))


def test_a_missing_development_kit_is_named(official):
    (official / "ImageNet" / DEVKIT / "meta.mat").unlink()
    with pytest.raises(DataError, match="devkit"):
        validation_images(_data(official))


def test_a_tar_that_is_none_is_refused(official):
    (official / "ImageNet" / TRAIN_TAR).write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match="not a sound tar file"):
        training_images(_data(official))


@pytest.mark.parametrize("data", [b"", b"no image", _jpeg((9, 9, 9))[:200]])
def test_a_broken_image_is_named(tmp_path, data):
    path = tmp_path / "a.JPEG"
    path.write_bytes(data)
    with pytest.raises(BrokenImage, match=r"a\.JPEG"):
        read_image(LabeledImage("a.JPEG", path, 0))


def test_verification_counts_both_halves(made):
    facts = verify(_data(made), ["imagenet"])["parts"]["imagenet"]
    assert facts["videos"] == 4 * CLASSES
    assert facts["digest_of"] == "content"


def test_the_validation_half_alone_has_labels_in_the_same_order(made, official, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(made / "ImageNet/val", own / "ImageNet/val")
    assert classes(_data(own)) == classes(_data(made))
    labels = [i.label for i in validation_images(_data(own))]
    assert labels == [i.label for i in validation_images(_data(made))]
    (official / "ImageNet" / TRAIN_TAR).unlink()
    assert classes(_data(official)) == ["n01", "n02"]
    assert [i.label for i in validation_images(_data(official))] == [1, 0]
    with pytest.raises(DataError, match=r"neither train/.*image-net\.org"):
        training_images(_data(official))


def test_the_part_of_a_benchmark_is_the_validation_half_and_its_labels(made, official, tmp_path):
    facts = verify(_data(made), ["imagenet-val"])["parts"]["imagenet-val"]
    assert facts["videos"] == facts["files"] == 2 * CLASSES
    (official / "ImageNet" / TRAIN_TAR).unlink()
    before = verify(_data(official), ["imagenet-val"])
    assert verify(_data(official)) == before  # what is there
    assert before["parts"]["imagenet-val"]["files"] == 3  # images, labels, classes
    (official / "ImageNet" / DEVKIT / TRUTH).write_text("2\n1\n")
    assert verify(_data(official), ["imagenet-val"])["digest"] != before["digest"]
