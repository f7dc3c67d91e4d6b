"""Starting one training job: lease devices, then run the command directly or as several ranks.

This module and what it imports never import torch: the devices must be chosen before torch is loaded, and
loading it twice costs seconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vosrepro.base.errors import ConfigError, DeviceError
from vosrepro.base.machine import usable_cores
from vosrepro.training.devices.lease import Lease, lease, lease_root
from vosrepro.training.devices.requests import run_warm
from vosrepro.training.devices.world import die_with_parent

log = logging.getLogger(__name__)

#: What libraries of linear algebra ask, once, for their number of threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: Whose `main` runs a command.
MODULE = "vosrepro.cli"


def visible_devices(environment: Mapping[str, str]) -> list[str]:
    """GPUs that this process may use: CUDA_VISIBLE_DEVICES if it is set, else what the driver lists."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in (part.strip() for part in named.split(",")) if name not in ("", "-1")]
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            lines = [line.strip() for line in result.stdout.splitlines()]
            if result.returncode == 0 and all(line.isdigit() for line in lines):
                return lines
    nodes = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted((name for name in nodes if name.isdigit()), key=int)


def usable_gpus(asked: int, pool: Sequence[str], environment: Mapping[str, str]) -> int:
    """How many GPUs the job gets: what was asked for, or fewer with a warning.

    Raises:
        DeviceError: if fewer are there and VOSREPRO_REQUIRE_GPU=1.
    """
    if asked <= len(pool):
        return asked
    if environment.get("VOSREPRO_REQUIRE_GPU") == "1":
        raise DeviceError(
            f"{asked} GPUs were asked for, but this machine shows {len(pool)}: check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or unset VOSREPRO_REQUIRE_GPU to run with what is there"
        )
    where = f"{len(pool)} GPUs" if pool else "the CPU"
    log.warning("%d GPUs were asked for, but this machine shows %d: using %s", asked, len(pool), where)
    return len(pool)


