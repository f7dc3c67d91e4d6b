"""Check the masks of one entry as its challenge server would, and pack them: one rule of the DAG.

The zip goes to submissions/<study>/, with what the check counted in a JSON beside it. An error, such as a
missing sequence or an id before its first frame, stops it.
"""

from __future__ import annotations

import argparse

from vosrepro.base.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name an entry of a study."""
    parser.add_argument("--study", required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--method", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--benchmark", required=True)


def run(args: argparse.Namespace) -> int:
    """Check and pack."""
    from vosrepro.base.files import write_json
    from vosrepro.base.provenance import provenance
    from vosrepro.scoring.submission import check_submission, write_zip
    from vosrepro.study.params import pick
    from vosrepro.study.plan import load_plan

    plan = load_plan(args.study)
    run_of_study = plan.run(args.method, args.recipe, args.seed)
    entries = {entry.key: entry for entry in plan.entries_of(run_of_study)}
    key = f"{run_of_study.key}/{args.variant}/{args.benchmark}"
    entry = pick(entries, key, what="entry", where=f"study '{plan.study.study}'")
    server, expected = _expected(entry.benchmark_params, plan.study.data)
    manifest = write_zip(entry.masks, entry.submission, expected, server)
    report = check_submission(entry.submission, expected, server)
    warnings = [str(f) for f in report.findings]
    record = {**manifest, "entry": key, "server": server, "warnings": warnings}
    write_json(entry.submission.with_suffix(".json"), {**record, "provenance": provenance()})
    for warning in warnings:
        print(warning)
    print(
        f"{entry.submission}: {report.sequences} sequences, {report.files} masks, "
        f"{'ready to upload' if report.passed else 'NOT ready'}"
    )
    return 0 if report.passed else 2


def _expected(benchmark, data):
    from vosrepro.datasets.sets.folders import set_folder
    from vosrepro.scoring.submission import expect_davis, expect_youtube

    if benchmark.dataset == "davis2017-testdev":
        folder = set_folder(benchmark.dataset, data)
        return "davis", expect_davis(folder, split=benchmark.split)
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return "youtube", expect_youtube(set_folder(benchmark.dataset, data) / "valid")
    raise ConfigError(f"no server takes masks of the benchmark '{benchmark.benchmark}'")
