"""Count the floating-point operations of a study: of a sample of each training stage, of a frame of each variant.

  vosrepro bench work --study params/studies/paper.yaml --write
  vosrepro bench work --study params/studies/paper.yaml --method stm --only train

Counted are matrix products and convolutions (a multiplication and its addition are two operations), forward and
backward for stages, while one real step or a short generated video runs on the CPU with random weights. `vosrepro
plan --sustained` turns the counts into an estimate of hours. Rows: "train", a sample; "first-visit", what is added
to a sample that a stage's cache does not hold yet; "init" and "infer", the first and a later frame.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.targets import Place, SourcePath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vosrepro.study.plan import Plan, Run

_SAME = ("kind", "identity", "objects")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and which part of it is counted."""
    from vosrepro.costs.rates import WORK
    from vosrepro.lab.infer import size_argument

    add = parser.add_argument
    add("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    add("--method", action="append", help="only this method (may be given several times)")
    add("--recipe", action="append", help="only frames of this recipe")
    add("--variant", action="append", help="only frames of this variant")
    add("--only", choices=("train", "infer"), help="only stages, or only frames")
    add("--batch", type=int, default=2, help="samples of a counted step (default: %(default)s)")
    add("--frames", type=int, default=9, help="of the counted video (default: %(default)s)")
    add("--frame-size", type=size_argument, default=(480, 854), metavar="HxW", help="of its frames (default: 480x854)")
    add("--objects", type=int, nargs="+", default=[1, 2], help="in its frames (default: 1 2)")
    add("--threads", type=int, help="CPU threads of torch")
    add("--again", action="store_true", help="also count what the file holds already")
    add("--write", type=Place, nargs="?", const=WORK, metavar="CSV", help=f"put rows into {WORK}")


def run(args: argparse.Namespace) -> int:
    """Count, print a line each, and write each row as soon as it is there."""
    import torch

    from vosrepro.base.errors import VosreproError
    from vosrepro.costs.rates import WORK, WORK_COLUMNS, load_work, put_rows
    from vosrepro.study.plan import load_plan

    if args.threads:
        torch.set_num_threads(args.threads)
    plan = load_plan(args.study)
    file = Path(args.write or WORK)
    known = {} if args.again or not file.is_file() else load_work(file)
    for job in _jobs(plan, args):
        done = {w.objects for w in known.get((job["kind"], job["identity"]), [])}
        if job["objects"] in done:
            continue
        began = time.monotonic()
        try:
            rows = list(_count(job, args))
        except (VosreproError, RuntimeError) as error:
            print(f"{job['method']} {job['kind']} {job['name']}: not counted: {error}")
            continue
        for row in rows:
            print(
                f"{row['method']:<6} {row['size']} {row['kind']:<12}{row['name']:<28}{row['objects']} objects "
                f"{float(row['gflop']):>10.2f} GFLOP",
                flush=True,
            )
        print(f"    ({time.monotonic() - began:.0f} s)", flush=True)
        if args.write:
            put_rows(args.write, WORK_COLUMNS, rows, same=_SAME)
    return 0


def _jobs(plan: Plan, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is to be counted, once each."""
    from vosrepro.costs.rates import frame_identity, sample_identity

    seen: set[tuple[str, int]] = set()
    common = {"size": plan.study.size}
    for node in plan.stages if args.only != "infer" else ():
        identity = sample_identity(node.method, node.model, node.params)
        if _wanted(args, node.method) and (identity, 0) not in seen:
            seen.add((identity, 0))
            yield {
                **common,
                "method": node.method,
                "kind": "train",
                "name": node.stage,
                "objects": 0,
                "identity": identity,
                "node": node,
            }
    for run, variant, settings in _frames(plan) if args.only != "train" else ():
        identity = frame_identity(run.method, plan.study.size, run.model, settings)
        wanted = _wanted(args, run.method) and variant in (args.variant or (variant,))
        for objects in args.objects:
            if not wanted or run.recipe not in (args.recipe or (run.recipe,)):
                continue
            if (identity, objects) not in seen:
                seen.add((identity, objects))
                yield {
                    **common,
                    "method": run.method,
                    "kind": "infer",
                    "objects": objects,
                    "name": f"{run.recipe}/{variant}",
                    "identity": identity,
                    "model": run.model,
                    "settings": settings,
                }


def _frames(plan: Plan) -> Iterator[tuple[Run, str, Mapping[str, Any]]]:
    """Variants that a network runs with, the one that selects its checkpoint first."""
    for run in plan.runs:
        if run.params.weights != "none":
            yield run, run.method_params.default_variant, run.default_variant_params
            for entry in plan.entries_of(run):
                yield run, entry.variant, entry.variant_params


def _wanted(args: argparse.Namespace, method: str) -> bool:
    return not args.method or method in args.method


def _count(job: dict[str, Any], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    import torch

    from vosrepro.costs.rates import WORK_COLUMNS
    from vosrepro.lab.work import gflop, stage_work
    from vosrepro.lab.work_infer import video_work

    base = {k: job[k] for k in WORK_COLUMNS if k in job} | {"torch": torch.__version__}
    how = f"vosrepro bench work --study {args.study}"
    if job["kind"] == "train":
        work = stage_work(job["node"], batch=args.batch)
        base["source"] = f"{how} --batch {args.batch}"
        yield {**base, "gflop": f"{work.step:.2f}"}
        if work.first_visit:
            yield {**base, "kind": "first-visit", "gflop": f"{work.first_visit:.2f}"}
        return
    size = "x".join(map(str, args.frame_size))
    base["source"] = f"{how} --frames {args.frames} --frame-size {size}"
    found = video_work(
        job["method"],
        job["model"],
        job["settings"],
        size=args.frame_size,
        frames=args.frames,
        objects=job["objects"],
        count=gflop,
    )
    yield {**base, "gflop": f"{found.step:.2f}"}
    yield {**base, "kind": "init", "gflop": f"{found.init:.2f}"}