def threads_per_process(asked: int | None, processes: int) -> int:
    """CPU threads of each process: a fair share of what was asked for and of the usable cores."""
    cores = usable_cores()
    return max(1, min(asked or cores, cores) // processes)


def slurm_scope(environment: Mapping[str, str]) -> str:
    """A name for the devices that SLURM gave to this process and its siblings; empty outside of SLURM.

    Jobs and steps may each count their devices from 0, so a number says nothing without them.
    """
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NODEID")
    if names[0] not in environment:
        return ""
    return "-".join(["slurm", *(environment.get(name, "") for name in names)])


@contextlib.contextmanager
def devices_for(
    gpus: int, environment: Mapping[str, str], *, timeout_s: float, root: Path | None = None
) -> Iterator[Lease]:
    """A lease of devices: of the machine's, or inside a SLURM allocation of those that it was given.

    Args:
        gpus: how many at most; fewer are given (with a warning) where there are fewer.
        environment: of this process.
        timeout_s: how long to wait for a lease.
        root: folder of the lease files, see `vosrepro.training.devices.lease`.
    """
    if gpus == 0:
        yield Lease()
        return
    pool = visible_devices(environment)
    count = usable_gpus(gpus, pool, environment)
    scope = slurm_scope(environment)
    if scope:
        root = (root or lease_root(environment)) / scope
        root.mkdir(mode=0o700, exist_ok=True)
    with lease(count, pool, root=root, timeout_s=timeout_s) as given:
        if given.devices:
            log.info("leased GPU %s", ", ".join(given.devices))
        yield given


def child_environment(
    environment: Mapping[str, str], given: Lease, *, processes: int, threads: int | None
) -> dict[str, str]:
    """Environment of the ranks: their devices and threads."""
    env = dict(environment)
    env["CUDA_VISIBLE_DEVICES"] = ",".join(given.devices)
    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    share = str(threads_per_process(threads, processes))
    env |= dict.fromkeys(THREADS, share)
    if processes > 1 and int(environment.get("SLURM_JOB_NUM_NODES", "1")) == 1:
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are here, whatever the host is called
    return env


def torchrun_command(arguments: Sequence[str], processes: int, environment: Mapping[str, str]) -> list[str]:
    """How to start `processes` ranks of a vosrepro command here.

    On one machine the ranks meet on a free local port. Inside a SLURM job of several nodes, in which this
    launcher runs once per node (`srun --ntasks-per-node=1`), they meet at the first node.
    """
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    command = [sys.executable, "-m", "vosrepro.training.devices.ranks"]
    if nodes > 1:
        job = environment["SLURM_JOB_ID"]
        port = 20000 + int(job) % 20000
        command += [
            f"--nnodes={nodes}",
            f"--node-rank={environment['SLURM_NODEID']}",
            "--rdzv-backend=c10d",
            f"--rdzv-id={job}",
            f"--rdzv-endpoint={first_host(environment)}:{port}",
        ]
    else:
        command += ["--standalone", "--local-addr=127.0.0.1"]  # the host's name need not resolve
    return [*command, f"--nproc-per-node={processes}", "-m", MODULE, *arguments]


def first_host(environment: Mapping[str, str]) -> str:
    """The first node of a SLURM job: "node[03-05,9]" -> "node03"."""
    listed = environment["SLURM_JOB_NODELIST"].split(",")[0]
    name, bracket, rest = listed.partition("[")
    return name + rest.rstrip("]").split("-")[0] if bracket else name


def launch(
    arguments: Sequence[str],
    *,
    gpus: int,
    processes: int | None = None,
    threads: int | None = None,
    timeout_s: float = 24 * 3600.0,
    root: Path | None = None,
) -> int:
    """Run a vosrepro command on leased devices.

    With one process it runs in a fork of the workflow's warm process, or else this process *becomes* the command
    (the lease lives on in its descriptors); with several, torchrun starts them and this process waits.

    Args:
        arguments: the command, e.g. ["train", "--study", ...].
        gpus: devices to lease at most; 0 computes on the CPU.
        processes: ranks; None starts one per device, or one on the CPU.
        threads: CPU threads of the whole job; capped by the usable cores.
        timeout_s: how long to wait for devices.
        root: folder of the lease files.

    Returns:
        The command's exit status (128 + n if signal n ended it).

    Raises:
        ConfigError: if no command is given, or fewer processes than devices.
        DeviceError: if devices are required and missing, or stay taken.
    """
    if not arguments:
        raise ConfigError("give the command to launch after '--', e.g. `vosrepro launch -- train ...`")
    environment = dict(os.environ)
    with devices_for(gpus, environment, timeout_s=timeout_s, root=root) as given:
        ranks = processes or max(1, len(given.devices))
        if given.devices and ranks != len(given.devices):
            raise ConfigError(f"--processes {ranks} does not fit {len(given.devices)} GPUs: each process takes one")
        env = child_environment(environment, given, processes=ranks, threads=threads)
        nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
        if ranks == 1 and nodes == 1:
            status = run_warm(arguments, env, given.files)
            if status is not None:
                return status
            return _become([sys.executable, "-m", MODULE, *arguments], env, given)
        return _attend(torchrun_command(arguments, ranks, environment), env, given)


def _become(command: Sequence[str], env: Mapping[str, str], given: Lease) -> int:
    for file in given.files:
        os.set_inheritable(file, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], list(command), env)


def _attend(command: Sequence[str], env: Mapping[str, str], given: Lease) -> int:
    """Wait for the ranks' parent, passing signals on; it dies with this process."""
    begin = functools.partial(die_with_parent, signal.SIGTERM)
    child = subprocess.Popen(command, env=dict(env), pass_fds=given.files, preexec_fn=begin)
    previous = {
        number: signal.signal(number, lambda n, _frame: child.send_signal(n))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status
