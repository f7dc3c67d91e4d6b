r"""Samples per second of the loader alone, of the step alone, and of both together.

  vosrepro bench train --study params/studies/mini.yaml --method stm --recipe s012 --stage s2 --steps 40

Nothing is saved, and the previous stage is not needed: the network has random weights. A stage of full size on a
small machine, without its data, and as a row for `vosrepro plan`:

  vosrepro bench train --study params/studies/paper.yaml --method stm --recipe s0 --stage s0 --random --batch 1 \
      --warm-steps 1 --steps 2 --threads 1 --write --note "other jobs shared the cores"
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.machine import hardware, pick_device
from vosrepro.base.targets import Place, SourcePath
from vosrepro.base.types import without_start_weights
from vosrepro.costs.rates import (
    RATE_COLUMNS,
    RATE_PLACE,
    RATES,
    machine_name,
    put_rows,
)

if TYPE_CHECKING:
    from vosrepro.study.params import Study
    from vosrepro.study.plan import StageNode
    from vosrepro.training.job import TrainingJob

    _Rates = tuple[float | None, float, float | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name a stage, and how long to measure."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    parser.add_argument("--method", required=True)
    parser.add_argument("--recipe", required=True, help="the recipe that owns the stage")
    parser.add_argument("--seed", type=int, help="default: the study's first")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--steps", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--workers", type=int, help="loader processes (default: the stage's)")
    parser.add_argument("--batch", type=int, help="samples of a step (default: the stage's)")
    parser.add_argument(
        "--warm-steps", type=int, default=3, metavar="N", help="steps that do not count (default: %(default)s)"
    )
    parser.add_argument(
        "--random", action="store_true", help="one batch of noise for all steps: needs no data, measures no loader"
    )
    parser.add_argument("--write", type=Place, nargs="?", const=RATES, metavar="CSV", help=f"put a row into {RATES}")
    parser.add_argument("--note", default="", help="circumstances, for the row's source")


def run(args: argparse.Namespace) -> int:
    """Print the figures as JSON."""
    from vosrepro.study.plan import load_plan

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
        batch=args.batch,
        warm_steps=args.warm_steps,
        random=args.random,
    )
    print(json.dumps(figures, indent=2))
    if args.write:
        row = throughput_row(node, plan.study.size, figures, note=args.note)
        put_rows(args.write, RATE_COLUMNS, [row], same=RATE_PLACE)
    return 0


def throughput_row(node: StageNode, size: str, figures: Mapping[str, Any], *, note: str) -> dict[str, Any]:
    """A row of params/throughput.csv from what `bench` returns."""
    gpus = int(figures["device"].startswith("cuda"))
    how = "a random batch" if figures["both"] is None else "loader and step"
    threads = "" if gpus else f", {figures['threads']} threads"
    source = f"vosrepro bench train, {how} of {figures['batch_size']}{threads}"
    return {
        "method": node.method,
        "size": size,
        "kind": "train",
        "name": node.stage,
        "objects": 0,
        "machine": machine_name(hardware(), gpus=gpus),
        "gpus": gpus,
        "samples_per_second": figures["both"] or figures["step"],
        "source": "; ".join(filter(None, (source, note))),
    }


def bench(  # noqa: PLR0913, options by name
    node: StageNode,
    study: Study,
    *,
    steps: int,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    batch: int | None = None,
    warm_steps: int = 3,
    random: bool = False,
) -> dict[str, Any]:
    """Measure one stage on this machine.

    Args:
        node: the stage.
        study: where its data lies.
        steps: steps of each measurement.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of torch; None leaves its own choice.
        workers: loader processes; None takes the stage's.
        batch: samples of a step; None takes the stage's.
        warm_steps: steps before each measurement.
        random: one random batch for all steps, and no weights to start from: only "step" is measured.

    Returns:
        "loader", "step" and "both" in samples per second, "loader_share" of the time of both, the size of the
        network and the circumstances; None for what was not measured.
    """
    import torch

    from vosrepro.lab.work import private_cache

    if threads:
        torch.set_num_threads(threads)
    optimizer = node.params.optimizer.model_copy(update={"lr_drop_steps": ()})
    changes: dict[str, Any] = {"steps": steps + warm_steps, "optimizer": optimizer}
    if workers is not None:
        changes["loader_workers"] = workers
    if batch is not None:
        changes["batch_size"] = batch
    with tempfile.TemporaryDirectory(prefix="vosrepro-bench-") as scratch:
        if random:  # results of noise must not come into the study's cache
            changes["loss"] = private_cache(node.params.loss, scratch)
        params = node.params.model_copy(update=changes)
        model = without_start_weights(node.model) if random else node.model
        node = dataclasses.replace(node, params=params, parent=None, model=model)
        job = _job(node, device)

        def finish() -> None:
            if job.device.type == "cuda":
                torch.cuda.synchronize(job.device)

        rate = functools.partial(_rate, finish=finish, warm_steps=warm_steps)
        if random:
            found = _random_rate(job, rate, steps + warm_steps)
        else:
            found = _loaded_rates(job, study, rate, steps + warm_steps)
    size = params.batch_size
    loader, step, both = (None if r is None else r * size for r in found)
    return {
        "stage": f"{node.method}/{node.recipe}/{node.stage}",
        "loader": _rounded(loader),
        "step": _rounded(step),
        "both": _rounded(both),
        "loader_share": round(max(0.0, 1 - both / step), 4) if both and step else None,
        "steps_per_second": _rounded((both or step or 0.0) / size),
        "batch_size": size,
        "parameters": sum(p.numel() for p in job.network.parameters()),
        "device": str(job.device),
        "threads": torch.get_num_threads(),
        "workers": params.loader_workers,
    }


def _job(node: StageNode, device: str) -> TrainingJob:
    from vosrepro.tracking.journal import Journal
    from vosrepro.training.devices.world import World
    from vosrepro.training.job import MicroBatch, TrainingJob
    from vosrepro.training.state import StateFolder

    place = pick_device(device)
    journal = Journal(Path("unused"), enabled=False)
    return TrainingJob.build(node, StateFolder("unused"), journal, World(), place, MicroBatch(), resuming=False)


def _random_rate(job: TrainingJob, rate: Callable[..., float], steps: int) -> _Rates:
    from vosrepro.lab.work import random_samples
    from vosrepro.training.loop import update

    samples = random_samples(job.node.params, job.node.params.batch_size)
    return None, rate(itertools.repeat(samples, steps), lambda batch: update(job, batch)), None


def _loaded_rates(job: TrainingJob, study: Study, rate: Callable[..., float], steps: int) -> _Rates:
    """Batches per second of the loader, of the step, and of both."""
    from vosrepro.training.data.clips import load_items
    from vosrepro.training.data.loader import batches, make_loader
    from vosrepro.training.loop import update

    params, pin = job.node.params, job.device.type == "cuda"
    items, share = load_items(params, study.data, held_out=job.node.held_out), range(params.batch_size)

    def fresh() -> Any:
        return batches(make_loader(job.node, items, share=share, first=0, pin=pin))

    def work(batch: Any) -> None:
        update(job, batch)

    with fresh() as found:
        loader = rate(found, lambda _batch: None)
    with fresh() as found:
        same = next(found)
    step = rate(itertools.repeat(same, steps), work)
    with fresh() as found:
        both = rate(found, work)
    return loader, step, both


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _rate(batches: Any, work: Callable[[Any], None], *, finish: Callable[[], None], warm_steps: int) -> float:
    """Batches per second after the first few."""
    for batch in itertools.islice(batches, warm_steps):
        work(batch)
    finish()
    began = time.perf_counter()
    count = 0
    for batch in batches:
        work(batch)
        count += 1
    finish()
    return count / (time.perf_counter() - began)
