"""`vosrepro infer` and `vosrepro select`: one rule of the DAG each."""

from __future__ import annotations

import argparse

from vosrepro.base.targets import Source
from vosrepro.commands.launch import add_device_arguments, run_leased


def add_run_arguments(parser: argparse.ArgumentParser, *, recipe: str | None = None) -> None:
    """Arguments that name a run of a study, for every command that a rule of the DAG calls; `recipe`: its help."""
    parser.add_argument("--study", type=Source, required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--method", required=True)
    parser.add_argument("--recipe", required=True, help=recipe)
    parser.add_argument("--seed", required=True, type=int)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a run of a study, and how to compute it."""
    add_run_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add_device_arguments(parser)
    parser.add_argument(
        "--anew", type=int, default=0, metavar="N", help="with a new number N, keep nothing that earlier calls finished"
    )


def infer(args: argparse.Namespace) -> int:
    """Segment every benchmark of a run with its selected weights, or classify its single images."""
    status = run_leased(args, "infer")
    if status is not None:
        return status
    from vosrepro.inference.entries import infer_run

    plan, run, device = _prepare(args)
    infer_run(plan, run, device=device, anew=args.anew)
    return 0


def select(args: argparse.Namespace) -> int:
    """Choose a checkpoint of a run."""
    status = run_leased(args, "select")
    if status is not None:
        return status
    from vosrepro.inference.select import select_run
    from vosrepro.scoring import score_arrays

    plan, run, device = _prepare(args)
    select_run(plan, run, device=device, score=score_arrays)
    return 0


def _prepare(args: argparse.Namespace):
    import torch

    from vosrepro.base.machine import pick_device
    from vosrepro.study.plan import load_plan

    if args.threads:
        torch.set_num_threads(args.threads)
    plan = load_plan(args.study)
    return plan, plan.run(args.method, args.recipe, args.seed), pick_device(args.device)
