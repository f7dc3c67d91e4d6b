"""`vosrepro score-run`: the DAG's scoring rule."""

from __future__ import annotations

import argparse

from vosrepro.commands.infer import add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a run of a study."""
    add_run_arguments(parser)
    parser.add_argument("--processes", type=int, default=1, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Score all entries of one run."""
    from vosrepro.scoring.entries import score_run
    from vosrepro.study.plan import load_plan

    plan = load_plan(args.study)
    score_run(plan, plan.run(args.method, args.recipe, args.seed), processes=args.processes)
    return 0
