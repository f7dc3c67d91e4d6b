"""Data sets by the names that parameter files use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import ConfigError, DataError, pick
from vosrepro.datasets.sets import alibaba, bl30k, davis, imagenet, imagenet_vid, static, youtube
from vosrepro.datasets.sets.facts import Facts
from vosrepro.datasets.sets.folders import kept_list
from vosrepro.datasets.sets.imagenet import LabeledImage
from vosrepro.datasets.sets.resized import resized_video
from vosrepro.datasets.sets.video import StaticImage, Truth, Video, read_lines
from vosrepro.study.digests import resized_copies
from vosrepro.study.paths import resized_folder

if TYPE_CHECKING:
    from vosrepro.study.params import BenchmarkParams, DataParams


@dataclass(frozen=True)
class TrainingSet:
    """A set that a stage of training may name: how it is opened, and what training must know of it."""

    open: Callable[[DataParams], Sequence[Any]]
    facts: Facts = field(default_factory=Facts)


TRAINING_SETS: dict[str, TrainingSet] = {
    "davis16-train": TrainingSet(lambda data: davis.training("davis2016", data), davis.FACTS),
    "davis17-train": TrainingSet(lambda data: davis.training("davis2017", data), davis.FACTS),
    "ytvos-train": TrainingSet(lambda data: youtube.training(data, held_out=False), youtube.FACTS),
    "ytvos-train-all": TrainingSet(lambda data: youtube.training(data, held_out=True), youtube.FACTS),
    **{
        name: TrainingSet(lambda data, name=name: youtube.listed_training(name, data), youtube.FACTS)
        for name in youtube.LISTS
    },
    "bl30k": TrainingSet(bl30k.training, bl30k.FACTS),
    "imagenet-vid": TrainingSet(lambda data: imagenet_vid.training(data, val_too=False)),
    "imagenet-vid-all": TrainingSet(lambda data: imagenet_vid.training(data, val_too=True)),
    "static": TrainingSet(static.images, Facts(videos=False)),
    "imagenet": TrainingSet(imagenet.training_images, Facts(videos=False)),
}


def training_parts(set_name: str) -> tuple[str, ...]:
    """The parts that a training set reads: that of its videos, and a published list of them."""
    if set_name in youtube.LISTS:
        return ("ytvos-train", set_name)
    return (set_name.removesuffix("-all"),)


def benchmark_part(benchmark: BenchmarkParams) -> str:
    """The part that a benchmark reads."""
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return f"{benchmark.dataset}-{benchmark.split}" + ("-all" if benchmark.frame_source == "all" else "")
    if benchmark.dataset == "ali21":
        return "ali21"
    if benchmark.dataset == "davis2017-testdev":
        return "davis17-testdev"
    return f"{benchmark.dataset.replace('davis20', 'davis')}-{benchmark.split}"


def benchmark_videos(benchmark: BenchmarkParams, data: DataParams) -> list[Video]:
    """The videos that inference runs on, in the order of the benchmark's list; scaled copies if it wants them.

    Raises:
        DataError: if something is missing or malformed.
    """
    videos = original_videos(benchmark, data)
    if benchmark.fit_px is None:
        return videos
    folder = resized_folder(resized_copies(benchmark, data))
    return [resized_video(video, folder) for video in videos]


def original_videos(benchmark: BenchmarkParams, data: DataParams) -> list[Video]:
    """As `benchmark_videos`, at the size of the files."""
    if benchmark.dataset == "ali21":
        return alibaba.benchmark(benchmark.split, data)
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return youtube.benchmark(benchmark.split, benchmark.frame_source, data, dataset=benchmark.dataset)
    return davis.benchmark(benchmark.dataset, benchmark.split, data)


def benchmark_images(benchmark: BenchmarkParams, data: DataParams) -> tuple[list[LabeledImage], list[str]]:
    """The images of a benchmark that classifies, and the names of the classes that their labels count.

    Raises:
        ConfigError: if they are not those of ImageNet's validation half.
        DataError: if something is missing or malformed.
    """
    if (benchmark.dataset, benchmark.split) != ("imagenet", "val"):
        raise ConfigError(
            f"benchmark '{benchmark.benchmark}' classifies {benchmark.dataset}/{benchmark.split}, but only "
            "imagenet/val has labelled images: correct its dataset and split"
        )
    return imagenet.validation_images(data), imagenet.classes(data)


def benchmark_truth(benchmark: BenchmarkParams, data: DataParams) -> Truth:
    """What scoring compares the masks of a benchmark with.

    Raises:
        DataError: if the ground truth is missing or not public.
    """
    if benchmark.dataset == "ali21":
        return alibaba.truth(benchmark.split, data)
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return youtube.truth(benchmark.split, data)
    return davis.truth(benchmark.dataset, benchmark.split, data)


def training_videos(set_name: str, data: DataParams, *, exclude: Collection[str] = ()) -> list[Video]:
    """The videos of a training set.

    Args:
        set_name: "davis17-train", "davis16-train" (binary masks), "bl30k", "ytvos-train" (without the
            videos of the jjval list, if the set has one), "ytvos-train-all", "imagenet-vid" (boxes) or
            "imagenet-vid-all" (with its validation half).
        data: where the sets lie, and lists of the videos to keep.
        exclude: names to leave out; those that the set lacks do not matter.

    Raises:
        ConfigError: if there is no training set of this name.
        DataError: if something is missing, or a list names a video that is not there.
    """
    sets = {name: known for name, known in TRAINING_SETS.items() if known.facts.videos}
    known: TrainingSet = pick(sets, set_name, what="training set of videos", where="vosrepro.datasets")
    videos = [video for video in known.open(data) if video.name not in exclude]
    return videos if set_name not in data.lists else _kept(videos, set_name, data, exclude)


def _kept(videos: Sequence[Video], set_name: str, data: DataParams, exclude: Collection[str]) -> list[Video]:
    path = kept_list(set_name, data)
    names = set(read_lines(path))
    missing = sorted(names - {video.name for video in videos} - set(exclude))
    if missing:
        raise DataError(
            f"{path} names {len(missing)} videos that the training set '{set_name}' lacks, first {missing[0]}: "
            "correct the list or complete the set"
        )
    return [video for video in videos if video.name in names]


def training_pictures(set_name: str, data: DataParams) -> Sequence[StaticImage | LabeledImage]:
    """The single pictures of a training set: "static" (with a mask each) or "imagenet" (with a class each).

    Raises:
        ConfigError: if there is no such set.
        DataError: if something is missing.
    """
    sets = {name: known for name, known in TRAINING_SETS.items() if not known.facts.videos}
    known: TrainingSet = pick(sets, set_name, what="training set of pictures", where="vosrepro.datasets")
    return known.open(data)


def training_facts(set_name: str) -> Facts:
    """What training must know of a set.

    Raises:
        ConfigError: if there is no training set of this name.
    """
    return pick(TRAINING_SETS, set_name, what="training set", where="vosrepro.datasets").facts
