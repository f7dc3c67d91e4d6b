"""List what a study consists of, and what each job costs: wall time, device hours, disk.

  vosrepro plan params/studies/paper.yaml
  vosrepro plan params/studies/paper.yaml --method stm --recipe s012 --machine H200
  vosrepro plan params/studies/paper.yaml --gpus 4 --sustained 40 --frames davis17-val=FRAMES

Times follow from measured rates: of stages trained in this checkout, then of params/throughput.csv (add rows with
`vosrepro bench train --write` and `bench infer --write`). --machine takes rows of one machine first; other rows name
theirs. For a machine that nobody measured, --sustained says what one of its devices sustains, and counted operations
(params/work.csv, `vosrepro bench work --write`) become an ESTIMATE, labeled so. Without it nothing is guessed. Per job
the first of these counts: a rate of --machine, an estimate by --sustained, a rate of another machine.

Not counted: validation of stages on images, first visits that a stage's cache does not hold yet, the scoring inside
selections, and waiting for disks and loaders. The workflow runs the same part of a study with --config
'only={methods: [stm], recipes: [s012]}'.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.targets import SourcePath

if TYPE_CHECKING:
    from vosrepro.costs.times import Extent
    from vosrepro.study.plan import Plan, StageNode

_PARTS = ("method", "recipe", "variant", "benchmark")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, which part of it, and what is known of machines and data."""
    from vosrepro.costs.rates import RATES, WORK

    add = parser.add_argument
    add("study", type=SourcePath, help="params/studies/<study>.yaml")
    for part in _PARTS:
        add(f"--{part}", action="append", metavar="NAME", help=f"only this {part} (may be given several times)")
    add("--throughput", type=SourcePath, default=RATES, metavar="CSV", help="measured rates (default: %(default)s)")
    add("--work", type=SourcePath, default=WORK, metavar="CSV", help="counted operations (default: %(default)s)")
    add("--machine", metavar="TEXT", help="first rates of machines whose name contains this")
    add(
        "--sustained",
        type=float,
        metavar="TFLOPS",
        help="TFLOP/s that one device is taken to sustain: estimates where --machine has no rate",
    )
    add("--gpus", type=int, metavar="N", help="devices at hand (default: those of one training)")
    add(
        "--frames",
        action="append",
        default=[],
        metavar="NAME=FRAMES[/VIDEOS/OBJECTS]",
        help="size of a benchmark, or of 'selection', whose data are not here",
    )
    add(
        "--published",
        action="store_true",
        help="print the parameters of every training beside the published ones, and nothing else",
    )
    add(
        "--deviations",
        action="store_true",
        help="print what differs from the published training for every row with published numbers, and nothing else",
    )
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print jobs with their costs, imports, entries, and sums."""
    from vosrepro.costs.jobs import job_costs
    from vosrepro.costs.listing import as_json, deviations_listing, listing, published_listing
    from vosrepro.costs.rates import load_rates, load_work
    from vosrepro.costs.times import Known
    from vosrepro.study.params import Only, load_study
    from vosrepro.study.plan import load_plan

    if args.sustained is not None and args.sustained <= 0:
        raise ConfigError("--sustained is a positive number of TFLOP/s per device, for instance 40")
    if args.gpus is not None and args.gpus < 1:
        raise ConfigError("--gpus is at least 1: a CPU counts as one device")
    study = load_study(args.study)
    chosen = {f"{part}s": tuple(getattr(args, part) or ()) or None for part in _PARTS}
    if any(chosen.values()):
        study = study.model_copy(update={"only": Only(**chosen)})
    plan = load_plan(study)
    if args.published:
        print(published_listing(plan))
        return 0
    if args.deviations:
        print(deviations_listing(plan))
        return 0
    known = Known(
        rates=load_rates(args.throughput).find(plan.methods, study.size),
        work=load_work(args.work),
        extents=_extents(plan, args.frames),
        weight_bytes=_weight_bytes(plan),
        machine=args.machine,
        tflops=args.sustained,
        gpus=args.gpus or study.gpus_per_training,
    )
    jobs = job_costs(plan, known)
    print(as_json(plan, jobs, known) if args.json else listing(plan, jobs, known))
    return 0


def _extents(plan: Plan, given: list[str]) -> dict[str, Extent]:
    """How much there is of each benchmark and of the selection: as given, counted in the data, or as stated."""
    from vosrepro.costs.jobs import SELECTION
    from vosrepro.costs.times import Extent

    found: dict[str, Extent] = {}
    for name, params in plan.benchmarks.items():
        stated = params.extent  # of the official set
        if stated is not None and not plan.study.data.generated:
            found[name] = Extent(stated.videos, stated.frames, stated.objects, stated.source)
        found.update(_counted(plan, name))
    found.update(_counted(plan, SELECTION))
    for text in given:
        name, extent = _given(text, found)
        if name not in (*plan.benchmarks, SELECTION):
            raise ConfigError(
                f"--frames {text}: '{name}' is neither 'selection' nor one of the study's benchmarks "
                f"{', '.join(plan.benchmarks)}"
            )
        found[name] = extent
    return found


def _counted(plan: Plan, name: str) -> dict[str, Extent]:
    """The size of a benchmark or of the selection, if its data are here."""
    from vosrepro.costs.jobs import SELECTION
    from vosrepro.costs.times import Extent
    from vosrepro.datasets.sets.catalog import original_videos, training_videos

    study = plan.study
    try:
        if name == SELECTION:
            wanted = set(study.selection.sequences)
            videos = [v for v in training_videos(study.selection.set, study.data) if v.name in wanted]
            if len(videos) < len(wanted):
                return {}
        else:
            videos = original_videos(plan.benchmarks[name], study.data)
        frames, objects = sum(len(v.frames) for v in videos), sum(len(v.starts) for v in videos)
    except (ConfigError, DataError):  # of sets that hold no videos, or are not here
        return {}
    return {name: Extent(len(videos), frames, objects, f"counted in {study.data.root}")}


def _given(text: str, known: dict[str, Extent]) -> tuple[str, Extent]:
    from vosrepro.costs.times import Extent

    name, _, value = text.partition("=")
    try:
        numbers = [int(n) for n in value.split("/")]
        if len(numbers) not in (1, 3) or min(numbers) < 1:
            raise ValueError(value)
    except ValueError as error:
        raise ConfigError(
            f"--frames {text}: write NAME=FRAMES or NAME=FRAMES/VIDEOS/OBJECTS, for instance selection=600/8/14"
        ) from error
    if len(numbers) == 1:
        if name not in known:
            raise ConfigError(
                f"--frames {text}: how many videos and objects '{name}' has is not known either: write "
                f"{name}=FRAMES/VIDEOS/OBJECTS"
            )
        numbers += [known[name].videos, known[name].objects]
    frames, videos, objects = numbers
    return name, Extent(videos, frames, objects, "--frames")


def _weight_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of the weights of each stage's network, built without memory."""
    import warnings

    from vosrepro.base.types import without_start_weights

    warnings.simplefilter("ignore")  # of torchvision, about arguments of its builders
    found: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for node in plan.stages:
        key = repr((node.method, sorted(without_start_weights(node.model).items())))
        if key not in sizes:
            sizes[key] = _built_bytes(node)
        found[node.digest] = sizes[key]
    return found


def _built_bytes(node: StageNode) -> int:
    import torch

    from vosrepro.base.types import without_start_weights
    from vosrepro.methods import get_method

    build = get_method(node.method).build
    assert build is not None
    with torch.device("meta"):
        state = build(**without_start_weights(node.model)).state_dict()
    return sum(t.numel() * t.element_size() for t in state.values())
