"""YouTube-VOS 2018 and 2019: meta.json, annotations every fifth frame, objects that begin late.

Folders: `train` (or `train_480p`, resized), `valid`, `all_frames/valid_all_frames`,
`all_frames/train_all_frames`. The held-out list of training videos that FRTM introduced is
`train/ImageSets/jjval.txt`.

Source: youtube-vos.org; andr345/frtm-vos: lib/ytvos_jjvalid.txt (the idea of the list).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_text
from vosrepro.base.labels import VOID, read_labels
from vosrepro.datasets.sets.facts import Facts
from vosrepro.datasets.sets.files import frame_names
from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import (
    Truth,
    Video,
    list_frames,
    list_masks,
    list_videos,
    read_lines,
)

if TYPE_CHECKING:
    from vosrepro.study.params import DataParams

JJVAL = "train/ImageSets/jjval.txt"
#: Lists of training videos that authors published in their repositories, and where they belong here.
LISTS = {
    "ytvos-train-jjtrain": ("train/ImageSets/jjtrain.txt", "lib/ytvos_jjtrain.txt of andr345/frtm-vos"),
    "ytvos-train-subset": ("train/ImageSets/yv_subset.txt", "util/yv_subset.txt of hkchengrex/Mask-Propagation"),
}
#: Every fifth frame has labels, and the archive holds only these.
#: Source: hkchengrex/Mask-Propagation: dataset/vos_dataset.py.
FACTS = Facts(frames_per_label=5)


def train_folder(data: DataParams) -> Path:
    """`train_480p` where it exists (smaller, as Mask-Propagation trains), else `train`."""
    root = set_folder("ytvos", data)
    resized = root / "train_480p"
    return resized if resized.is_dir() else root / "train"


def image_folder(split: str, frame_source: str, data: DataParams, *, dataset: str = "ytvos") -> Path:
    """Where the frames lie that a method is run on.

    Args:
        split: "valid" or "jjval".
        frame_source: "annotated" (every fifth frame, as distributed) or "all" (30 frames a second).
        data: where the sets lie.
        dataset: "ytvos" (2018) or "ytvos19".

    Raises:
        DataError: if all frames are asked for but not there.
    """
    root, archive = set_folder(dataset, data), "train" if split == "jjval" else "valid"
    if frame_source == "annotated":
        return root / archive / "JPEGImages"
    folder = root / "all_frames" / f"{archive}_all_frames" / "JPEGImages"
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}: extract {archive}_all_frames.zip into {root}/all_frames, "
            "or set frame_source to 'annotated' in the protocol"
        )
    return folder


def benchmark(split: str, frame_source: str, data: DataParams, *, dataset: str = "ytvos") -> list[Video]:
    """The videos of "valid" or "jjval", each object with the frame where it is given.

    Raises:
        DataError: if a file is missing, or an object is given in a frame without image or mask.
    """
    root = set_folder(dataset, data)
    archive = "train" if split == "jjval" else "valid"
    images = image_folder(split, frame_source, data, dataset=dataset)
    meta = read_meta(root / archive / "meta.json")
    names = read_lines(jjval_list(data)) if split == "jjval" else list_videos(images)
    return [_video(name, images / name, root / archive / "Annotations" / name, meta) for name in names]


def truth(split: str, data: DataParams) -> Truth:
    """Annotations of every fifth frame of the held-out training videos.

    Raises:
        DataError: for "valid", whose annotations are not public.
    """
    if split != "jjval":
        raise DataError(f"the ground truth of YouTube-VOS {split} is not public: submit to its server")
    folder = set_folder("ytvos", data) / "train"
    return Truth(folder / "Annotations", tuple(read_lines(jjval_list(data))), folder / "meta.json")


def training(data: DataParams, *, held_out: bool) -> list[Video]:
    """The training videos.

    Args:
        data: where the sets lie.
        held_out: whether to keep the videos of the jjval list, if there is one.
    """
    folder = train_folder(data)
    names = list_videos(folder / "JPEGImages")
    path = jjval_list(data)
    if not held_out and path.is_file():
        away = set(read_lines(path))
        names = [name for name in names if name not in away]
    meta = read_meta(set_folder("ytvos", data) / "train" / "meta.json", optional=True)
    return [
        _video(name, folder / "JPEGImages" / name, folder / "Annotations" / name, meta, strict=False) for name in names
    ]


def published_list(set_name: str, data: DataParams) -> Path:
    """The list of a training set of `LISTS`.

    Raises:
        DataError: if it is not in place, saying where it comes from.
    """
    place, source = LISTS[set_name]
    path = set_folder("ytvos", data) / place
    if not path.is_file():
        raise DataError(f"the list of the training set '{set_name}' is missing: put {source} there as {path}")
    return path


def listed_training(set_name: str, data: DataParams) -> list[Video]:
    """The training videos of a published list, held-out ones included.

    Raises:
        DataError: if the list is missing, or names a video that is not there.
    """
    path = published_list(set_name, data)
    names = dict.fromkeys(read_lines(path))
    videos = [video for video in training(data, held_out=True) if video.name in names]
    missing = sorted(set(names) - {video.name for video in videos})
    if missing:
        raise DataError(
            f"{path} names {len(missing)} videos that are not there, first {missing[0]}: complete the set or correct "
            "the list"
        )
    return videos


def jjval_list(data: DataParams) -> Path:
    """The list of held-out training videos."""
    return set_folder("ytvos", data) / JJVAL


def read_meta(path: Path, *, optional: bool = False) -> Mapping[str, Any]:
    """`videos` of a meta.json: name -> {"objects": {id: {"category", "frames"}}}.

    Args:
        path: the file.
        optional: whether a missing file gives an empty mapping.

    Raises:
        DataError: if it is missing or malformed.
    """
    if optional and not path.is_file():
        return {}
    try:
        text = read_text(path)
        videos = json.loads(text, object_pairs_hook=_without_twins)["videos"]
        for name, entry in videos.items():
            _without_twins([(int(label), None) for label in entry["objects"]])
            for label, facts in entry["objects"].items():
                if not 0 < int(label) < VOID or not facts["frames"]:
                    raise ValueError(f"object {label} of {name}")
    except OSError as error:
        raise DataError(f"{path} is missing: extract the whole archive, meta.json included") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a meta.json of YouTube-VOS ({error!r})") from error
    return videos


def _without_twins(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping; a key that is given twice would hide a video or an object."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"'{twin}' is given twice")
    return found


def _video(name: str, images: Path, annotations: Path, meta: Mapping[str, Any], *, strict: bool = True) -> Video:
    masks = list_masks(annotations)
    if name in meta:
        objects = meta[name]["objects"]
        starts = {int(label): str(facts["frames"][0]) for label, facts in objects.items()}
        categories = {int(label): str(f.get("category", "")) for label, f in objects.items()}
    elif strict:
        starts, categories = _starts_in(masks), {}
    else:
        starts, categories = {}, {}
    video = Video(name, list_frames(images), masks, dict(sorted(starts.items())), False, categories)
    if strict:
        _check(video, annotations)
    return video


def _starts_in(masks: Mapping[str, Path]) -> dict[int, str]:
    """Object id -> first mask that holds it, for a video that meta.json does not know."""
    starts: dict[int, str] = {}
    for frame, path in masks.items():
        for label in np.unique(read_labels(path)):
            if label not in (0, VOID):
                starts.setdefault(int(label), frame)
    return starts


def _check(video: Video, annotations: Path) -> None:
    if not video.starts:
        raise DataError(f"{annotations} gives no object, so there is nothing to track in {video.name}")
    frames = set(frame_names(video.frames))
    for label, frame in video.starts.items():
        if frame not in frames:
            raise DataError(
                f"object {label} of video {video.name} starts in frame {frame}, which has no image in "
                f"{video.frames[0].parent}: extract the images again"
            )
        if frame not in video.annotations:
            raise DataError(
                f"object {label} of video {video.name} starts in frame {frame}, but "
                f"{annotations / f'{frame}.png'} is missing: extract the annotations again"
            )
