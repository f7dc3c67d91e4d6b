"""Where each data set lies, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.errors import DataError, pick

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams


@dataclass(frozen=True)
class SetFolder:
    """A data set's usual folder below the root and where a person gets it.

    Attributes:
        needs: sub-folders of which at least one must be there.
    """

    folder: str
    needs: tuple[str, ...]
    obtain: str


SOURCES = {
    "davis2016": SetFolder(
        "DAVIS/2016",
        ("JPEGImages/480p",),
        "download DAVIS 2016 (DAVIS-data.zip) from davischallenge.org and extract it there, "
        "so that JPEGImages lies directly in it",
    ),
    "davis2017": SetFolder(
        "DAVIS/2017/trainval",
        ("JPEGImages/480p",),
        "download DAVIS-2017-trainval-480p.zip from davischallenge.org and extract it there, "
        "so that JPEGImages lies directly in it",
    ),
    "davis2017-testdev": SetFolder(
        "DAVIS/2017/test-dev",
        ("JPEGImages/480p",),
        "download DAVIS-2017-test-dev-480p.zip from davischallenge.org and extract it there, "
        "so that JPEGImages lies directly in it",
    ),
    "ytvos": SetFolder(
        "YouTube",
        ("train", "train_480p", "valid"),
        "download train.zip and valid.zip (and valid_all_frames.zip into all_frames/) from "
        "youtube-vos.org and extract them there",
    ),
    "ytvos19": SetFolder(
        "YouTube2019",
        ("train", "valid"),
        "download valid.zip (and valid_all_frames.zip into all_frames/) of the 2019 version from "
        "youtube-vos.org and extract them there",
    ),
    "static": SetFolder(
        "static",
        ("",),
        "download the static image sets (FSS-1000, DUTS, ECSSD, BIG, HRSOD) and put them there as "
        "fss/, DUTS-TR/, DUTS-TE/, ecssd/, BIG_small/, HRSOD_small/",
    ),
    "ali21": SetFolder(
        "Alibaba",
        ("JPEGImages",),
        "put the videos there as JPEGImages/<video>/00001.jpg, the masks of their first frames as "
        "Annotations/<video>/00001.png, and the list ImageSets/test.txt",
    ),
    "bl30k": SetFolder(
        "BL30K",
        ("JPEGImages",),
        "download BL30K (doi.org/10.13012/B2IDB-1702934_V1) and extract its segments there, so that "
        "JPEGImages and Annotations lie directly in it",
    ),
    "imagenet-vid": SetFolder(
        "ILSVRC2015",
        ("Data/VID",),
        "download ILSVRC2015_VID.tar.gz (object detection from video) from image-net.org and extract it there, "
        "so that Data/VID, Annotations/VID and ImageSets/VID lie directly in it",
    ),
    "imagenet": SetFolder(
        "ImageNet",
        ("train", ""),
        "download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from "
        "image-net.org and put them there, extracted (train/<class>/*.JPEG, val/) or the tar files as they "
        "are with the development kit extracted",
    ),
}


#: Scaled copies that are made of a whole set (others take what is there): copy -> set.
COPIES = {"youtube-480p": "ytvos"}


def set_folder(name: str, data: DataParams) -> Path:
    """The folder of a data set; one level of extra nesting, as archives leave it, is looked through.

    Args:
        name: a key of `SOURCES`.
        data: the root, and in `sets` the folders that differ from the usual ones (relative to the
            root, or absolute).

    Raises:
        DataError: if it is not there, saying where to get it.
    """
    source: SetFolder = pick(SOURCES, name, what="data set", where="vosrepro.datasets")
    folder = Path(data.root) / data.sets.get(name, source.folder)
    if not folder.is_dir():
        raise DataError(f"data set '{name}' is missing: there is no folder {folder}; {_how(source, data)}")
    nested = [folder, *(folder / inner for inner in ("DAVIS", folder.name, "BL30K"))]
    for candidate in nested:
        if any((candidate / need).is_dir() for need in source.needs):
            return candidate
    wanted = " or ".join(source.needs)
    raise DataError(f"data set '{name}' is incomplete: {folder} has no {wanted}; {_how(source, data)}")


def kept_list(set_name: str, data: DataParams) -> Path:
    """The list of videos to keep of a training set that `data.lists` names."""
    return Path(data.root) / data.lists[set_name]


def _how(source: SetFolder, data: DataParams) -> str:
    if data.generated:
        return f"run `vosrepro data generate --root {data.root}`"
    return f"{source.obtain}, or name its folder in data.sets of the study"
