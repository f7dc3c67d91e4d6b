"""Check or pack masks for a challenge server.

  vosrepro submit check masks/ --for davis17-testdev --data data/DAVIS/2017/test-dev
  vosrepro submit zip masks/ out.zip --for ytvos18-val --data data/YouTube/valid
  vosrepro submit record stm/s012/seed0/top50/davis17-testdev scores.txt --study params/studies/paper.yaml

`check` takes a folder or a finished zip and finds what the server would reject: sequences, frames, sizes,
pixel formats, ids (none before its first frame), the layout of the zip, stray files. Warnings: objects
that are never predicted, given masks that were changed. `zip` checks, then packs in the server's layout:
sequence folders at the root for DAVIS, inside Annotations/ for YouTube-VOS; the same masks always give
the same zip. Frames between those that the server wants are left out of it. Exit code 2 if there is an error.

`record` reads what the server answered to the zip of an entry (its scores.txt, or the zip that holds it) and writes it
with its digest beside the submission; the report takes it for the entry's score as long as its masks are the same.
"""

from __future__ import annotations

import argparse
import json

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.commands.infer import add_run_arguments
from vosrepro.scoring.server import record_answer
from vosrepro.scoring.submission import check_submission, served, write_zip

_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vosrepro submit`."""
    add = parser.add_argument
    add("action", choices=("check", "zip", "record"))
    add(
        "masks",
        metavar="MASKS",
        type=SourcePath,
        help="folder of masks by sequence; check: or a zip; record: an entry of the study",
    )
    add("target", metavar="FILE", type=TargetPath, nargs="?", help="zip to write (zip); the server's answer (record)")
    add("--study", metavar="YAML", type=SourcePath, help="record: params/studies/<study>.yaml")
    add(
        "--for",
        dest="benchmark",
        metavar="BENCHMARK",
        help="davis17-testdev, davis17-challenge, or ytvos18-val, ytvos19-val (any ytvos...)",
    )
    add(
        "--data",
        metavar="DIR",
        type=SourcePath,
        help="the data set: DAVIS root of that split, or YouTube-VOS's valid folder",
    )
    add("--json", action="store_true", help="print findings or manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Check, pack or record."""
    if args.action != "check" and args.target is None:
        what = {"zip": "the zip to write", "record": "the server's answer"}[args.action]
        raise ConfigError(f"submit {args.action}: give {what} as the second path")
    if args.action == "record":
        return _record(args)
    if args.benchmark is None or args.data is None:
        raise ConfigError(f"submit {args.action}: give the benchmark with --for and its data set with --data")
    masks = args.masks
    place = served(args.benchmark)
    expected = place.expect(args.data)
    if args.action == "zip":
        manifest = write_zip(masks, args.target, expected, place.server)
        print(json.dumps(manifest, indent=2))
        return 0
    report = check_submission(masks, expected, place.server)
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


def add_entry_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name an entry of a study."""
    add_run_arguments(parser)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--benchmark", required=True)


def entry(args: argparse.Namespace) -> int:
    """Check the masks of one entry as its server would, and pack them: one rule of the DAG.

    The zip goes to submissions/<study>/, with what the check counted in a JSON beside it.
    """
    from vosrepro.base.errors import pick
    from vosrepro.base.files import write_json
    from vosrepro.base.provenance import provenance
    from vosrepro.datasets.sets.folders import set_folder
    from vosrepro.study.integrity import check_masks, read_record
    from vosrepro.study.plan import load_plan
    from vosrepro.study.records import RunInference

    plan = load_plan(args.study)
    run_of_study = plan.run(args.method, args.recipe, args.seed)
    entries = {entry.key: entry for entry in plan.entries_of(run_of_study)}
    key = f"{run_of_study.key}/{args.variant}/{args.benchmark}"
    one = pick(entries, key, what="entry", where=f"study '{plan.study.study}'")
    made = read_record(RunInference, run_of_study.inference).entries.get(key)
    check_masks(one, made and made.masks_digest)
    place = served(one.benchmark_params.benchmark)
    expected = place.expect(set_folder(one.benchmark_params.dataset, plan.study.data) / place.folder)
    manifest = write_zip(one.masks, one.submission, expected, place.server)
    report = check_submission(one.submission, expected, place.server)
    warnings = [str(f) for f in report.findings]
    record = {**manifest, "entry": key, "server": place.server, "warnings": warnings}
    write_json(one.submission.with_suffix(".json"), {**record, "provenance": provenance()})
    for warning in warnings:
        print(warning)
    print(
        f"{one.submission}: {report.sequences} sequences, {report.files} masks, "
        f"{'ready to upload' if report.passed else 'NOT ready'}"
    )
    return 0 if report.passed else 2


def _record(args: argparse.Namespace) -> int:
    """Keep what a server answered to the masks of an entry."""
    from vosrepro.base.errors import pick
    from vosrepro.study.plan import load_plan

    if args.study is None:
        raise ConfigError("submit record: give the study of the entry with --study params/studies/<study>.yaml")
    plan = load_plan(args.study)
    entries = {entry.key: entry for entry in plan.entries if entry.benchmark_params.scoring is None}
    entry = pick(entries, str(args.masks), what="entry that a server scores", where=f"study '{plan.study.study}'")
    values = record_answer(entry, args.target)
    print(f"{entry.server_scores}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items()))
    return 0
