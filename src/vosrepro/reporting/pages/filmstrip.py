"""A strip of frames with the masks of every method on one video, which nobody picked by its looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vosrepro.base.errors import VosreproError
from vosrepro.base.tint import blend
from vosrepro.datasets import Truth, Video, benchmark_truth, benchmark_videos
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.comparisons import primary_row, worst_sequences
from vosrepro.reporting.pages.sheets import shown_frame, shown_mask

FRAMES = 5
_WIDTH_PX = 224
_JPEG_QUALITY = 72


@dataclass(frozen=True)
class StripLine:
    """Tinted frames of one system, or of the truth (without a row), as data URLs."""

    name: str
    row: Row | None
    score: float | None
    tiles: tuple[str, ...]


@dataclass(frozen=True)
class Filmstrip:
    """One video with the masks of several systems; `frames` names the columns."""

    benchmark: str
    sequence: str
    frames: tuple[str, ...]
    lines: tuple[StripLine, ...]


def filmstrip(table: Table) -> Filmstrip | None:
    """The median video of the benchmark that most methods ran on; None if there are no masks or frames to show."""
    best: tuple[str, list[Row]] = ("", [])
    for name, params in table.plan.benchmarks.items():
        rows = [] if params.classifies or params.scoring is None else _shown(table, name)
        best = (name, rows) if len(rows) > len(best[1]) else best
    name, rows = best
    scores = [{s.name: s.headline for s in worst_sequences(table, row)} for row in rows]
    sequence = _median(scores)
    if sequence is None:
        return None
    try:
        return _strip(table, name, sequence, rows, scores)
    except (VosreproError, OSError):  # the pages of the methods say what cannot be read
        return None


def _shown(table: Table, benchmark: str) -> list[Row]:
    found = (primary_row(table, method, benchmark) for method in table.plan.methods)
    return [row for row in found if row and row.entries[0].entry.masks.is_dir() and row.scored]


def _median(scores: Sequence[dict[str, float]]) -> str | None:
    """The sequence in the middle by the mean over the systems."""
    common = [name for name in (scores[0] if scores else {}) if all(name in own for own in scores)]
    ranked = sorted(common, key=lambda name: (sum(own[name] for own in scores), name))
    return ranked[len(ranked) // 2] if ranked else None


def _strip(
    table: Table, benchmark: str, sequence: str, rows: Sequence[Row], scores: Sequence[dict[str, float]]
) -> Filmstrip:
    params, data = table.plan.benchmarks[benchmark], table.plan.study.data
    video = next(v for v in benchmark_videos(params, data) if v.name == sequence)
    truth: Truth | None = benchmark_truth(params, data)
    places = np.linspace(0, len(video.frames) - 1, min(FRAMES, len(video.frames))).round().astype(int)
    paths = [video.frames[i] for i in dict.fromkeys(places.tolist())]
    own = [
        StripLine(row.method, row, score[sequence], _tiles(paths, row.entries[0].entry.masks / sequence, video))
        for row, score in zip(rows, scores, strict=True)
    ]
    own.sort(key=lambda line: (-(line.score or 0.0), line.name))
    right = [StripLine("truth", None, None, _tiles(paths, truth.folder / sequence, video))] if truth else []
    return Filmstrip(benchmark, sequence, tuple(p.stem for p in paths), (*right, *own))


def _tiles(paths: Sequence[Path], masks: Path, video: Video) -> tuple[str, ...]:
    return tuple(_tile(path, masks / f"{path.stem}.png", binary=video.binary) for path in paths)


def _tile(path: Path, mask: Path, *, binary: bool) -> str:
    with Image.open(path) as image:
        size = (_WIDTH_PX, max(1, round(image.height * _WIDTH_PX / image.width)))
    labels = shown_mask(mask if mask.is_file() else None, size, binary=binary)
    buffer = io.BytesIO()
    Image.fromarray(blend(shown_frame(path, size), labels)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
