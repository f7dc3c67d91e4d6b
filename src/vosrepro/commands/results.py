"""The results of a study as tables for other tools: one CSV per data frame of `vosrepro.results`."""

from __future__ import annotations

import argparse
import sys

from vosrepro.base.files import write_text
from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.reporting.results import FRAMES, read_results

#: What `--csv` without a folder stands for.
_STANDARD_OUTPUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study and what to write."""
    parser.add_argument("study", type=SourcePath, help="name of a study, or its folder in results/ of any checkout")
    parser.add_argument(
        "--csv",
        type=TargetPath,
        metavar="DIR",
        nargs="?",
        const=_STANDARD_OUTPUT,
        help="write the tables as CSV into DIR, or one of them to standard output",
    )
    parser.add_argument("--table", choices=FRAMES, help="only this one (standard output: scores if none is named)")


def run(args: argparse.Namespace) -> int:
    """Say what there is, or write it."""
    found = read_results(str(args.study))
    names = (args.table,) if args.table else FRAMES
    if args.csv is None:
        for name in names:
            frame = getattr(found, name)
            print(f"{name:<10} {len(frame):>7} rows  {', '.join(frame.columns)}")
    elif str(args.csv) == _STANDARD_OUTPUT:
        getattr(found, args.table or FRAMES[0]).to_csv(sys.stdout, index=False)
    else:
        for name in names:
            write_text(args.csv / f"{name}.csv", getattr(found, name).to_csv(index=False))
    return 0
