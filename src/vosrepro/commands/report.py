"""Render the report of a study from the files that its jobs left behind."""

from __future__ import annotations

import argparse
import logging

from vosrepro.base.targets import Source, Target
from vosrepro.study.paths import REPORTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study and where the pages go."""
    parser.add_argument("--study", type=Source, required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--out", type=Target, default=str(REPORTS), help="folder of the pages (default: %(default)s)")
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
        "--write-expected",
        type=Target,
        metavar="CSV",
        help="also write this study's results as reference results (params/expected/<study>.csv)",
    )


def run(args: argparse.Namespace) -> int:
    """Render, then say where the first page lies."""
    from vosrepro.base.files import csv_text, write_text
    from vosrepro.reporting import load_table, render
    from vosrepro.reporting.evidence.expected import expected_rows
    from vosrepro.reporting.pages.outlets import write_outlets
    from vosrepro.study.plan import load_plan

    plan = load_plan(args.study)
    if args.write_expected:
        write_text(args.write_expected, csv_text(expected_rows(load_table(plan))))
    if args.only == "outlets":
        write_outlets(load_table(plan))
        return 0
    pages = render(plan, args.out, partial=args.partial, outlets=args.only is None)
    logging.getLogger(__name__).info("open %s", pages[0])
    return 0
