"""The compact table of a method's recipes and variants: headline scores and differences to one row."""

from __future__ import annotations

from dataclasses import dataclass

from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.comparisons import primary_row
from vosrepro.study.params import BenchmarkParams


@dataclass(frozen=True)
class AblationCell:
    """Mean over seeds, and its difference to the marked row on the same benchmark, in points."""

    mean: float | None
    delta: float | None


@dataclass(frozen=True)
class AblationLine:
    """One recipe / variant; a cell is None where the study has no such entry."""

    recipe: str
    variant: str
    title: str
    primary: bool
    cells: tuple[AblationCell | None, ...]
    train_seconds: float | None


@dataclass(frozen=True)
class Ablation:
    """Lines over the benchmarks of a method."""

    benchmarks: tuple[BenchmarkParams, ...]
    lines: tuple[AblationLine, ...]


def ablation_table(table: Table, method: str) -> Ablation:
    """Recipes × variants of a method over its benchmarks."""
    rows = table.of(method)
    benchmarks = tuple(b for name, b in table.plan.benchmarks.items() if any(r.benchmark is b for r in rows))
    first = primary_row(table, method, benchmarks[0].benchmark) if benchmarks else None
    marked = (first.recipe, first.variant) if first else ("", "")
    lines = []
    for recipe, variant in dict.fromkeys((r.recipe, r.variant) for r in rows):
        cells = []
        own = [r for r in rows if (r.recipe, r.variant) == (recipe, variant)]
        for benchmark in benchmarks:
            row = next((r for r in own if r.benchmark is benchmark), None)
            reference = table.by_name.get((method, marked[0], marked[1], benchmark.benchmark))
            cells.append(_cell(row, reference))
        is_main = marked == (recipe, variant)
        title = own[0].entries[0].entry.run.params.title
        seconds = own[0].cost.train_seconds
        lines.append(AblationLine(recipe, variant, title, is_main, tuple(cells), seconds))
    return Ablation(benchmarks, tuple(lines))


def _cell(row: Row | None, main: Row | None) -> AblationCell | None:
    if row is None:
        return None
    ours, reference = row.headline.mean, main.headline.mean if main else None
    delta = None if ours is None or reference is None else ours - reference
    return AblationCell(ours, delta)
