"""ImageNet-2012 in its official layouts: folders per class, a flat validation folder, or the tar files.

Classes are numbered from 0 in the alphabetical order of their WordNet ids, as TensorFlow's and
torchvision's models count them (TensorFlow's put a background class before), not in the devkit's order.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.names import folder_names, listed
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import read_lines

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12/data"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_ENDINGS = (".jpeg", ".jpg")


@dataclass(frozen=True)
class LabeledImage:
    """One image and its class.

    Attributes:
        path: the file, or the tar that holds it.
        label: class index from 0.
        place: offset and length in the tar, or None for a file of its own.
    """

    name: str
    path: Path
    label: int
    place: tuple[int, int] | None = None


class BrokenImage(DataError):
    """An image that cannot be decoded; training skips a few of them."""


def read_image(image: LabeledImage) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB; grey and CMYK files are converted.

    Raises:
        BrokenImage: if it is truncated or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(_bytes(image))) as opened:
            return np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise BrokenImage(
            f"{image.name} in {image.path} cannot be decoded ({' '.join(str(error).split())[:120]}): "
            "restore it from the original archive"
        ) from error


def _bytes(image: LabeledImage) -> bytes:
    if image.place is None:
        return image.path.read_bytes()
    offset, length = image.place
    with image.path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def classes(data: DataParams) -> list[str]:
    """WordNet ids, sorted: the order of the labels. They are those of the training half, if it is there.

    Raises:
        DataError: if there is none, or only one.
    """
    return list(_classes(set_folder("imagenet", data)))


@lru_cache(maxsize=4)
def _classes(folder: Path) -> tuple[str, ...]:
    train, archive, val = folder / "train", folder / TRAIN_TAR, folder / "val"
    if train.is_dir():
        where, found = train, folder_names(train)
    elif archive.is_file():
        where, found = archive, sorted(Path(m.name).stem for m in _members(archive, ".tar"))
    elif val.is_dir() and folder_names(val):
        where, found = val, folder_names(val)
    elif (folder / DEVKIT / TRUTH).is_file():
        where, found = folder / DEVKIT / TRUTH, sorted(set(_devkit_classes(folder)))
    else:
        raise _no_training_half(folder)
    if len(found) < 2:
        only = f"only the class {found[0]}" if found else "no class folder"
        raise DataError(
            f"{where} has {only}, but classification needs at least two: extract the archive of each "
            "class into a folder of its own, named by its WordNet id"
        )
    return tuple(found)


def training_images(data: DataParams) -> list[LabeledImage]:
    """All training images, by class and name.

    Raises:
        DataError: if the half is missing or a class has no image.
    """
    folder = set_folder("imagenet", data)
    if (folder / "train").is_dir():
        return list(_in_folders(folder / "train", _classes(folder)))
    if not (folder / TRAIN_TAR).is_file():
        raise _no_training_half(folder)
    return list(_in_train_tar(folder / TRAIN_TAR, _classes(folder)))


def validation_images(data: DataParams) -> list[LabeledImage]:
    """All validation images, in the order of their names; the training half may be missing.

    Raises:
        DataError: if the half or its labels are missing.
    """
    folder = set_folder("imagenet", data)
    names = _classes(folder)
    val, archive = folder / "val", folder / VAL_TAR
    if val.is_dir() and folder_names(val):
        unknown = [name for name in folder_names(val) if name not in names]
        if unknown:
            raise DataError(
                f"{val / unknown[0]} is a class that the training half does not have: both halves must "
                "be of one ImageNet release"
            )
        present = tuple(name for name in names if (val / name).is_dir())
        return list(_in_folders(val, present, labels={n: i for i, n in enumerate(names)}))
    if val.is_dir():
        found = [(name, val / name, None) for name in listed(val, _ENDINGS)]
    elif archive.is_file():
        found = [
            (m.name, archive, (m.offset_data, m.size))
            for m in sorted(_members(archive, *_ENDINGS), key=lambda m: m.name)
        ]
    else:
        raise DataError(
            f"{folder} has neither val/ nor {VAL_TAR}: download the validation images of ILSVRC2012 from "
            "image-net.org and put them there"
        )
    labels = _devkit_labels(folder, names)
    if len(labels) != len(found):
        raise DataError(
            f"{folder / DEVKIT / TRUTH} has {len(labels)} labels for {len(found)} validation images: "
            "take images and development kit of the same release"
        )
    return [LabeledImage(name, path, label, place) for (name, path, place), label in zip(found, labels, strict=True)]


def _in_folders(
    folder: Path, names: tuple[str, ...], *, labels: Mapping[str, int] | None = None
) -> Iterator[LabeledImage]:
    for number, name in enumerate(names):
        files = listed(folder / name, _ENDINGS)
        if not files:
            raise DataError(f"{folder / name} has no JPEG: extract the archive of this class again")
        label = labels[name] if labels else number
        for file in files:
            yield LabeledImage(f"{name}/{file}", folder / name / file, label)


def _in_train_tar(archive: Path, names: tuple[str, ...]) -> Iterator[LabeledImage]:
    """Images of the class archives inside of the training archive, without extracting anything."""
    index = {name: i for i, name in enumerate(names)}
    inner = sorted(_members(archive, ".tar"), key=lambda m: m.name)
    with archive.open("rb") as file:
        for outer in inner:
            name = Path(outer.name).stem
            file.seek(outer.offset_data)
            window = _Window(file, outer.offset_data, outer.size)
            with tarfile.open(fileobj=window, mode="r:") as nested:  # type: ignore[call-overload]
                for member in nested:
                    if member.isfile() and Path(member.name).suffix.lower() in _ENDINGS:
                        place = (outer.offset_data + member.offset_data, member.size)
                        yield LabeledImage(f"{name}/{member.name}", archive, index[name], place)


def _members(archive: Path, *endings: str) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(archive, mode="r:") as opened:
            return [m for m in opened if m.isfile() and Path(m.name).suffix.lower() in endings]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{archive} is not a sound tar file ({error}): download it again") from error


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: io.BufferedReader, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._at)
        count = left if size < 0 else min(size, left)
        self._file.seek(self._start + self._at)
        found = self._file.read(count)
        self._at += len(found)
        return found


def label_files(data: DataParams) -> list[Path]:
    """The files that say the classes of the validation images; none if their folders do."""
    folder = set_folder("imagenet", data)
    val = folder / "val"
    if val.is_dir() and folder_names(val):
        return []
    return [folder / DEVKIT / TRUTH, folder / DEVKIT / "meta.mat"]


def _devkit_labels(folder: Path, names: tuple[str, ...]) -> list[int]:
    """Labels of the flat validation images in their order, from the official development kit.

    Raises:
        DataError: if the kit is missing or speaks of other classes.
    """
    index = {name: i for i, name in enumerate(names)}
    try:
        return [index[wnid] for wnid in _devkit_classes(folder)]
    except KeyError as error:
        raise _other_release(folder, error) from error


def _devkit_classes(folder: Path) -> list[str]:
    """WordNet ids of the flat validation images in their order.

    Raises:
        DataError: if the kit is missing or garbled.
    """
    kit = folder / DEVKIT
    truth, meta = kit / TRUTH, kit / "meta.mat"
    for path in (truth, meta):
        if not path.is_file():
            raise DataError(
                f"{path} is missing: extract ILSVRC2012_devkit_t12.tar.gz at {folder}, or sort the "
                "validation images into folders named by their classes"
            )
    from scipy.io import loadmat

    synsets = loadmat(str(meta), squeeze_me=True)["synsets"]
    wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}
    try:
        return [wnid[int(line)] for line in read_lines(truth)]
    except (KeyError, ValueError) as error:
        raise _other_release(folder, error) from error


def _other_release(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"{folder / DEVKIT / TRUTH} speaks of the class {error}, which the training half or {DEVKIT}/meta.mat "
        "does not have: take all of the same release"
    )


def _no_training_half(folder: Path) -> DataError:
    return DataError(
        f"{folder} has neither train/<class>/*.JPEG nor {TRAIN_TAR}: download ILSVRC2012 from "
        "image-net.org and put its files there"
    )
