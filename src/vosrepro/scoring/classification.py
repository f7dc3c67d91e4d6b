"""Accuracy of a classifier over single images: counts as integers, an interval, and their files.

A predictions file is CSV: an image a line with its name and its most likely classes by name, the best first,
each with its probability. An image that could not be decoded has no class and is wrong.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vosrepro.base.errors import DataError, ProtocolError
from vosrepro.base.predictions import BACKGROUND, COLUMNS, PLACES
from vosrepro.scoring.statistics import Interval
from vosrepro.study.paths import ENTRY_SCORE, ENTRY_TABLE

if TYPE_CHECKING:
    from vosrepro.datasets.sets.imagenet import LabeledImage

PROTOCOL = "imagenet"
METRICS = ("Top1", "Top5")
#: Label that no prediction has, and prediction that no label has.
UNKNOWN, NONE = -2, -1


class Hits(NamedTuple):
    """How many images are right by the first and by one of the first five classes, of how many."""

    top1: int
    top5: int
    images: int


def count_hits(best: np.ndarray, labels: np.ndarray) -> Hits:
    """Count the right images.

    Args:
        best: int (N, k), classes from 0, the best first; the first five count.
        labels: int (N); `UNKNOWN` is never right.
    """
    right = best[:, :PLACES] == labels[:, None]
    return Hits(int(right[:, 0].sum()), int(right.any(axis=1).sum()), len(labels))


def wilson(hits: float, count: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a binomial share, in 0..1.

    Args:
        hits: how many of `count` are right; a mean over trainings need not be whole.
        count: independent images.
        level: confidence in 0..1.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, square = hits / count, z * z / count
    center = (share + square / 2) / (1 + square)
    reach = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return Interval(max(0.0, center - reach), min(1.0, center + reach), level)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over all images of a benchmark.

    Attributes:
        classes: names, in the order that labels count.
        labels: int (N).
        best: int (N, 5); `NONE` where there is no class of the data.
        undecodable: names of images without a class, which are wrong.
    """

    classes: Sequence[str]
    labels: np.ndarray
    best: np.ndarray
    undecodable: tuple[str, ...]

    @cached_property
    def hits(self) -> Hits:
        """Over all images."""
        return count_hits(self.best, self.labels)

    @property
    def global_(self) -> dict[str, float]:
        """Shares in 0..1 of `METRICS`."""
        hits = self.hits
        return dict(zip(METRICS, (hits.top1 / hits.images, hits.top5 / hits.images), strict=True))

    def by_class(self) -> list[tuple[str, int, float, float]]:
        """Class, images, Top1 and Top5 of every class that has images."""
        rows = []
        for label, name in enumerate(self.classes):
            own = self.labels == label
            if own.any():
                hits = count_hits(self.best[own], self.labels[own])
                rows.append((name, hits.images, hits.top1 / hits.images, hits.top5 / hits.images))
        return rows

    def summary(self) -> dict[str, Any]:
        """What score.json holds."""
        shown = ", ".join(self.undecodable[:3]) + (", ..." if len(self.undecodable) > 3 else "")
        broken = f"{len(self.undecodable)} image(s) cannot be decoded and count as wrong ({shown})"
        return {
            "protocol": PROTOCOL,
            "global": self.global_,
            "hits": dict(zip(METRICS, self.hits[:2], strict=True)),
            "images": self.hits.images,
            "classes": len(self.by_class()),
            "warnings": [broken] if self.undecodable else [],
        }

    def write(self, folder: Path | str, *, extra: Mapping[str, Any] | None = None) -> None:
        """Write scores.csv (a class a line) and score.json (last).

        Args:
            folder: created if need be.
            extra: further keys of score.json, such as provenance.
        """
        from vosrepro.base.files import write_text
        from vosrepro.study.records import ScoreRecord

        folder = Path(folder)
        lines = ["class,images,Top1,Top5", *(",".join(map(str, row)) for row in self.by_class())]
        write_text(folder / ENTRY_TABLE, "\n".join(lines) + "\n")
        ScoreRecord.model_validate(self.summary() | dict(extra or {})).write(folder / ENTRY_SCORE)


def score_predictions(path: Path, images: Sequence[LabeledImage], classes: Sequence[str]) -> Accuracy:
    """Compare a predictions file with the labels of exactly these images.

    Args:
        path: the predictions.
        images: every image of the benchmark, with its label.
        classes: names of the labels.

    Raises:
        DataError: if the file is missing or no predictions file.
        ProtocolError: if it lacks, repeats or adds an image, or names an unknown class.
    """
    numbers = {name: i for i, name in enumerate(classes)} | {BACKGROUND: NONE, "": NONE}
    found: dict[str, list[int]] = {}
    undecodable = []
    for line, row in _rows(path):
        name, named = row[0], row[1::2]
        where = f"{path}, line {line}: image '{name}'"
        if name in found:
            raise ProtocolError(f"{where} is predicted twice: keep one line for each image")
        unknown = next((c for c in named if c not in numbers), None)
        if unknown is not None:
            raise ProtocolError(
                f"{where} has the class '{unknown}', which is none of the {len(classes)} of the data: run "
                "inference again on this data"
            )
        given = [c for c in named if c]
        if len(set(given)) < len(given):
            raise ProtocolError(f"{where} names a class twice: give five different classes")
        if not given:
            undecodable.append(name)
        found[name] = [numbers[c] for c in named]
    _check_images(path, found, images)
    best = np.array([found[image.name] for image in images], np.int64)
    labels = np.array([image.label for image in images], np.int64)
    return Accuracy(tuple(classes), labels, best, tuple(undecodable))


def _check_images(path: Path, found: Mapping[str, Any], images: Sequence[LabeledImage]) -> None:
    wanted = {image.name for image in images}
    missing = [image.name for image in images if image.name not in found]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ProtocolError(
            f"{path} lacks {len(missing)} of {len(images)} images ({shown}): predict every image of the benchmark"
        )
    extra = next((name for name in found if name not in wanted), None)
    if extra is not None:
        raise ProtocolError(f"{path} predicts '{extra}', which is no image of the benchmark: predict its images only")


def _rows(path: Path):
    """Line number and fields of each line but the header."""
    try:
        file = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): run inference first") from error
    with file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            raise DataError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}")
        for row in reader:
            if len(row) != len(COLUMNS):
                raise DataError(
                    f"{path}, line {reader.line_num}: a line has {len(COLUMNS)} fields, not {len(row)}: "
                    "delete the file and run inference again"
                )
            yield reader.line_num, row
