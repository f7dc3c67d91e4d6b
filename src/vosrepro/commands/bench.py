"""Measure speed and memory; every figure is meant to be rerun by anyone.

vosrepro bench score   the scorer against other scorers, side by side
vosrepro bench infer   frames per second, latency and memory of a method
vosrepro bench train   samples per second of loader, step and both
vosrepro bench work    floating-point operations of a study's samples and frames
vosrepro bench pml     metric learning's search and bilateral solver beside the forms they replace
vosrepro bench target  target models' solver and the reuse gate beside the forms they replace
vosrepro bench parts   all parts in one correlation beside a loop over parts; classification
vosrepro bench precision   masks in bfloat16 beside those in float32, with trained weights
vosrepro bench gpu-check   all of this that a GPU should do, in minutes, against the goals
"""

from __future__ import annotations

import argparse
import importlib

from vosrepro.base.targets import refuse_arguments

_MODULES = {
    "score": "vosrepro.lab.score",
    "infer": "vosrepro.lab.infer",
    "train": "vosrepro.lab.train",
    "work": "vosrepro.lab.work_command",
    "pml": "vosrepro.lab.pml",
    "target": "vosrepro.lab.target",
    "parts": "vosrepro.lab.parts",
    "precision": "vosrepro.lab.precision",
    "gpu-check": "vosrepro.lab.gpu_check",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The name of the benchmark; the rest belongs to it."""
    parser.add_argument("what", choices=sorted(_MODULES))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="see `vosrepro bench WHAT --help`")


def run(args: argparse.Namespace) -> int:
    """Run one benchmark."""
    module = importlib.import_module(_MODULES[args.what])
    parser = argparse.ArgumentParser(
        prog=f"vosrepro bench {args.what}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    given = parser.parse_args(args.rest)
    refuse_arguments(vars(given))
    return int(module.run(given) or 0)
