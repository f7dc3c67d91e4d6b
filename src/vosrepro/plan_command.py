"""List what a study consists of, and what it costs.

  vosrepro plan params/studies/paper.yaml
  vosrepro plan params/studies/paper.yaml --method stm --recipe s012 --machine H200

Times follow from measured throughput only: that of stages trained in this checkout, then params/throughput.csv
(measure with `vosrepro bench train` and add a row). The workflow runs the same part of a study with
--config 'only={methods: [stm], recipes: [s012]}'.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vosrepro.costs import StageCost
    from vosrepro.plan import Plan, StageNode

_PARTS = ("method", "recipe", "variant", "benchmark")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and which part of it."""
    parser.add_argument("study", help="params/studies/<study>.yaml")
    for part in _PARTS:
        parser.add_argument(f"--{part}", action="append", metavar="NAME",
                            help=f"only this {part} (may be given several times)")  # fmt: skip
    parser.add_argument("--throughput", default="params/throughput.csv", metavar="CSV",
                        help="measured samples per second (default: %(default)s)")  # fmt: skip
    parser.add_argument("--machine", help="only rows of that file whose machine contains this")


def run(args: argparse.Namespace) -> int:
    """Print stages with their costs, imports, entries, and sums."""
    from vosrepro.costs import load_throughput, stage_costs
    from vosrepro.params import Only, load_study
    from vosrepro.plan import load_plan

    study = load_study(args.study)
    chosen = {f"{part}s": tuple(getattr(args, part) or ()) or None for part in _PARTS}
    if any(chosen.values()):
        study = study.model_copy(update={"only": Only(**chosen)})
    plan = load_plan(study)
    measured = load_throughput(args.throughput, machine=args.machine)
    costs = stage_costs(plan, measured, _weight_bytes(plan))
    print(f"{plan.study.study}: {plan.study.title}")
    _print_stages(costs)
    _print_imports(plan)
    print(f"\nentries ({len(plan.entries)}):")
    for entry in plan.entries:
        scoring = entry.benchmark_params.scoring or "server only"
        print(f"  {entry.key:<52} scored by {scoring}")
    _print_sums(plan, costs)
    return 0


def _print_stages(costs: tuple[StageCost, ...]) -> None:
    print(f"\ntraining stages ({len(costs)}):")
    for cost in costs:
        node = cost.node
        begin = f"from {node.parent.recipe}/{node.parent.stage}" if node.parent else "from scratch"
        data = ", ".join(f"{s.set} x{s.repeat}" for s in node.params.data)
        name = f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}"
        print(f"  {name:<36} {node.params.steps:>7} steps of {node.params.batch_size}, {data}, {begin}; "
              f"{_time(cost)}, {_size(cost.disk_bytes)}")  # fmt: skip


def _print_imports(plan: Plan) -> None:
    from vosrepro.released import load_released

    imported = [run for run in plan.runs if run.params.weights == "imported"]
    if not imported:
        return
    released = load_released()
    print(f"\nimported weights ({len(imported)}):")
    for run in imported:
        file = released.file(run.method, run.recipe)
        print(f"  weights/{run.method}/{run.recipe}.pth: {file.file if file else 'unknown file'}")


def _print_sums(plan: Plan, costs: tuple[StageCost, ...]) -> None:
    known = [cost for cost in costs if cost.seconds is not None]
    hours = sum(cost.seconds or 0 for cost in known) / 3600
    gpu_hours = sum(cost.gpu_hours or 0 for cost in known)
    disk = sum(cost.disk_bytes or 0 for cost in costs)
    jobs = len(costs) + 3 * len(plan.runs)
    print(
        f"\njobs: {jobs} ({len(costs)} trainings; {len(plan.runs)} runs to select, infer and score)"
    )
    if known:
        machines = sorted({c.throughput.machine for c in known if c.throughput})
        print(f"training time of {len(known)} of {len(costs)} stages: {hours:.1f} h in all, "
              f"{gpu_hours:.1f} GPU-hours, measured on {'; '.join(machines)}")  # fmt: skip
    if len(known) < len(costs):
        print(f"training time of {len(costs) - len(known)} stages: not measured "
              "(vosrepro bench train, then a row in params/throughput.csv)")  # fmt: skip
    if costs:
        print(
            f"disk of checkpoints and resume states: {disk / 1e9:.1f} GB; masks and data not counted"
        )


def _time(cost: StageCost) -> str:
    if cost.seconds is None or cost.throughput is None:
        return "time not measured"
    text = (
        f"{cost.seconds / 3600:.1f} h" if cost.seconds >= 3600 else f"{cost.seconds / 60:.1f} min"
    )
    return (
        f"{text} at {cost.throughput.samples_per_second:.4g} samples/s ({cost.throughput.machine})"
    )


def _size(count: int | None) -> str:
    return "disk unknown" if count is None else f"{count / 1e9:.2f} GB"


def _weight_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of the weights of each stage's network, built without memory."""
    import warnings

    warnings.simplefilter("ignore")  # of torchvision, about arguments of its builders
    found: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for node in plan.stages:
        key = repr((node.method, sorted(_plain_model(node).items())))
        if key not in sizes:
            sizes[key] = _built_bytes(node)
        found[node.digest] = sizes[key]
    return found


def _plain_model(node: StageNode) -> dict[str, Any]:
    """The network's arguments without initial weights, which would be downloaded."""
    model = {k: v for k, v in node.model.items() if not k.endswith(("_weights", "weights"))}
    if "pretrained" in model:
        model["pretrained"] = False
    return model


def _built_bytes(node: StageNode) -> int:
    import torch

    from vosrepro.methods import get_method

    build = get_method(node.method).build
    assert build is not None
    with torch.device("meta"):
        state = build(**_plain_model(node)).state_dict()
    return sum(t.numel() * t.element_size() for t in state.values())
