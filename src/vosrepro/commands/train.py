"""Train one stage of a recipe: on one process, or as one of the ranks that torchrun started.

An interrupted training goes on where its state was last saved. With --gpus it leases devices first and starts one
process on each:

  vosrepro train --gpus 4 --study params/studies/mini.yaml --method stm --recipe s012 --seed 0 --stage s0
"""

from __future__ import annotations

import argparse

from vosrepro.commands.infer import add_run_arguments
from vosrepro.commands.launch import add_device_arguments, run_leased


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a stage of a study, and how to compute it."""
    add_run_arguments(parser, recipe="the recipe that owns the stage")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    add_device_arguments(parser)
    parser.add_argument(
        "--micro-batch",
        type=int,
        metavar="N",
        help="at most N samples at once on a process; gradients are accumulated (default: no limit)",
    )
    parser.add_argument(
        "--anew", type=int, default=0, metavar="N", help="with a new number N, forget the state of earlier calls"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or lease devices and train on them."""
    status = run_leased(args, "train")
    if status is not None:
        return status
    from vosrepro.study.plan import load_plan
    from vosrepro.training.devices.world import World, die_with_parent

    world = World.from_environment()
    if world.size > 1:
        die_with_parent()
    plan = load_plan(args.study)
    node = plan.stage(args.method, args.recipe, args.seed, args.stage)
    from vosrepro.training.loop import train  # imports torch, which a wrong name above need not wait for

    train(
        node,
        plan.study,
        device=args.device,
        threads=args.threads,
        world=world,
        micro_batch=args.micro_batch,
        anew=args.anew,
    )
    return 0
