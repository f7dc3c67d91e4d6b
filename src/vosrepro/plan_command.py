"""List what a study consists of: training stages, their chains, and the entries of the report."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study."""
    parser.add_argument("study", help="params/studies/<study>.yaml")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from vosrepro.plan import load_plan

    plan = load_plan(args.study)
    print(f"{plan.study.study}: {plan.study.title}")
    print(f"\ntraining stages ({len(plan.stages)}):")
    for node in plan.stages:
        begin = f"from {node.parent.recipe}/{node.parent.stage}" if node.parent else "from scratch"
        data = ", ".join(f"{s.set} x{s.repeat}" for s in node.params.data)
        name = f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}"
        print(f"  {name:<36} {node.params.steps:>7} steps of {node.params.batch_size}, "
              f"{data}, {begin}")  # fmt: skip
    print(f"\nentries ({len(plan.entries)}):")
    for entry in plan.entries:
        scoring = entry.benchmark_params.scoring or "server only"
        print(f"  {entry.key:<52} scored by {scoring}")
    return 0
