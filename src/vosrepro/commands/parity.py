"""`vosrepro parity`: our code on key-seeded weights against recorded outputs of the original code."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import DataError
from vosrepro.base.targets import SourcePath

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vosrepro.base.types import ParityRow
    from vosrepro.lab.parity.rules import ParityReport

#: How the last line calls the kinds of arrays, in its order.
_COUNTED = {
    "compared": "compared",
    "input": "inputs of these",
    "cannot be made": "cannot be made",
    "informative": "informative",
    "not known": "not known",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The method and its fixture."""
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("fixture", metavar="FIXTURE.npz", type=SourcePath)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print array, error, tolerance and verdict, and what became of every array; 1 if one fails or is not known."""
    import torch

    from vosrepro.lab.parity import compare_recording, get_parity

    get_parity(args.method)  # a method without an original is told before the file is read
    arrays = read_fixture(args.fixture)
    torch.set_num_threads(args.threads)
    try:
        report = compare_recording(args.method, arrays)
    except DataError as error:
        raise DataError(f"{args.fixture}: {error}") from error
    if args.json:
        facts = [{**vars(row), "passed": row.passed} for row in report.rows]
        kinds = {kind: report.names(kind) for kind in _COUNTED}  # type: ignore[arg-type]
        print(json.dumps({"method": args.method, "rows": facts, "arrays": kinds, "lacking": report.lacking}, indent=1))
    else:
        print(table(report.rows))
        print("\n".join(accounts(report)))
    return 0 if report.passed else 1


def read_fixture(path: Path) -> dict[str, Any]:
    """All arrays of an .npz.

    Raises:
        DataError: if the file is missing, damaged, or no archive of plain arrays.
    """
    import struct
    import zipfile
    import zlib

    import numpy as np

    damaged = (OSError, ValueError, EOFError, KeyError, RuntimeError, TypeError, SyntaxError, MemoryError)
    try:
        with zipfile.ZipFile(path) as whole:
            if whole.testzip() is not None:
                raise zipfile.BadZipFile("a member is damaged")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no fixture {path}: give the .npz of recorded outputs") from error
    except (*damaged, zipfile.BadZipFile, zlib.error, struct.error) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else str(error).partition("\n")[0]
        raise DataError(f"{path} is not a readable .npz archive of numbers ({reason}): record it anew") from error
    other = next((name for name, value in arrays.items() if not isinstance(value, np.ndarray)), None)
    if other is not None:
        raise DataError(f"{path} is not a readable .npz archive: its member {other} is no array")
    return arrays


def table(rows: Sequence[ParityRow]) -> str:
    """The rows as aligned text, with a last line that counts the verdicts."""
    width = max(len(row.array) for row in rows)
    lines = [f"{'array':<{width}}  {'error':>9}  {'tolerance':>9}  verdict  unit"]
    for row in rows:
        verdict = "ok" if row.passed else "FAILED"
        lines.append(f"{row.array:<{width}}  {row.error:>9.2e}  {row.tolerance:>9.1e}  {verdict:<7}  {row.unit}")
    failed = sum(not row.passed for row in rows)
    lines.append(f"{len(rows) - failed} of {len(rows)} rows agree")
    return "\n".join(lines)


def accounts(report: ParityReport) -> list[str]:
    """What could not be compared, by name, and the count of every kind."""
    lines = [f"cannot be made: {name} lacks {what}" for name, what in report.lacking.items()]
    lines += [f"not known: {name}" for name in report.names("not known")]
    counts = ", ".join(f"{len(report.names(kind))} {said}" for kind, said in _COUNTED.items())  # type: ignore[arg-type]
    return [*lines, f"{len(report.kinds)} arrays: {counts}"]
