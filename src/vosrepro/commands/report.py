"""Render the report of a study from the files that its jobs left behind."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.study.paths import REPORTS

if TYPE_CHECKING:
    from vosrepro.study.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study and where the pages go."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    parser.add_argument(
        "--out", type=TargetPath, default=str(REPORTS), help="folder of the pages (default: %(default)s)"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="write partial.html instead of all.html: a look while the workflow runs",
    )
    parser.add_argument(
        "--only",
        choices=("pages", "outlets"),
        help="write only the HTML pages, or only metrics.json and plots/*.csv (default: both)",
    )
    parser.add_argument(
        "--record", action="store_true", help="also give verdicts and pages to MLflow, where the study was mirrored to"
    )
    parser.add_argument(
        "--write-expected",
        type=TargetPath,
        metavar="CSV",
        help="also write this study's results as reference results (params/expected/<study>.csv)",
    )
    parser.add_argument(
        "--figures",
        type=TargetPath,
        metavar="DIR",
        help="write only the figures of a paper (PDF and PNG) there, from the study's files, and give them to MLflow",
    )
    parser.add_argument(
        "--tables",
        type=TargetPath,
        metavar="DIR",
        help="write only the tables of the benchmarks there: CSV, Markdown and LaTeX, with deviations as footnotes",
    )


def run(args: argparse.Namespace) -> int:
    """Render, then say where the first page lies."""
    from vosrepro.base.files import csv_text, write_text
    from vosrepro.reporting import load_table, render_pages
    from vosrepro.reporting.evidence.expected import expected_rows
    from vosrepro.reporting.pages.outlets import write_outlets
    from vosrepro.study.integrity import check_scores
    from vosrepro.study.plan import load_plan

    plan = load_plan(args.study)
    if args.write_expected:
        write_text(args.write_expected, csv_text(expected_rows(load_table(plan))))
    if args.figures:
        _figures(plan, args.figures)
        return 0
    if args.tables:
        from vosrepro.reporting.export import export

        export(load_table(plan), args.tables)
        return 0
    if args.only == "outlets":  # from which DVC and the page take what they say: a lost score must not go unnoticed
        for each in plan.runs:
            check_scores(each, plan.entries_of(each))
        write_outlets(load_table(plan))
        return 0
    pages = render_pages(plan, args.out, partial=args.partial, outlets=args.only is None)
    if args.record and not args.partial:
        from vosrepro.reporting.recorded import record_report

        record_report(load_table(plan), pages)
    logging.getLogger(__name__).info("open %s", pages[0])
    return 0


def _figures(plan: Plan, folder: Path) -> None:
    from vosrepro.reporting import load_table
    from vosrepro.reporting.pages.comparisons import primary_row
    from vosrepro.reporting.plots import draw_figures
    from vosrepro.reporting.recorded import record_figures
    from vosrepro.reporting.results import read_results

    table = load_table(plan)
    rows = {(m, b): primary_row(table, m, b) for m in plan.methods for b in plan.benchmarks}
    marked = {key: (row.recipe, row.variant) for key, row in rows.items() if row}
    note = f"study {plan.study.study}" + (", generated videos" if plan.study.data.generated else "")
    written = draw_figures(read_results(plan.results), marked, folder, note=note)
    record_figures(plan.study.study, written)
    logging.getLogger(__name__).info("%d figures in %s", len(written) // 2, folder)
