"""Tables of the benchmarks for papers and spreadsheets."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vosrepro.cli import main
from vosrepro.reporting import load_table
from vosrepro.reporting.export import as_latex, as_markdown, latex, sheet
from vosrepro.reporting.pages.formats import points
from vosrepro.study.plan import Plan


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
        assert (exported / f"{benchmark}.tex").read_text().count(r" \\") == len(rows) + 1


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


def test_markdown_and_latex_have_as_many_cells_in_every_line(finished: Plan):
    made = sheet(load_table(finished), "davis17-val")
    bars = {line.count("|") for line in as_markdown(made).splitlines() if line.startswith("|")}
    assert bars == {len(made.header) + 1}
    ampersands = {len(re.findall(r"(?<!\\)&", line)) for line in as_latex(made).splitlines() if line.endswith(r"\\")}
    assert ampersands == {len(made.header) - 1}


def test_latex_takes_the_table(exported: Path, tmp_path: Path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX on this machine")
    source = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{davis16-val}\end{document}"
    (exported / "page.tex").write_text(source)
    subprocess.run(["pdflatex", "-interaction=batchmode", "page.tex"], cwd=exported, check=True)
