"""Lease devices, then run a command on them: one process per GPU, or one on the CPU.

  vosrepro launch --gpus 4 -- bench train ...                  4 leased GPUs, 4 ranks
  vosrepro launch --gpus 0 -- bench train ...                  the CPU, one process
  vosrepro launch --gpus 0 --processes 2 -- bench train ...    the CPU, two ranks

`train`, `select` and `infer` do it themselves with the same options: `vosrepro train --gpus 4 --study ...`.

Fewer GPUs than asked for are used with a warning, none means the CPU; VOSREPRO_REQUIRE_GPU=1 makes that
an error. Under SLURM the scheduler's devices are taken as they are.
"""

from __future__ import annotations

import argparse

from vosrepro.base.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Devices, processes, threads, and the command."""
    parser.add_argument("--gpus", type=int, default=1, help="devices to lease at most (default: 1)")
    parser.add_argument("--threads", type=int, help="CPU threads of the whole job (default: all cores)")
    _add_lease_arguments(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="a vosrepro command")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """How a command that can lease devices itself is told to; see `run_leased`."""
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="lease at most N devices and compute with one process on each; 0: on the CPU "
        "(default: compute in this process, with what it sees)",
    )
    parser.add_argument("--threads", type=int, help="CPU threads; with --gpus, of all processes together")
    _add_lease_arguments(parser)


def _add_lease_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, help="with --gpus: ranks (default: one per device)")
    parser.add_argument(
        "--lease-timeout-s",
        type=float,
        default=24 * 3600.0,
        metavar="S",
        help="how long to wait for devices (default: a day)",
    )


def run_leased(args: argparse.Namespace, command: str) -> int | None:
    """Run the same command again on leased devices, or return None if `args` ask for none.

    The devices must be chosen before torch is loaded, hence the second process. Every other argument must be of
    the form `--name value`.
    """
    if args.gpus is None:
        if args.processes is not None:
            raise ConfigError("--processes needs --gpus: give --gpus 0 for ranks on the CPU")
        return None
    from vosrepro.training.devices.launch import launch

    leasing = ("gpus", "threads", "processes", "lease_timeout_s")
    others = {name: value for name, value in vars(args).items() if name not in leasing and value is not None}
    words = [word for name, value in others.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return launch(
        [command, *words],
        gpus=args.gpus,
        processes=args.processes,
        threads=args.threads,
        timeout_s=args.lease_timeout_s,
    )


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
