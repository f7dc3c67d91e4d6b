"""Tables of the benchmarks for papers and spreadsheets."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vosrepro.cli import main
from vosrepro.reporting import load_table
from vosrepro.reporting.export import sheet
from vosrepro.reporting.forms import Sheet, as_latex, as_markdown, latex
from vosrepro.reporting.pages.formats import points
from vosrepro.study.plan import Plan, load_plan

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def exported(finished: Plan, tmp_path: Path) -> Path:
    assert main(["report", "--study", "params/studies/tiny.yaml", "--tables", str(tmp_path)]) == 0
    return tmp_path


def test_every_benchmark_has_its_rows_in_three_forms(finished: Plan, exported: Path):
    table = load_table(finished)
    for benchmark in finished.benchmarks:
        lines = (exported / f"{benchmark}.csv").read_text().splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        assert [(r["method"], r["recipe"], r["variant"], r["J&F"]) for r in rows] == [
            (row.method, row.recipe, row.variant, points(row.headline.mean)) for row in table.on(benchmark)
        ]
        markdown = (exported / f"{benchmark}.md").read_text()
        assert len(re.findall(r"^\|", markdown, re.M)) == len(rows) + 2
        lines = (exported / f"{benchmark}.tex").read_text().splitlines()
        named = [line.split(" & ")[:2] for line in lines if line.endswith(r"\\") and r"\allowbreak" in line]
        half = len(rows)  # scores first, then the further measures
        assert [name for name, _ in named[:half]] == [name for name, _ in named[half:]]
        assert [score for _, score in named[:half]] == [latex(row["J&F"]) for row in rows]


def test_deviations_are_footnotes_of_every_form(finished: Plan, exported: Path):
    texts = [d.text for d in load_table(finished).deviations if d.scope == "study"]
    assert len(texts) > 1
    for number, text in enumerate(texts, 1):
        assert f"# {number}: {text}" in (exported / "davis16-val.csv").read_text()
        assert f"{number}. {text}" in (exported / "davis16-val.md").read_text()
        assert latex(text) in (exported / "davis16-val.tex").read_text()


def test_a_row_names_the_notes_that_are_its_own(finished: Plan):
    table = load_table(finished)
    made = sheet(table, "davis16-val")
    for row, cells in zip(table.on("davis16-val"), made.rows, strict=True):
        numbers = [int(number) for number in re.findall(r"\d+", cells[-1])]
        assert [made.notes[number - 1] for number in numbers] == [d.text for d in row.deviations]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("J&F", r"J\&F"), ("95 %", r"95 \%"), ("a_b", r"a\_b"), ("−1.0", "$-$1.0"), ("\\", r"\textbackslash{}")],
)
def test_special_signs_are_escaped_for_latex(text, expected):
    assert latex(text) == expected


def test_markdown_and_latex_have_as_many_cells_in_every_line_of_a_table(finished: Plan):
    made = sheet(load_table(finished), "davis17-val")
    bars = {line.count("|") for line in as_markdown(made).splitlines() if line.startswith("|")}
    assert bars == {len(made.header) + 1}
    scores, measures = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", as_latex(made), re.S)
    for text, columns in ((scores, 8), (measures, len(made.header) - 9)):
        lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}


def test_latex_takes_the_tables(exported: Path):
    assert _complaints(exported, "10pt", sorted(path.stem for path in exported.glob("*.tex"))) == []


@pytest.mark.parametrize("options", ["10pt", "11pt", "12pt", "10pt,twocolumn"])
def test_tables_of_all_studies_fit_on_a_page_whatever_comes_out(tmp_path: Path, options: str):
    names = []
    for path in sorted((REPOSITORY / "params/studies").glob("*.yaml")):
        table = load_table(load_plan(str(path)))
        for benchmark in table.plan.benchmarks:
            names.append(f"{path.stem}-{benchmark}")
            (tmp_path / f"{names[-1]}.tex").write_text(as_latex(_widest(sheet(table, benchmark))))
    assert len(names) > 20
    assert _complaints(tmp_path, options, names) == []


def _widest(made: Sheet) -> Sheet:
    """The table with the widest cells that its columns can hold."""
    widest = {"95 % interval": "100.0 to 100.0", "Δ": "−100.0", "seeds": "10", "verdict": "waiting for the server"}
    widest |= {"notes": "1, 3, 5, 7–11, 13, 15–18"}
    rows = (tuple(widest.get(name, "−100.0") for name in made.header[3:]) for _ in made.rows)
    return replace(made, rows=tuple(before[:3] + cells for before, cells in zip(made.rows, rows, strict=True)))


def _complaints(folder: Path, options: str, names: list[str]) -> list[str]:
    """What LaTeX says of a page with tables: errors, and what is wider than its place by a point or higher than it."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX on this machine")
    inputs = "".join(rf"\input{{{name}}}\clearpage" + "\n" for name in names)
    preamble = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs,array}}\hfuzz=1pt"
    (folder / "page.tex").write_text(preamble + "\n\\begin{document}\n" + inputs + "\\end{document}\n")
    for _ in range(2):  # the second finds the labels
        call = ["pdflatex", "-interaction=batchmode", "page.tex"]
        subprocess.run(call, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    log = (folder / "page.log").read_text(encoding="latin-1")
    return re.findall(r"^(?:!|Overfull|Missing character|LaTeX Warning).*", log, re.M)
