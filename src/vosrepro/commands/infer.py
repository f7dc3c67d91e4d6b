"""`vosrepro infer` and `vosrepro select`: one rule of the DAG each."""

from __future__ import annotations

import argparse
from pathlib import Path

from vosrepro.base.targets import SourcePath
from vosrepro.commands.launch import add_device_arguments, run_leased


def add_run_arguments(parser: argparse.ArgumentParser, *, recipe: str | None = None) -> None:
    """Arguments that name a run of a study, for every command that a rule of the DAG calls; `recipe`: its help."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
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
    """Segment every benchmark of a run with its selected weights, or classify its single images.

    Raises:
        ConfigError: if a recipe cannot do what an entry asks for.
        DataError: if a video, mask or list of images is broken.
        CheckpointError: if the weights do not fit.
        DamagedError: if weights or a record are not what the job that made them wrote.
    """
    status = run_leased(args, "infer")
    if status is not None:
        return status
    from vosrepro.inference.classify import classify_entry
    from vosrepro.inference.correspondence import write_pairs
    from vosrepro.inference.entries import Books
    from vosrepro.inference.videos import network_of, segment_entry
    from vosrepro.inference.views import write_view

    plan, run, device = _prepare(args)
    books = Books(plan, run, anew=args.anew)
    model = network_of(run, run.selected_weights, device) if plan.video_entries_of(run) else None
    with books.journal():
        for entry in books.entries:
            begun = books.begin(entry)
            if entry.benchmark_params.classifies:
                assert begun.weights is not None
                weights = Path(begun.weights.path)
                found = classify_entry(plan, entry, weights=weights, device=device, state=begun.state)
            else:
                found = segment_entry(entry, plan.study.data, model, device=device, state=begun.state)
            books.keep(begun, found)
    write_pairs(plan, run, model, device=device)
    write_view(plan, run, model, device=device)
    books.close()
    return 0


def select_checkpoint(args: argparse.Namespace) -> int:
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
