"""What the frame viewer of a method's page shows: videos, masks of several systems, J over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosrepro.base.errors import VosreproError
from vosrepro.datasets import Truth, Video, benchmark_truth, benchmark_videos
from vosrepro.reporting.evidence.evidence import EntryEvidence
from vosrepro.reporting.evidence.frames import read_frames
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.comparisons import primary_row, worst_sequences
from vosrepro.reporting.pages.sheets import Sheets, rows_per_sheet, shown_size
from vosrepro.study.params import BenchmarkParams

#: Aim for the frames of one page, in bytes of base64; long videos are shown with gaps to keep it.
PAGE_BUDGET_BYTES = 2_000_000
_BYTES_PER_PIXEL = 0.19  # of base64, typical for the sheets' JPEG quality
_WORST_FRAMES = 3
_MOST_SYSTEMS = 12


@dataclass(frozen=True)
class Viewer:
    """The viewer of one page.

    Attributes:
        data: what templates/viewer.js reads; see `_sequence`.
        notes: sentences on what could not be shown.
    """

    data: dict[str, Any]
    notes: tuple[str, ...]


class ViewerMaker:
    """Builds the viewers of all pages of a study, sharing videos, sheets and per-frame scores."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._sheets = Sheets()
        self._videos: dict[str, tuple[dict[str, Video], Truth | None]] = {}
        self._series: dict[Path, dict[str, dict[str, float]]] = {}
        self._broken: dict[Path, str] = {}

    def make(self, method: str) -> Viewer | None:
        """The viewer of a method's page; None if the study wants none or nothing was run."""
        count = self._table.plan.study.viewer_sequences
        names = [b for b in self._table.plan.benchmarks if self._main(method, b) is not None]
        if not count or not names:
            return None
        notes: list[str] = []
        benchmarks = []
        share = PAGE_BUDGET_BYTES // (len(names) * count)
        for name in names:
            try:
                benchmarks.append(self._benchmark(method, name, count, share))
            except (VosreproError, OSError) as error:
                notes.append(f"{self._table.plan.benchmarks[name].title}: {error}")
        notes += [text for folder, text in self._broken.items() if f"/{method}/" in str(folder)]
        benchmarks = [b for b in benchmarks if b["sequences"]]
        if not benchmarks:
            return Viewer({}, tuple(notes)) if notes else None
        used = {k for b in benchmarks for s in b["sequences"] for k in _keys(s)}
        assets = {k: v for k, v in self._sheets.assets.items() if k in used}
        return Viewer({"benchmarks": benchmarks, "assets": assets}, tuple(notes))

    def _main(self, method: str, benchmark: str) -> Row | None:
        row = primary_row(self._table, method, benchmark)
        return row if row and _folder(row).is_dir() else None

    def _benchmark(self, method: str, name: str, count: int, budget: int) -> dict[str, Any]:
        main = self._main(method, name)
        assert main is not None
        params = self._table.plan.benchmarks[name]
        videos, truth = self._data(params)
        systems = self._systems(method, name, main)
        scores = {s.name: s.headline for s in worst_sequences(self._table, main)}
        chosen = choose([s for s in scores if s in videos] or list(videos), count)
        return {
            "id": name,
            "title": params.title,
            "systems": [{"name": r.name, "own": r.method == method} for r in systems],
            "sequences": [self._sequence(videos[s], truth, systems, scores.get(s), budget) for s in chosen],
        }

    def _data(self, params: BenchmarkParams) -> tuple[dict[str, Video], Truth | None]:
        if params.benchmark not in self._videos:
            data = self._table.plan.study.data
            videos = {v.name: v for v in benchmark_videos(params, data)}
            truth = benchmark_truth(params, data) if params.scoring else None
            self._videos[params.benchmark] = (videos, truth)
        return self._videos[params.benchmark]

    def _systems(self, method: str, benchmark: str, main: Row) -> list[Row]:
        """The page's own rows, its primary one first, then the primary rows of the other methods."""
        own = [r for r in self._table.on(benchmark) if r.method == method and r is not main]
        others = [self._main(m, benchmark) for m in self._table.plan.methods if m != method]
        rows = [main, *own[::-1][: _MOST_SYSTEMS - 1], *(r for r in others if r)]
        return [r for r in rows if _folder(r).is_dir()]

    def _sequence(
        self,
        video: Video,
        truth: Truth | None,
        systems: Sequence[Row],
        score: float | None,
        budget: int,
    ) -> dict[str, Any]:
        """One video: tiles of frames, truth and masks are in the same order in their sheets."""
        size = shown_size(video.frames[0])
        series = [self._per_frame(row, video.name) for row in systems]
        worst = sorted(series[0], key=lambda f: (series[0][f], f))[:_WORST_FRAMES]
        most = max(8, int(budget / (size[0] * size[1] * _BYTES_PER_PIXEL)))
        paths = thin_out(video.frames, most, keep=worst)
        names = [p.stem for p in paths]
        masks = {row.name: self._sheets.masks(_existing(_folder(row) / video.name, names), size) for row in systems}
        labels = _existing(truth.folder / video.name, names) if truth else [None] * len(names)
        return {
            "name": video.name,
            "score": None if score is None else round(score, 1),
            "size": size,
            "perSheet": rows_per_sheet(size[1]),
            "total": len(video.frames),
            "frames": names,
            "images": self._sheets.frames(paths, size),
            "truth": self._sheets.masks(labels, size, binary=video.binary),
            "known": [int(p is not None) for p in labels],
            "masks": masks,
            "j": {
                row.name: [None if (v := s.get(n)) is None else round(v, 3) for n in names]
                for row, s in zip(systems, series, strict=True)
            },
            "worst": sorted(names.index(f) for f in worst),
        }

    def _per_frame(self, row: Row, sequence: str) -> dict[str, float]:
        """J (mean over objects) of every scored frame of a sequence."""
        item = _shown(row)
        folder = item.entry.folder
        if folder not in self._series:
            try:
                self._series[folder] = {
                    name: {frame: region for frame, (region, _) in frames.items()}
                    for name, frames in read_frames(folder).items()
                }
            except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
                reason = " ".join(str(error).split())
                self._broken[folder] = f"{folder}/counts.parquet cannot be read ({reason}): score again"
                self._series[folder] = {}
        return self._series[folder].get(sequence, {})


def choose(worst_first: Sequence[str], count: int) -> list[str]:
    """The worst sequences and, as the last, the median one."""
    if len(worst_first) <= count:
        return list(worst_first)
    median = worst_first[len(worst_first) // 2]
    worst = [name for name in worst_first if name != median][: count - 1]
    return [*worst, median]


def thin_out(paths: Sequence[Path], most: int, *, keep: Sequence[str]) -> list[Path]:
    """Every k-th path so that about `most` remain, and those whose stems must be kept."""
    stride = -(-len(paths) // most)
    return [p for i, p in enumerate(paths) if i % stride == 0 or p.stem in keep]


def _shown(row: Row) -> EntryEvidence:
    return row.entries[0]


def _folder(row: Row) -> Path:
    return _shown(row).entry.masks


def _existing(folder: Path, names: Sequence[str]) -> list[Path | None]:
    there = {p.stem for p in folder.glob("*.png")}
    return [folder / f"{n}.png" if n in there else None for n in names]


def _keys(sequence: dict[str, Any]) -> set[str]:
    found = {*sequence["images"], *sequence["truth"]}
    return found.union(*sequence["masks"].values())
