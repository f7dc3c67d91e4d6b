"""The table of each benchmark as CSV, Markdown and LaTeX (booktabs), with the deviations as its footnotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vosrepro.base.files import write_text
from vosrepro.reporting.evidence.table import Row, Table, metrics_of
from vosrepro.reporting.forms import Sheet, as_csv, as_latex, as_markdown
from vosrepro.reporting.pages.formats import metric_heading, points, rate, signed


def export(table: Table, folder: Path) -> list[Path]:
    """Write <benchmark>.csv, .md and .tex for every benchmark of a study."""
    written = []
    for benchmark in table.plan.benchmarks:
        made = sheet(table, benchmark)
        for ending, text in ((".csv", as_csv), (".md", as_markdown), (".tex", as_latex)):
            path = folder / f"{benchmark}{ending}"
            write_text(path, text(made))
            written.append(path)
    return written


def sheet(table: Table, benchmark: str) -> Sheet:
    """The rows of one benchmark; deviations of the whole study are notes of the table, others of their rows."""
    params = table.plan.benchmarks[benchmark]
    first, *others = metrics_of(params)
    header = ("method", "recipe", "variant", metric_heading(first), "95 % interval", "published", "Δ")
    speed = "images/s" if params.classifies else "FPS"
    header += (*(metric_heading(name) for name in others), speed, "seeds", "verdict", "notes")
    of_study = [d.text for d in table.deviations if d.scope == "study"]
    notes = list(dict.fromkeys([*of_study, *(d.text for row in table.on(benchmark) for d in row.deviations)]))
    rows = tuple(_cells(row, others, [notes.index(d.text) + 1 for d in row.deviations]) for row in table.on(benchmark))
    study = table.plan.study.study
    return Sheet(f"{study}:{benchmark}", f"{params.title}, study {study}", header, rows, tuple(notes))


def _cells(row: Row, others: Sequence[str], notes: Sequence[int]) -> tuple[str, ...]:
    main = row.headline
    reach = main.over_sequences
    shown: Callable[[float | None], str] = points
    return (
        row.method,
        row.recipe,
        row.variant,
        shown(main.mean),
        f"{shown(reach.low)} to {shown(reach.high)}" if reach else "–",
        shown(main.published.value if main.published else None),
        signed(main.difference),
        *(shown(row.cells[name].mean) for name in others),
        rate(row.cells["FPS"].mean),
        str(len(main.seeds)),
        row.verdict.label,
        _ranges(notes),
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, three or more in a row as first and last: "2, 5-8"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
