"""Published values of single frames beside ours: they say of masks that their authors published whether we score alike.

They need no benchmark to be complete: a part of its sequences is compared frame by frame, and the mean over that
part with the mean of what was published of the same frames, never with the number of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vosrepro.reporting.evidence.evidence import EntryEvidence
from vosrepro.scoring.counting.counting import COUNTS
from vosrepro.scoring.measures import contour_accuracy, region_similarity
from vosrepro.study.published import Key, Published, PublishedFrames

#: What is left of binary fractions when a value lies just on the border of its rounding.
_LAST_BITS = 1e-9
_MEANS = ("J&F-Mean", "J-Mean", "F-Mean")


@dataclass(frozen=True)
class FrameCheck:
    """All published values of single frames against ours.

    Attributes:
        values: how many were compared, J and F each.
        sequences: of so many sequences.
        beyond: how many differ by more than the rounding of the published one.
        worst: the largest difference, in points.
        where: sequence, frame and measure of it.
        rounding: half a unit of the last published digit.
        unlike: sequences with another number of scored frames than published.
    """

    values: int
    sequences: int
    beyond: int
    worst: float
    where: str
    rounding: float
    unlike: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every value comes back up to its rounding."""
        return self.values > 0 and not self.beyond and not self.unlike

    @property
    def sentence(self) -> str:
        """What was compared and found, for a reader."""
        if self.unlike:
            return f"{', '.join(self.unlike[:3])} have other scored frames than were published"
        if not self.values:
            return "no published value of a single frame could be compared"
        found = "all" if not self.beyond else f"{self.values - self.beyond}"
        return (
            f"of {self.values} published values of single frames ({self.sequences} sequences, J and F) {found} lie "
            f"within their rounding of ±{self.rounding:g} points; the largest difference "
            f"is {self.worst:.3f} ({self.where})"
        )


def read_frames(folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """J and F (0..1) of every scored frame by sequence and frame, means over objects; empty without counts.

    Raises:
        ValueError: if the counts cannot be read.
    """
    path = folder / "counts.parquet"
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    columns = pq.read_table(path, columns=["sequence", "frame", *COUNTS])
    counts = np.stack([columns[name].to_numpy() for name in COUNTS], axis=1)
    values = zip(region_similarity(counts).tolist(), contour_accuracy(counts).tolist(), strict=True)
    names = zip(columns["sequence"].to_pylist(), columns["frame"].to_pylist(), strict=True)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (sequence, frame), value in zip(names, values, strict=True):
        found.setdefault(sequence, {}).setdefault(str(frame), []).append(value)
    return {
        sequence: {frame: _means(objects) for frame, objects in frames.items()} for sequence, frames in found.items()
    }


def check_published_frames(item: EntryEvidence, published: PublishedFrames) -> FrameCheck:
    """Compare every scored frame of an entry with what was published of it."""
    ours = read_frames(item.entry.folder)
    shared = [name for name in ours if name in published.scores]
    unlike = tuple(name for name in shared if len(ours[name]) != len(published.scores[name][0]))
    differences = {
        f"{name}, frame {frame}, {measure}": abs(100 * value - theirs)
        for name in shared
        if name not in unlike
        for place, (frame, values) in enumerate(sorted(ours[name].items()))
        for measure, value, theirs in zip("JF", values, (of[place] for of in published.scores[name]), strict=True)
    }
    where = max(differences, key=lambda key: differences[key], default="")
    beyond = sum(value > published.rounding + _LAST_BITS for value in differences.values())
    worst = differences.get(where, 0.0)
    return FrameCheck(len(differences), len(shared), beyond, worst, where, published.rounding, unlike)


def means_over(item: EntryEvidence, published: PublishedFrames) -> dict[str, Published]:
    """By metric, the mean of what was published of the sequences that an entry has; empty if one of them lacks."""
    names = list(dict.fromkeys(scored.sequence for scored in item.objects))
    if not names or any(name not in published.scores for name in names):
        return {}
    region, contour = (
        sum(sum(published.scores[name][of]) / len(published.scores[name][of]) for name in names) / len(names)
        for of in (0, 1)
    )
    source = f"{published.source}: mean over {len(names)} sequences"
    values = zip(_MEANS, ((region + contour) / 2, region, contour), strict=True)
    return {metric: _number(item, metric, value, source) for metric, value in values}


def with_mean_of_both(item: EntryEvidence, papers: Mapping[str, Published]) -> dict[str, Published]:
    """Published numbers, and J&F where only its two parts are printed: it is off by no more than they are."""
    parts = [papers.get(metric) for metric in _MEANS[1:]]
    region, contour = parts
    if _MEANS[0] in papers or region is None or contour is None:
        return dict(papers)
    mean = _number(item, _MEANS[0], (region.value + contour.value) / 2, f"{region.source}: mean of its J and F")
    return {_MEANS[0]: mean, **papers}


def _number(item: EntryEvidence, metric: str, value: float, source: str) -> Published:
    key = Key(*item.entry.published_name, metric)
    return Published(key, value, decimals=1, source=source, evidence="site", note="")


def _means(objects: list[tuple[float, float]]) -> tuple[float, float]:
    region, contour = zip(*objects, strict=True)
    return sum(region) / len(region), sum(contour) / len(contour)
