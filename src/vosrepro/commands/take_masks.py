"""`vosrepro take-masks`: the DAG's rule for recipes whose masks others published."""

from __future__ import annotations

import argparse

from vosrepro.commands.infer import add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a run of a study."""
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Take the masks of all entries of one run."""
    from vosrepro.base.errors import ConfigError
    from vosrepro.inference.taken import take_run
    from vosrepro.study.plan import load_plan

    plan = load_plan(args.study)
    chosen = plan.run(args.method, args.recipe, args.seed)
    if chosen.params.weights != "masks":
        raise ConfigError(f"{chosen.key} has weights '{chosen.params.weights}', not masks: use `vosrepro infer`")
    take_run(plan, chosen)
    return 0
