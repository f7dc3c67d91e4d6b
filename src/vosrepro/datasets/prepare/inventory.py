"""What a data set should consist of: every file that the loaders would ask for, and what is missing.

A *part* is the piece of a data set that one benchmark or one training set needs, so that a person who
only has the validation half of DAVIS can use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.names import frame_files
from vosrepro.datasets.sets import alibaba, davis, imagenet, imagenet_vid, static, youtube
from vosrepro.datasets.sets.folders import kept_list, set_folder
from vosrepro.datasets.sets.video import IMAGES, list_frames, list_masks, list_videos, read_lines
from vosrepro.study.params import DataParams

Pair = tuple[Path, Path | None]  # an image with its mask, where it should have one
_SHOWN = 5
#: Videos of the validation set -> the year's data set. Source: youtube-vos.org.
_VALID_VIDEOS = {474: "ytvos", 507: "ytvos19"}


@dataclass
class Inventory:
    """Some files of a part, those of one video for instance: a part may have millions.

    Attributes:
        folder: the data set's folder.
        binary: whether every non-zero label is the object (DAVIS 2016).
        videos: videos, or static images.
        pairs: image with its mask, where it should have one; grouped by video.
        first_masks: masks that must show an object.
        others: lists and meta data.
        defects: sentences on what is missing.
    """

    folder: Path
    binary: bool = False
    videos: int = 0
    pairs: list[Pair] = field(default_factory=list)
    first_masks: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """Every file once, sorted."""
        masks = (mask for _, mask in self.pairs if mask is not None)
        return sorted({*(image for image, _ in self.pairs), *masks, *self.first_masks, *self.others})


def take_inventory(part: str, data: DataParams) -> Iterator[Inventory]:
    """The files of a part (a key of `PARTS`), each once, video by video.

    Raises:
        DataError: if its folder or its list is missing.
    """
    yield from PARTS[part](data)
    lists = [kept_list(name, data) for name in (part, f"{part}-all") if name in data.lists]
    if lists:  # training depends on them
        yield Inventory(Path(data.root), others=lists)


def defect_list(defects: Iterable[str]) -> str:
    """The first few sentences, and how many there are beside."""
    every = list(defects)
    more = f"; and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "; ".join(every[:_SHOWN]) + more


def _davis(data: DataParams, *, dataset: str, split: str) -> Iterator[Inventory]:
    folder = davis.tree(dataset, data)
    listed = davis.list_file(dataset, split, data)
    for name in davis.sequences(dataset, split, data):
        found = Inventory(folder, binary=dataset in ("davis2016", davis.MERGED))
        images = folder / "JPEGImages" / davis.RESOLUTION / name
        masks = folder / "Annotations" / davis.RESOLUTION / name
        only_first = dataset == "davis2017-testdev"
        first = _video(found, images, masks, needed="first" if only_first else "all")
        if first is not None and split != "train":
            found.first_masks.append(first)
        yield found
    found = Inventory(folder, others=[listed])
    if dataset == "davis2016" and listed.parent.name == davis.RESOLUTION:
        for path in (p for line in read_lines(listed) for p in line.split() if "/" in p):
            file = folder / path.strip("/")
            if not file.is_file() and file.parent.is_dir():
                found.defects.append(f"{file} is missing, but {listed} names it")
    yield found


def _ali21(data: DataParams) -> Iterator[Inventory]:
    folder = set_folder("ali21", data)
    listed = alibaba.list_file("test", data)
    yield Inventory(folder, others=[listed])
    for name in read_lines(listed):
        found = Inventory(folder)
        images, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
        if list_masks(masks):
            first = _video(found, images, masks, needed="first")
            found.first_masks += [] if first is None else [first]
        else:  # a detector finds the first objects
            found.pairs += [(path, None) for path in list_frames(images)]
            found.videos += 1
        yield found


def _bl30k(data: DataParams) -> Iterator[Inventory]:
    folder = set_folder("bl30k", data)
    for name in list_videos(folder / "JPEGImages"):
        found = Inventory(folder)
        _video(found, folder / "JPEGImages" / name, folder / "Annotations" / name, needed="all")
        yield found


def _youtube_train(data: DataParams, *, only_jjval: bool) -> Iterator[Inventory]:
    folder, root = youtube.train_folder(data), set_folder("ytvos", data)
    if only_jjval:
        folder = root / "train"  # scored at its own size
    meta = root / "train" / "meta.json"
    videos = youtube.read_meta(meta)
    listed = youtube.jjval_list(data)
    yield Inventory(root, others=[meta, listed] if only_jjval or listed.is_file() else [meta])
    names = read_lines(listed) if only_jjval else list_videos(folder / "JPEGImages")
    for name in names:
        found = Inventory(root)
        images, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
        _video(found, images, masks, needed="some")
        if name not in videos:
            found.defects.append(f"{meta} does not know the video {name}")
        for label, facts in videos.get(name, {"objects": {}})["objects"].items():
            absent = [f for f in facts["frames"] if not (masks / f"{f}.png").is_file()]
            if absent:
                found.defects.append(
                    f"{masks / absent[0]}.png is missing, but {meta} says that it shows object {label}"
                )
        yield found


def _youtube_list(data: DataParams, *, name: str) -> Iterator[Inventory]:
    """A published list of training videos; the videos are those of "ytvos-train"."""
    root = set_folder("ytvos", data)
    try:
        yield Inventory(root, others=[youtube.published_list(name, data)])
    except DataError as error:
        yield Inventory(root, defects=[str(error)])


def _youtube_run(data: DataParams, *, split: str, frame_source: str, dataset: str = "ytvos") -> Iterator[Inventory]:
    """What a run on "valid" or "jjval" reads: frames, and masks where objects begin."""
    root = set_folder(dataset, data)
    archive = root / ("train" if split == "jjval" else "valid")
    found = Inventory(root, others=[archive / "meta.json"])
    if split == "jjval":
        found.others.append(youtube.jjval_list(data))
    try:
        videos = youtube.benchmark(split, frame_source, data, dataset=dataset)
    except DataError as error:
        found.defects.append(str(error))
        yield found
        return
    year = _VALID_VIDEOS.get(len(videos)) if split == "valid" else None
    if year is not None and year != dataset:
        years = {"ytvos": "2018", "ytvos19": "2019"}
        found.defects.append(
            f"{archive} holds {len(videos)} videos as YouTube-VOS {years[year]} does, but {years[dataset]} "
            f"is meant: extract valid.zip of {years[dataset]} there"
        )
    yield found
    for video in videos:
        starts = set(video.starts.values())
        given = {f: video.annotations[f] for f in starts}
        pairs = [(path, given.get(path.stem)) for path in video.frames]
        yield Inventory(root, videos=1, pairs=pairs, first_masks=list(given.values()))


def _static(data: DataParams) -> Iterator[Inventory]:
    folder = set_folder("static", data)
    images = {image.name: image for image in static.images(data)}
    pairs: list[Pair] = [(image.image, image.mask) for image in images.values()]
    yield Inventory(folder, videos=len(images), pairs=pairs)


def _imagenet(data: DataParams, *, only_validation: bool) -> Iterator[Inventory]:
    """Both halves, or one and its labels; archives that are read in place count as one file each."""
    images = imagenet.validation_images(data)
    labels: list[Path] = imagenet.label_files(data)
    if not only_validation:
        images, labels = [*imagenet.training_images(data), *images], []
    folder = set_folder("imagenet", data)
    packed = [image for image in images if image.place is not None]
    others = sorted({*labels, *(image.path for image in packed)})
    yield Inventory(folder, videos=len(packed), others=others)
    single = (image for image in images if image.place is None)
    for _, group in groupby(single, key=lambda image: image.path.parent):
        pairs: list[Pair] = [(image.path, None) for image in group]
        yield Inventory(folder, videos=len(pairs), pairs=pairs)


def _imagenet_vid(data: DataParams) -> Iterator[Inventory]:
    """The training half, and the validation half if it is there; the official lists tell what is missing."""
    folder = set_folder("imagenet-vid", data)
    yield Inventory(folder, others=sorted((folder / "ImageSets/VID").glob("*.txt")))
    for half in imagenet_vid.HALVES:
        if half == "val" and not (folder / "Data/VID/val").is_dir():
            continue
        present = set()
        for name in imagenet_vid.snippets(folder, half):
            present.add(name)
            try:
                video = imagenet_vid.open_snippet(folder, name)
            except DataError as error:
                yield Inventory(folder, defects=[str(error)])
                continue
            pairs: list[Pair] = [(path, video.annotations[path.stem]) for path in video.frames]
            yield Inventory(folder, videos=1, pairs=pairs)
        absent = sorted(imagenet_vid.listed_snippets(folder, half) - present)
        if absent:
            missing = (
                f"{folder / 'Data/VID' / absent[0]} is missing, but the lists in ImageSets/VID name it "
                f"({len(absent)} such snippets)"
            )
            yield Inventory(folder, defects=[missing])


def _video(found: Inventory, images: Path, masks: Path, *, needed: str) -> Path | None:
    """Add a video and its defects; returns its first mask.

    Args:
        found: the inventory to add to.
        images: folder of the frames.
        masks: folder of the masks.
        needed: which frames must have a mask: "all", "first", or "some" (each mask has a frame).
    """
    frames = _files(images, IMAGES)
    labels = {p.stem: p for p in _files(masks, (".png",))}
    if not frames:
        found.defects.append(f"{images} is missing or has no JPEG")
        return None
    if not labels:
        found.defects.append(f"{masks} is missing or has no PNG")
        return None
    found.videos += 1
    found.pairs += [(path, labels.get(path.stem)) for path in frames]
    names = [path.stem for path in frames]
    wanted = {"all": names, "first": names[:1], "some": []}[needed]
    absent = [name for name in wanted if name not in labels]
    if absent:
        count = f" ({len(absent)} such frames)" if len(absent) > 1 else ""
        found.defects.append(f"{masks / absent[0]}.png is missing, but its frame is there{count}")
    alone = sorted(set(labels) - set(names))
    if alone:
        found.defects.append(f"{images / alone[0]}.jpg is missing, but its mask is there")
    return next(iter(labels.values()))


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in frame_files(folder, endings)] if folder.is_dir() else []


#: Part -> how to list it.
PARTS: dict[str, Callable[[DataParams], Iterator[Inventory]]] = {
    "davis16-train": partial(_davis, dataset="davis2016", split="train"),
    "davis16-val": partial(_davis, dataset="davis2016", split="val"),
    "davis17-train": partial(_davis, dataset="davis2017", split="train"),
    "davis17-val": partial(_davis, dataset="davis2017", split="val"),
    "davis16-merged17-val": partial(_davis, dataset=davis.MERGED, split="val"),
    "davis17-testdev": partial(_davis, dataset="davis2017-testdev", split="test-dev"),
    "ytvos-train": partial(_youtube_train, only_jjval=False),
    **{name: partial(_youtube_list, name=name) for name in youtube.LISTS},
    "ytvos-jjval": partial(_youtube_train, only_jjval=True),
    "ytvos-jjval-all": partial(_youtube_run, split="jjval", frame_source="all"),
    "ytvos-valid": partial(_youtube_run, split="valid", frame_source="annotated"),
    "ytvos-valid-all": partial(_youtube_run, split="valid", frame_source="all"),
    "ytvos19-valid": partial(_youtube_run, split="valid", frame_source="annotated", dataset="ytvos19"),
    "ytvos19-valid-all": partial(_youtube_run, split="valid", frame_source="all", dataset="ytvos19"),
    "static": _static,
    "bl30k": _bl30k,
    "imagenet": partial(_imagenet, only_validation=False),
    "imagenet-val": partial(_imagenet, only_validation=True),
    "imagenet-vid": _imagenet_vid,
    "ali21": _ali21,
}
