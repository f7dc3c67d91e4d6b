"""`vosrepro parity`: our code on key-seeded weights against recorded outputs of the original code."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vosrepro.base.types import ParityRow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The method and its fixture."""
    from pathlib import Path

    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("fixture", metavar="FIXTURE.npz", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print array, error, tolerance and verdict; 1 if an array fails."""
    import torch

    from vosrepro.lab.parity import get_parity

    parity = get_parity(args.method)
    arrays = read_fixture(args.fixture)
    torch.set_num_threads(args.threads)
    rows = parity(arrays)
    if not rows:
        raise DataError(f"{args.fixture} holds no array that {args.method} knows: is it its fixture?")
    if args.json:
        facts = [{**vars(row), "passed": row.passed} for row in rows]
        print(json.dumps({"method": args.method, "rows": facts}, indent=1))
    else:
        print(table(rows))
    return 0 if all(row.passed for row in rows) else 1


def read_fixture(path: Path) -> dict[str, Any]:
    """All arrays of an .npz.

    Raises:
        DataError: if the file is missing or damaged.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no fixture {path}: give the .npz of recorded outputs") from error
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path} is not a readable .npz archive ({error})") from error


def table(rows: Sequence[ParityRow]) -> str:
    """The rows as aligned text, with a last line that counts the verdicts."""
    width = max(len(row.array) for row in rows)
    lines = [f"{'array':<{width}}  {'error':>9}  {'tolerance':>9}  verdict  unit"]
    for row in rows:
        verdict = "ok" if row.passed else "FAILED"
        lines.append(f"{row.array:<{width}}  {row.error:>9.2e}  {row.tolerance:>9.1e}  {verdict:<7}  {row.unit}")
    failed = sum(not row.passed for row in rows)
    lines.append(f"{len(rows) - failed} of {len(rows)} arrays agree")
    return "\n".join(lines)
