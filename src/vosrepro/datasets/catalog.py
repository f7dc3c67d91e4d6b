"""Data sets by the names that parameter files use."""

from __future__ import annotations

from collections.abc import Callable, Collection

from vosrepro.datasets import alibaba, bl30k, davis, imagenet, static, youtube
from vosrepro.datasets.imagenet import LabeledImage
from vosrepro.datasets.resized import resized_video
from vosrepro.datasets.video import StaticImage, Truth, Video
from vosrepro.errors import ConfigError
from vosrepro.params import BenchmarkParams, DataParams, pick
from vosrepro.plan import resized_folder

_TRAINING: dict[str, Callable[[DataParams], list[Video]]] = {
    "davis16-train": lambda data: davis.training("davis2016", data),
    "davis17-train": lambda data: davis.training("davis2017", data),
    "ytvos-train": lambda data: youtube.training(data, held_out=False),
    "ytvos-train-all": lambda data: youtube.training(data, held_out=True),
    "bl30k": bl30k.training,
}


def benchmark_videos(benchmark: BenchmarkParams, data: DataParams) -> list[Video]:
    """The videos that inference runs on, in the order of the benchmark's list; scaled copies if it wants them.

    Raises:
        DataError: if something is missing or malformed.
    """
    videos = original_videos(benchmark, data)
    if benchmark.fit_px is None:
        return videos
    folder = resized_folder(benchmark, data)
    return [resized_video(video, folder) for video in videos]


def original_videos(benchmark: BenchmarkParams, data: DataParams) -> list[Video]:
    """As `benchmark_videos`, at the size of the files."""
    if benchmark.dataset == "ali21":
        return alibaba.benchmark(benchmark.split, data)
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return youtube.benchmark(
            benchmark.split, benchmark.frame_source, data, dataset=benchmark.dataset
        )
    return davis.benchmark(benchmark.dataset, benchmark.split, data)


def benchmark_images(
    benchmark: BenchmarkParams, data: DataParams
) -> tuple[list[LabeledImage], list[str]]:
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


def training_videos(
    set_name: str, data: DataParams, *, exclude: Collection[str] = ()
) -> list[Video]:
    """The videos of a training set.

    Args:
        set_name: "davis17-train", "davis16-train" (binary masks), "bl30k", "ytvos-train" (without the
            videos of the jjval list, if the set has one) or "ytvos-train-all".
        data: where the sets lie.
        exclude: names to leave out; those that the set lacks do not matter.

    Raises:
        ConfigError: if there is no training set of this name.
        DataError: if something is missing.
    """
    load = pick(_TRAINING, set_name, what="training set of videos", where="vosrepro.datasets")
    return [video for video in load(data) if video.name not in exclude]


def static_images(data: DataParams) -> list[StaticImage]:
    """The images of training stage 0; those of the two small sets stand five times in the list."""
    return static.images(data)
