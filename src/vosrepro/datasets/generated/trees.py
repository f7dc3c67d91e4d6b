"""The trees of the mini data: which clips there are, where they go, and the lists that name them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vosrepro.datasets.generated.clips import Clip, ClipFacts, TreePlace
from vosrepro.datasets.generated.scenes import SceneSpec
from vosrepro.datasets.generated.shapes import SEEN, UNSEEN

_D16, _D17, _DEV = "DAVIS/2016", "DAVIS/2017/trainval", "DAVIS/2017/test-dev"
_YOUTUBE = "YouTube"
_VID = "ILSVRC2015"
_ALL_FRAMES = "YouTube/all_frames/valid_all_frames"
_SIZES = ((128, 224), (128, 224), (121, 215), (128, 208), (135, 240), (128, 224))
_STATIC_SIZES = ((128, 192), (144, 144), (160, 120), (113, 171))
_T = TypeVar("_T")


def all_clips(limit: int | None = None) -> list[Clip]:
    """Every clip of the mini data, in a fixed order.

    Args:
        limit: at most this many of each kind, for tests; names stay as they are.
    """
    groups = (
        (_davis("train", i, _train_kind(i)) for i in range(28)),
        (_davis("train", i, _train_kind(i)) for i in range(28, 32)),
        (_davis("val", i, "pair") for i in range(4)),
        (_davis("val", i, "several") for i in range(4, 8)),
        (_davis("val", i, "single") for i in range(8, 12)),
        (_test_dev(i) for i in range(3)),
        (_bl30k(i) for i in range(24)),
        (_youtube_train(i) for i in range(18)),
        (_youtube_train(i) for i in range(18, 24)),
        (_youtube_valid(i) for i in range(4)),
        (_large(i) for i in range(2)),
        (_snippet("train", i) for i in range(10)),
        (_snippet("val", i) for i in range(2)),
        *(_static(folder, count) for folder, count in _STATIC_FOLDERS.items()),
    )
    return [clip for group in groups for clip in islice(group, limit)]


def write_lists(root: Path, facts: Mapping[str, ClipFacts]) -> None:
    """Write ImageSets, meta.json and the jjval list for the clips that were made.

    Args:
        root: of the data, with the clips in it.
        facts: clip name -> its facts, for all clips of the root.
    """
    _davis_lists(root, [name.partition("/")[2] for name in facts if name.startswith("davis/")])
    for prefix, path in (
        ("test-dev/", f"{_DEV}/ImageSets/2017/test-dev.txt"),
        ("large/", "Alibaba/ImageSets/test.txt"),
    ):
        _lines(root / path, [name.partition("/")[2] for name in facts if name.startswith(prefix)])
    _vid_lists(root, [name.partition("/")[2] for name in facts if name.startswith("vid/")])
    for split in ("train", "valid"):
        prefix = f"youtube-{split}/"
        found = {n.removeprefix(prefix): f for n, f in facts.items() if n.startswith(prefix)}
        meta = {"videos": {name: _meta(found[name], split) for name in sorted(found)}}
        text = json.dumps(meta, indent=1, sort_keys=True)
        _lines(root / _YOUTUBE / split / "meta.json", [text])
    held_out = {_youtube_name("train", i) for i in range(18, 24)}
    made = {name.partition("/")[2] for name in facts if name.startswith("youtube-train/")}
    _lines(root / _YOUTUBE / "train/ImageSets/jjval.txt", sorted(held_out & made))


# ------------------------------------------------------------------------------------------- DAVIS


def _train_kind(i: int) -> str:
    if i < 12 or i in (28, 29):
        return "single" if i % 2 == 0 else "pair"
    return "several"


def _davis(split: str, i: int, kind: str) -> Clip:
    """A DAVIS video. Singles and pairs are in the 2016 tree too, where a pair is one foreground."""
    name, frames = f"{split}-{i:02d}", 20 if split == "val" else 16
    height, width = _cycle(_SIZES, i)
    labels = {"single": (1,), "pair": (1, 2)}.get(kind, (1, 2) if i % 2 == 0 else (1, 2, 3))
    spec = SceneSpec(
        height=height,
        width=width,
        labels=labels,
        families=SEEN,
        distractors=2 if kind == "single" else 1,
        radius=(0.19, 0.29) if kind != "several" else (0.17, 0.25),
        pair=kind == "pair",
        occluders=i % 3 != 0,
        ghost=split == "val" and i == 6,
    )
    targets = [_davis_target(_D17, name)]
    if kind != "several" and (split == "val" or i < 12):
        targets.append(_davis_target(_D16, name, binary=True))
    return Clip(f"davis/{name}", spec, frames, tuple(targets))


def _davis_target(tree: str, name: str, *, binary: bool = False) -> TreePlace:
    images, masks = f"{tree}/JPEGImages/480p/{name}", f"{tree}/Annotations/480p/{name}"
    return TreePlace(images, masks, binary=binary)


def _test_dev(i: int) -> Clip:
    name = f"dev-{i:02d}"
    spec = SceneSpec(*_cycle(_SIZES, i), labels=(1, 2, 3)[: 2 + i % 2], families=SEEN)
    target = TreePlace(f"{_DEV}/JPEGImages/480p/{name}", f"{_DEV}/Annotations/480p/{name}", masks="first")
    return Clip(f"test-dev/{name}", spec, 12, (target,))


def _large(i: int) -> Clip:
    """A high-resolution video, one landscape and one portrait, numbered from 1."""
    name = f"ali-{i:02d}"
    spec = SceneSpec(*((144, 256), (256, 144))[i % 2], labels=(1, 2)[: 1 + i % 2], families=SEEN)
    target = TreePlace(f"Alibaba/JPEGImages/{name}", f"Alibaba/Annotations/{name}", first_number=1, enlarged=5)
    return Clip(f"large/{name}", spec, 8, (target,))


def _davis_lists(root: Path, names: list[str]) -> None:
    for split in ("train", "val"):
        ours = [name for name in names if name.startswith(f"{split}-")]
        single = [name for name in ours if (root / _D16 / "JPEGImages/480p" / name).is_dir()]
        several = [name for name in ours if split == "train" or name not in single or name <= "val-07"]
        for tree in (_D16, _D17):
            _lines(root / tree / f"ImageSets/2016/{split}.txt", single)
        _lines(root / _D17 / f"ImageSets/2017/{split}.txt", several)
        pairs = [
            f"/JPEGImages/480p/{name}/{frame.stem}.jpg /Annotations/480p/{name}/{frame.stem}.png"
            for name in single
            for frame in sorted((root / _D16 / "JPEGImages/480p" / name).iterdir())
        ]
        _lines(root / _D16 / f"ImageSets/480p/{split}.txt", pairs)


# ------------------------------------------------------------------------- BL30K, YouTube, pictures


def _bl30k(i: int) -> Clip:
    name = f"video-{i:03d}"
    spec = SceneSpec(
        height=128,
        width=192,
        labels=tuple(range(1, 3 + i % 3)),
        families=SEEN,
        distractors=0,
        radius=(0.15, 0.27),
        travel=(0.6, 1.3),
        occluders=0,
        cycles=1.5,
    )
    target = TreePlace(f"BL30K/JPEGImages/{name}", f"BL30K/Annotations/{name}")
    return Clip(f"bl30k/{name}", spec, 12, (target,))


def _snippet(half: str, i: int) -> Clip:
    """A snippet of ImageNet-VID: boxes of all objects in every frame."""
    group = f"ILSVRC2015_VID_train_{i // 5:04d}/" if half == "train" else ""
    name = f"{half}/{group}ILSVRC2015_{half}_{i:08d}"
    spec = SceneSpec(*_cycle(_SIZES, i), labels=(1, 2)[: 1 + i % 2], families=SEEN, occluders=i % 2)
    target = TreePlace(f"{_VID}/Data/VID/{name}", boxes=f"{_VID}/Annotations/VID/{name}")
    return Clip(f"vid/{name}", spec, 12, (target,))


def _vid_lists(root: Path, names: list[str]) -> None:
    """Lists name training snippets, and frames of the validation half, with a number behind each name."""
    lists = root / _VID / "ImageSets/VID"
    train = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    _lines(lists / "train_1.txt", [f"{name} 1" for name in train])
    frames = [
        f"{name.removeprefix('val/')}/{frame.stem}"
        for name in names
        if name.startswith("val/")
        for frame in sorted((root / _VID / "Data/VID" / name).iterdir())
    ]
    _lines(lists / "val.txt", [f"{name} {number}" for number, name in enumerate(frames, 1)])


def _youtube_spec(i: int, *, unseen: bool) -> SceneSpec:
    labels = _cycle(((1,), (1, 2), (1, 3), (2, 5), (1, 2, 4)), i)
    return SceneSpec(
        *_cycle(_SIZES, i),
        labels=labels,
        families=UNSEEN if unseen else SEEN,
        late=labels[-1:] if len(labels) > 1 and i % 3 != 0 else (),
        occluders=i % 2,
    )


def _youtube_train(i: int) -> Clip:
    """Every fifth frame only, as distributed; the last six are the held-out jjval list."""
    name = _youtube_name("train", i)
    images, masks = f"{_YOUTUBE}/train/JPEGImages/{name}", f"{_YOUTUBE}/train/Annotations/{name}"
    spec = _youtube_spec(i, unseen=i in (19, 22))
    return Clip(f"youtube-train/{name}", spec, 36, (TreePlace(images, masks),), step=5)


def _youtube_valid(i: int) -> Clip:
    name = _youtube_name("valid", i)
    targets = (
        TreePlace(f"{_ALL_FRAMES}/JPEGImages/{name}"),
        TreePlace(f"{_YOUTUBE}/valid/JPEGImages/{name}", step=5),
        TreePlace(None, f"{_YOUTUBE}/valid/Annotations/{name}", step=5, masks="starts"),
    )
    spec = _youtube_spec(i + 1, unseen=i % 2 == 1)
    return Clip(f"youtube-valid/{name}", spec, 36, targets, grid=5)


def _youtube_name(split: str, i: int) -> str:
    """Ten hexadecimal digits, as the real set names its videos."""
    return f"{zlib.crc32(f'{split}-{i}'.encode()):010x}"


def _meta(facts: ClipFacts, split: str) -> dict[str, object]:
    objects = {}
    for label, category in facts.categories.items():
        frames = facts.frames[label]
        if split == "valid":  # only the first appearance is public, on the 6 fps grid
            frames = [name for name in frames if int(name) % 5 == 0][:1]
        objects[str(label)] = {"category": category, "frames": frames}
    return {"objects": objects}


_STATIC_FOLDERS = {
    **{f"fss/{family}": 7 for family in SEEN},
    "DUTS-TR": 48,
    "DUTS-TE": 12,
    "ecssd": 8,
    "BIG_small": 5,
    "HRSOD_small": 5,
}


def _static(folder: str, count: int) -> Iterator[Clip]:
    for i in range(count):
        spec = SceneSpec(
            *_cycle(_STATIC_SIZES, i),
            labels=(1,),
            families=(folder.partition("/")[2],) if folder.startswith("fss/") else SEEN,
            distractors=(0, 1, 2)[i % 3],
            radius=(0.2, 0.38),
            occluders=i % 4 == 3,
        )
        stem = str(i + 1) if folder.startswith("fss/") else f"{folder}_{i + 1:04d}"
        place = f"static/{folder}"
        target = TreePlace(place, place, binary=True, stem=stem)
        yield Clip(f"{place}/{stem}", spec, 1, (target,))


def _cycle(choices: tuple[_T, ...], i: int) -> _T:
    return choices[i % len(choices)]


def _lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
