"""Samples per second of the loader alone, of the step alone, and of both together.

  vosrepro bench train --study params/studies/mini.yaml --method stm --recipe s012 --stage s2 --steps 40

Nothing is saved, and the previous stage is not needed: the network has random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vosrepro.params import Study
    from vosrepro.plan import StageNode

_WARM_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a stage, and how long to measure."""
    parser.add_argument("--study", required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--method", required=True)
    parser.add_argument("--recipe", required=True, help="the recipe that owns the stage")
    parser.add_argument("--seed", type=int, help="default: the study's first")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--steps", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--workers", type=int, help="loader processes (default: the stage's)")


def run(args: argparse.Namespace) -> int:
    """Print the figures as JSON."""
    from vosrepro.plan import load_plan

    plan = load_plan(args.study)
    seed = plan.study.seeds[0] if args.seed is None else args.seed
    node = plan.stage(args.method, args.recipe, seed, args.stage)
    figures = bench(
        node,
        plan.study,
        steps=args.steps,
        device=args.device,
        threads=args.threads,
        workers=args.workers,
    )
    print(json.dumps(figures, indent=2))
    return 0


def bench(
    node: StageNode,
    study: Study,
    *,
    steps: int,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Measure one stage on this machine.

    Args:
        node: the stage.
        study: where its data lies.
        steps: steps of each measurement, after three that do not count.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of torch; None leaves its own choice.
        workers: loader processes; None takes the stage's.

    Returns:
        "loader", "step" and "both" in samples per second, "loader_share" of the time of both, the size of the
        network and the circumstances.
    """
    import torch

    from vosrepro.journal import Journal
    from vosrepro.training.clips import load_items
    from vosrepro.training.job import Job
    from vosrepro.training.loader import batches, make_loader
    from vosrepro.training.loop import update
    from vosrepro.training.state import StateFolder
    from vosrepro.training.world import World, pick_device

    if threads:
        torch.set_num_threads(threads)
    changes: dict[str, Any] = {"steps": steps + _WARM_STEPS}
    if workers is not None:
        changes["loader_workers"] = workers
    optimizer = node.params.optimizer.model_copy(update={"lr_drop_steps": ()})
    params = node.params.model_copy(update={**changes, "optimizer": optimizer})
    node = dataclasses.replace(node, params=params, parent=None)
    place = pick_device(device, World())
    journal = Journal(Path("unused"), enabled=False)
    job = Job.build(node, StateFolder("unused"), journal, World(), place, None, resuming=False)
    items = load_items(params, study)
    share = range(params.batch_size)

    def fresh() -> Any:
        return batches(make_loader(node, items, share=share, first=0, pin=place.type == "cuda"))

    def finish() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    with fresh() as found:
        loader = _rate(found, lambda batch: None, finish)
    with fresh() as found:
        same = next(found)
    step = _rate(
        itertools.repeat(same, steps + _WARM_STEPS), lambda batch: update(job, batch), finish
    )
    with fresh() as found:
        both = _rate(found, lambda batch: update(job, batch), finish)
    size = params.batch_size
    return {
        "stage": f"{node.method}/{node.recipe}/{node.stage}",
        "loader": round(loader * size, 2),
        "step": round(step * size, 2),
        "both": round(both * size, 2),
        "loader_share": round(max(0.0, 1 - both / step), 4),
        "steps_per_second": round(both, 3),
        "batch_size": size,
        "parameters": sum(p.numel() for p in job.network.parameters()),
        "device": str(place),
        "threads": torch.get_num_threads(),
        "workers": params.loader_workers,
    }


def _rate(batches: Any, work: Callable[[Any], None], finish: Callable[[], None]) -> float:
    """Batches per second after the first few."""
    for batch in itertools.islice(batches, _WARM_STEPS):
        work(batch)
    finish()
    began = time.perf_counter()
    count = 0
    for batch in batches:
        work(batch)
        count += 1
    finish()
    return count / (time.perf_counter() - began)
