"""Whether a benchmark has all frames that the manifest of the data counted: a shorter video would pass unnoticed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.errors import DataError
from vosrepro.datasets import Video, benchmark_videos
from vosrepro.datasets.sets.catalog import benchmark_part, original_videos
from vosrepro.datasets.sets.files import frame_names
from vosrepro.study.digests import resized_copies
from vosrepro.study.integrity import damaged
from vosrepro.study.paths import RESIZED_SIZES, resized_folder

if TYPE_CHECKING:
    from vosrepro.study.params import BenchmarkParams, DataParams
    from vosrepro.study.records import DataManifest


def check_frame_count(benchmark: BenchmarkParams, data: DataParams, manifest: DataManifest, source: Path) -> None:
    """Compare the frames of a benchmark's videos with the number that the manifest counted.

    Args:
        benchmark: of videos.
        data: where they lie.
        manifest: of the study's data.
        source: its file, for the message.

    Raises:
        DataError: naming a frame that is missing, or the part that has more frames than counted.
        DamagedError: if scaled copies lack a frame.
    """
    counted = manifest.parts.get(benchmark_part(benchmark), {}).get("frames")
    if counted is None:  # by an older version
        return
    videos = original_videos(benchmark, data)
    found = _count(videos)
    if found == counted:
        _check_copies(benchmark, data, found)
        return
    part = f"{benchmark_part(benchmark)} has {found} frames, but {source} counts {counted}"
    if found < counted:
        raise DataError(f"{part}: {_missing_frame(videos)}; restore the data and run again")
    raise DataError(f"{part}: if these frames are meant, delete that file (the data is checked anew) and run again")


def require_frames(videos: Sequence[Video]) -> None:
    """Refuse a video that has a mask without its frame.

    Raises:
        DataError: naming the frame.
    """
    for video in videos:
        lost = _without_frame(video)
        if lost is not None:
            raise DataError(f"{lost} is missing, but its mask is there; restore the data and run again")


def _check_copies(benchmark: BenchmarkParams, data: DataParams, frames: int) -> None:
    if benchmark.fit_px is None:
        return
    sizes = resized_folder(resized_copies(benchmark, data)) / RESIZED_SIZES
    if _count(benchmark_videos(benchmark, data)) != frames:
        raise damaged(sizes, "names scaled copies that lack frames", made_with=sizes)


def _count(videos: Sequence[Video]) -> int:
    return sum(len(video.frames) for video in videos)


def _missing_frame(videos: Sequence[Video]) -> str:
    """The first frame that must have been there: one with a mask; or that may have been, in a gap of the numbers."""
    lost = next((path for video in videos if (path := _without_frame(video)) is not None), None)
    if lost is not None:
        return f"{lost} is missing"
    gap = next((path for video in videos if (path := _in_gap(video)) is not None), None)
    return f"perhaps {gap} is missing" if gap else "the end of a video, or a whole one, is missing"


def _without_frame(video: Video) -> Path | None:
    names = set(frame_names(video.frames))
    lost = next((name for name in video.annotations if name not in names), None)
    return None if lost is None else _sibling(video, lost)


def _in_gap(video: Video) -> Path | None:
    names = frame_names(video.frames)
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(numbers) < max(3, len(names)):
        return None
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    gap = next((place for place, step in enumerate(steps) if step > min(steps)), None)
    if gap is None:
        return None
    return _sibling(video, f"{numbers[gap] + min(steps):0{len(names[gap])}d}")


def _sibling(video: Video, name: str) -> Path:
    first = video.frames[0]
    return first.with_name(name + first.suffix)
