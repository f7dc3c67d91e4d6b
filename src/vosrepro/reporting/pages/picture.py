"""The picture of all systems on all benchmarks: ours with its interval, the published mark, the verdict's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from vosrepro.reporting.evidence.table import Cell, Row, Table
from vosrepro.reporting.evidence.verdicts import LABELS, VerdictKind
from vosrepro.reporting.pages.comparisons import primary_row
from vosrepro.study.params import BenchmarkParams

WIDTH, HEIGHT = 132, 30
_EDGE, _MIDDLE = 8, 15
#: Path of each verdict's mark around (0, 0): no two verdicts differ by color alone.
SHAPES: dict[VerdictKind, str] = {
    "reproduced": "M0-6.5A6.5 6.5 0 1 1-.01-6.5Z",
    "within-noise": "M0-7.5L7.5 0 0 7.5-7.5 0Z",
    "inconclusive": "M-5.5-5.5h11v11h-11Z",
    "exceeds": "M0-7L7 5.5H-7Z",
    "not-reproduced": "M0 7L7-5.5H-7Z",
    "not-comparable": "M0-5.5A5.5 5.5 0 1 1-.01-5.5Z",
    "waiting": "M-5.5-5.5h11v11h-11Z",
    "not-run": "M-5 0H5",
    "unpublished": "M0-3.5A3.5 3.5 0 1 1-.01-3.5Z",
}


@dataclass(frozen=True)
class Spot:
    """One row of the table as a drawing."""

    row: Row
    svg: Markup


@dataclass(frozen=True)
class SystemLine:
    """A system over the benchmarks; None where the study does not run it."""

    method: str
    detail: str
    spots: tuple[Spot | None, ...]


@dataclass(frozen=True)
class Picture:
    """Lines, the best on the first benchmark first, and which marks they show."""

    benchmarks: tuple[BenchmarkParams, ...]
    lines: tuple[SystemLine, ...]
    kinds: tuple[VerdictKind, ...]


def picture(table: Table, *, every: bool = False) -> Picture:
    """One line for each method, by its marked rows; or one for every recipe and variant."""
    benchmarks = tuple(table.plan.benchmarks.values())
    if every:
        groups: dict[tuple[str, str], dict[str, Row]] = {}
        for row in table.rows:
            groups.setdefault((row.method, _detail(row)), {})[row.benchmark.benchmark] = row
    else:
        groups = {}
        for method in table.plan.methods:
            rows = {b.benchmark: r for b in benchmarks if (r := primary_row(table, method, b.benchmark))}
            groups[method, _detail(next(iter(rows.values())))] = rows
    ordered = sorted(groups.items(), key=lambda item: _rank(benchmarks, item[1]))
    lines = tuple(
        SystemLine(*name, spots=tuple(_spot(rows.get(b.benchmark)) for b in benchmarks)) for name, rows in ordered
    )
    shown = {spot.row.verdict.kind for line in lines for spot in line.spots if spot}
    return Picture(benchmarks, lines, tuple(kind for kind in LABELS if kind in shown))


def mark(kind: VerdictKind, x: float = 0.0, y: float = 0.0) -> Markup:
    """The sign of a verdict in a chart."""
    return Markup(f'<path class="mark {kind}" transform="translate({x:g} {y:g})" d="{SHAPES[kind]}"/>')


def legend(kind: VerdictKind) -> Markup:
    """The sign of a verdict for a legend."""
    return Markup(f'<svg class="sign" viewBox="-9 -9 18 18" aria-hidden="true">{mark(kind)}</svg>')


def _detail(row: Row) -> str:
    return "no weights" if row.entries[0].entry.run.params.weights == "none" else f"{row.recipe} / {row.variant}"


def _rank(benchmarks: Iterable[BenchmarkParams], rows: Mapping[str, Row]) -> tuple[float, ...]:
    """Sorts by the first benchmark, the best first, then by the others; what has no score comes last."""
    means = (row.headline.mean if (row := rows.get(b.benchmark)) else None for b in benchmarks)
    return tuple(1.0 if mean is None else -mean for mean in means)


def _spot(row: Row | None) -> Spot | None:
    return None if row is None else Spot(row, _track(row.headline, row.verdict.kind))


def _track(cell: Cell, kind: VerdictKind) -> Markup:
    parts = [f'<line class="grid" x1="{_x(v)}" x2="{_x(v)}" y1="0" y2="{HEIGHT}"/>' for v in (0, 50, 100)]
    if cell.over_sequences:
        low, high = _x(cell.over_sequences.low), _x(cell.over_sequences.high)
        parts.append(f'<line class="ci" x1="{low}" x2="{high}" y1="{_MIDDLE}" y2="{_MIDDLE}"/>')
    if cell.published:
        at = _x(cell.published.value)
        parts.append(f'<line class="them" x1="{at}" x2="{at}" y1="4" y2="{HEIGHT - 4}"/>')
    if cell.mean is not None:
        parts.append(mark(kind, _x(cell.mean), _MIDDLE))
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


def _x(value: float) -> float:
    return round(_EDGE + min(max(value, 0.0), 100.0) / 100 * (WIDTH - 2 * _EDGE), 1)
