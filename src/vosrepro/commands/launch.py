"""Lease devices, then run a command on them: one process per GPU, or one on the CPU.

  vosrepro launch --gpus 4 -- train --study ... --stage s0     4 leased GPUs, 4 ranks
  vosrepro launch --gpus 0 -- train ...                        the CPU, one process
  vosrepro launch --gpus 0 --processes 2 -- train ...          the CPU, two ranks

Fewer GPUs than asked for are used with a warning, none means the CPU; VOSREPRO_REQUIRE_GPU=1 makes that
an error. Under SLURM the scheduler's devices are taken as they are.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Devices, processes, threads, and the command."""
    parser.add_argument("--gpus", type=int, default=1, help="devices to lease at most (default: 1)")
    parser.add_argument("--processes", type=int, help="ranks (default: one per device)")
    parser.add_argument("--threads", type=int, help="CPU threads of the whole job (default: all cores)")
    parser.add_argument(
        "--lease-timeout-s",
        type=float,
        default=24 * 3600.0,
        metavar="S",
        help="how long to wait for devices (default: a day)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="a vosrepro command")


def run(args: argparse.Namespace) -> int:
    """Launch."""
    from vosrepro.training.devices.launch import launch

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    return launch(
        command,
        gpus=args.gpus,
        processes=args.processes,
        threads=args.threads,
        timeout_s=args.lease_timeout_s,
    )
