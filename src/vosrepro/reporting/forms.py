"""A table as CSV, as Markdown and for LaTeX.

In LaTeX, the scores and what was published of them are one table, all further measures another. Names, verdicts and
notes wrap, in shares of the line, and long tables come in parts, so that what is in them fits on a page of `article`:
into one column of 10, 11 or 12 points, and across two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil

from vosrepro.base.files import csv_text

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_SPECIAL |= {"−": "$-$", "±": r"$\pm$", "≠": r"$\neq$", "≥": r"$\geq$", "Δ": r"$\Delta$", "–": "--"}
_UNPUBLISHED = "nothing published"
#: Lines of one float without its caption and heading, so that it is lower than a page of 12 points.
_LINES = 36
#: Letters that one line of a name, a verdict and the numbers of notes holds at least.
_LETTERS = (14, 13, 5)


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written: cells are text, notes are numbered in the rows' last column.

    The columns are method, recipe, variant, headline score, interval, published, difference; further measures; seeds,
    verdict, notes.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """A heading and the place of its cells; where it wraps, the share of the line that it takes."""

    heading: str
    place: int
    share: float = 0.0

    @property
    def layout(self) -> str:
        return rf">{{\raggedright\arraybackslash}}p{{{self.share}\linewidth}}" if self.share else "r"


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
    """Floats for booktabs, in the order of the rows, and a paragraph of notes after them."""
    last = len(made.header)
    scores = [_Column(heading, place) for place, heading in enumerate(made.header[3:7], 3)]
    scores += [_Column("seeds", last - 3), _Column("verdict", last - 2, 0.17), _Column("notes", last - 1, 0.08)]
    measures = [_Column(heading, place) for place, heading in enumerate(made.header[7:-3], 7)]
    lines = [r"% needs \usepackage{booktabs,array}"]
    for kind, columns, share in (("", scores, 0.21), (", further measures", measures, 0.28)):
        parts = _parts(made.rows, wrapped=columns is scores)
        for number, rows in enumerate(parts, 1):
            counted = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
            label = "" if kind or number > 1 else rf"\label{{tab:{made.name}}}"
            caption = rf"\caption{{{latex(made.title + kind + counted)}{label}}}"
            lines += _float(rows, columns, share, caption)
    return "\n".join([*lines, *_notes(made), ""])


def latex(text: str) -> str:
    """Text with LaTeX's special signs escaped."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def _parts(rows: Sequence[tuple[str, ...]], *, wrapped: bool) -> list[list[tuple[str, ...]]]:
    """Rows in parts of about equal height, none higher than a page; methods have a line of their own."""
    heights = [_lines(row) if wrapped else 1 for row in rows]
    lines = sum(heights) + len(list(groupby(rows, key=lambda row: row[0])))
    limit = min(lines / (ceil(lines / (_LINES - 3)) or 1) + 3, _LINES)
    parts: list[list[tuple[str, ...]]] = [[]]
    height = 0
    for row, own in zip(rows, heights, strict=True):
        if parts[-1] and height + own > limit:
            parts.append([])
            height = 0
        height += own + (not parts[-1] or parts[-1][-1][0] != row[0])
        parts[-1].append(row)
    return parts


def _lines(row: tuple[str, ...]) -> int:
    texts = (row[1] + row[2], row[-2].replace(_UNPUBLISHED, ""), row[-1])
    return max(1, *(ceil(len(text) / letters) for text, letters in zip(texts, _LETTERS, strict=True)))


def _float(rows: Sequence[tuple[str, ...]], columns: list[_Column], share: float, caption: str) -> Iterator[str]:
    names = _Column("recipe / variant", 0, share)
    yield from (r"\begin{table*}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}", caption)
    yield rf"\begin{{tabular}}{{@{{}}{''.join(c.layout for c in (names, *columns))}@{{}}}}"
    yield r"\toprule"
    yield _line([latex(names.heading), *map(_heading, columns)])
    yield r"\midrule"
    for number, (method, group) in enumerate(groupby(rows, key=lambda row: row[0])):
        rule = r"\addlinespace " if number else ""
        yield rule + rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l}}{{\textbf{{{latex(method)}}}}} \\"
        for row in group:
            name = rf"{latex(row[1])} /\allowbreak{{}} {latex(row[2])}"
            yield _line([name, *(_cell(row[column.place]) for column in columns)])
    yield from (r"\bottomrule", r"\end{tabular}", r"\end{table*}")


def _heading(column: _Column) -> str:
    """A heading of several words has one below the other; what wraps does so by itself."""
    words = latex(column.heading.replace("published", "paper").replace("95 %", "95%")).split(" ")
    return words[0] if len(words) == 1 else r"\shortstack[r]{" + r"\\".join(words) + "}"


def _cell(text: str) -> str:
    """A cell; no verdict where nothing is published says no more than the dash beside it."""
    return latex("–" if text == _UNPUBLISHED else text.replace(" to ", "–"))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _notes(made: Sheet) -> Iterator[str]:
    """Not part of a float: there may be more of them than fit on a page."""
    if made.notes:
        yield rf"\begingroup\footnotesize\raggedright\noindent Notes to Table~\ref{{tab:{made.name}}}:"
        yield from (rf"\par\noindent {number}: {latex(text)}" for number, text in enumerate(made.notes, 1))
        yield r"\par\endgroup"
