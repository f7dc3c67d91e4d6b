"""Check or pack masks for a challenge server.

  vosrepro submit check masks/ --for davis17-testdev --data data/DAVIS/2017/test-dev
  vosrepro submit zip masks/ out.zip --for ytvos18-val --data data/YouTube/valid

`check` takes a folder or a finished zip and finds what the server would reject: sequences, frames, sizes,
pixel formats, ids (none before its first frame), the layout of the zip, stray files. Warnings: objects
that are never predicted, given masks that were changed. `zip` checks, then packs in the server's layout:
sequence folders at the root for DAVIS, inside Annotations/ for YouTube-VOS; the same masks always give
the same zip. Frames between those that the server wants are left out of it. Exit code 2 if there is an error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vosrepro.base.errors import ConfigError
from vosrepro.scoring.submission import (
    Expected,
    Server,
    check_submission,
    expect_davis,
    expect_youtube,
    write_zip,
)

_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vosrepro submit`."""
    add = parser.add_argument
    add("action", choices=("check", "zip"))
    add("masks", metavar="MASKS", type=Path, help="folder of masks by sequence; check: or a zip")
    add("target", metavar="ZIP", type=Path, nargs="?", help="zip to write (action zip)")
    add(
        "--for",
        dest="benchmark",
        metavar="BENCHMARK",
        required=True,
        help="davis17-testdev, davis17-challenge, or ytvos18-val, ytvos19-val (any ytvos...)",
    )
    add(
        "--data",
        metavar="DIR",
        type=Path,
        required=True,
        help="the data set: DAVIS root of that split, or YouTube-VOS's valid folder",
    )
    add("--json", action="store_true", help="print findings or manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Check or pack."""
    server, expected = _expected(args.benchmark, args.data)
    if args.action == "zip":
        if args.target is None:
            raise ConfigError("submit zip: give the zip to write as the second path")
        manifest = write_zip(args.masks, args.target, expected, server)
        print(json.dumps(manifest, indent=2))
        return 0
    report = check_submission(args.masks, expected, server)
    if args.json:
        values = {**report._asdict(), "findings": [f._asdict() for f in report.findings]}
        print(json.dumps({"passed": report.passed, **values}, indent=2))
        return 0 if report.passed else 2
    for finding in report.findings[:_SHOWN]:
        print(finding)
    if len(report.findings) > _SHOWN:
        print(f"... and {len(report.findings) - _SHOWN} more (see --json)")
    errors = sum(finding.level == "error" for finding in report.findings)
    print(f"{report.sequences} sequences, {report.files} masks, {report.bytes} bytes")
    print(f"sha256 {report.digest}")
    print("ready to upload" if report.passed else f"{errors} error(s): not ready")
    return 0 if report.passed else 2


def _expected(benchmark: str, data: Path) -> tuple[Server, dict[str, Expected]]:
    if benchmark.startswith("ytvos"):
        return "youtube", expect_youtube(data)
    splits = {"davis17-testdev": "test-dev", "davis17-challenge": "test-challenge"}
    if benchmark in splits:
        return "davis", expect_davis(data, split=splits[benchmark])
    raise ConfigError(f"--for {benchmark}: no server takes it; give {', '.join(splits)}, ytvos18-val or ytvos19-val")
