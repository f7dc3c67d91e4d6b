"""The table of each benchmark as CSV, Markdown and LaTeX (booktabs), with the deviations as its footnotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vosrepro.base.files import csv_text, write_text
from vosrepro.reporting.evidence.table import Row, Table, metrics_of
from vosrepro.reporting.pages.formats import metric_name, points, rate, signed

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_SPECIAL |= {"−": "$-$", "±": r"$\pm$", "≠": r"$\neq$", "≥": r"$\geq$", "Δ": r"$\Delta$", "–": "--"}


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written: cells are text, notes are numbered in the rows' last column."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


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
    header = ("method", "recipe", "variant", metric_name(first), "95 % interval", "published", "Δ")
    speed = "images/s" if params.classifies else "FPS"
    header += (*(metric_name(name) for name in others), speed, "seeds", "verdict", "notes")
    of_study = [d.text for d in table.deviations if d.scope == "study"]
    notes = list(dict.fromkeys([*of_study, *(d.text for row in table.on(benchmark) for d in row.deviations)]))
    rows = tuple(_cells(row, others, [notes.index(d.text) + 1 for d in row.deviations]) for row in table.on(benchmark))
    return Sheet(f"{params.title}, study {table.plan.study.study}", header, rows, tuple(notes))


def as_csv(made: Sheet) -> str:
    """Cells with commas between them, the notes as comments at the end."""
    notes = [f"# {number}: {text}\n" for number, text in enumerate(made.notes, 1)]
    return csv_text([made.header, *made.rows]) + "".join(notes)


def as_markdown(made: Sheet) -> str:
    """A table with numbers to the right, the notes as a list."""
    rules = ["---" if place < 3 else "---:" for place in range(len(made.header))]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (made.header, rules, *made.rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    notes = [f"{number}. {text}" for number, text in enumerate(made.notes, 1)]
    return "\n".join([f"**{made.title}**", "", *lines, "", *notes, ""])


def as_latex(made: Sheet) -> str:
    """A `table*` for booktabs, in the order of the rows, the notes below it."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(latex, cells)) + r" \\"

    notes = [rf"\par\footnotesize {number}: {latex(text)}" for number, text in enumerate(made.notes, 1)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{latex(made.title)}}}",
            rf"\begin{{tabular}}{{lll{'r' * (len(made.header) - 3)}}}",
            r"\toprule",
            line(made.header),
            r"\midrule",
            *map(line, made.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table*}",
            "",
        ]
    )


def latex(text: str) -> str:
    """Text with LaTeX's special signs escaped."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


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
        ", ".join(map(str, notes)),
    )
