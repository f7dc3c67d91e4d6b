"""Compare two studies, or two results of one: what changed in parameters, code, data, machine and scores."""

from __future__ import annotations

import argparse

from vosrepro.base.files import write_text
from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.reporting.compare import StudyComparison, compare_results
from vosrepro.reporting.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two folders, and where a page goes."""
    parser.add_argument("first", type=SourcePath, help="name of a study, or its folder in results/ of any checkout")
    parser.add_argument("second", type=SourcePath, help="the same; differences are this one minus the first")
    parser.add_argument(
        "--seeds", nargs=2, type=int, metavar=("A", "B"), help="only these seeds (default: all, averaged)"
    )
    parser.add_argument("--html", type=TargetPath, metavar="FILE", help="also write the comparison as a page")


def run(args: argparse.Namespace) -> int:
    """Print the comparison."""
    found = compare_results(
        read_results(str(args.first)), read_results(str(args.second)), tuple(args.seeds) if args.seeds else None
    )
    print("\n".join(_lines(found)))
    if args.html:
        from vosrepro.reporting.pages.pages import comparison_page

        write_text(args.html, comparison_page(found))
    return 0


def _lines(found: StudyComparison) -> list[str]:
    lines = [found.summary, ""]
    for change in found.changes:
        first, *others = change.places
        more = f" and {len(others)} more" if others else ""
        lines.append(f"{change.kind}: {change.what}: {change.before} -> {change.after} ({first}{more})")
    lines.append("")
    width = max((len(d.name) for d in found.differences), default=4)
    lines.append(f"{'row':<{width}}  {'A':>6} {'B':>6} {'B - A':>6}  95 % interval     p      adjusted  finding")
    for row in found.differences:
        low, high = row.paired.interval_95.low, row.paired.interval_95.high
        lines.append(
            f"{row.name:<{width}}  {row.before:6.1f} {row.after:6.1f} {row.paired.mean:+6.1f}  "
            f"{low:+6.1f} to {high:+6.1f}  {row.paired.p_value:6.4f}  {row.adjusted:6.4f}  {row.finding}"
        )
    lines += [f"only in {found.first}: {name}" for name in found.only_first]
    lines += [f"only in {found.second}: {name}" for name in found.only_second]
    return lines
