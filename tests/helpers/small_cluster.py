"""A SLURM cluster on this machine: two nodes of two devices that do not exist, gone when the tests end."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
NODES = ("n1", "n2")
_SETTINGS = """
ClusterName=small
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=300
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname=localhost Port={ports[1]} CPUs=16 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname=localhost Port={ports[2]} CPUs=16 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """What a cluster needs and this machine lacks (Debian: slurm-wlm and munge)."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@dataclass(frozen=True)
class Cluster:
    """A running cluster; its commands find it by `environment`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a shell of a person on this cluster holds."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder / 'bin'}{os.pathsep}{_path()}"}

    def ask(self, *command: str) -> str:
        """Standard output of one of SLURM's commands."""
        environment = os.environ | self.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}{self.logs()}"
        return done.stdout

    def jobs(self, rule: str = "") -> dict[str, tuple[str, str]]:
        """State and nodes of the jobs that wait or run, by number; of one rule only, if it is named."""
        lines = self.ask("squeue", "--noheader", "--format=%i|%T|%N|%k").splitlines()
        rows = [line.split("|") for line in lines]
        return {row[0]: (row[1], row[2]) for row in rows if rule in row[3]}

    def occupy(self, node: str) -> str:
        """Let a job of somebody else hold one device of a node; its number."""
        options = ["--parsable", f"--nodelist={node}", "--gpus=1", "--mem=100", "--output=/dev/null"]
        job = self.ask("sbatch", *options, "--wrap=sleep 600").strip()
        wait(lambda: self.jobs().get(job, ("", ""))[0] == "RUNNING", f"a job on {node}", self.logs)
        return job

    def logs(self) -> str:
        """The ends of the daemons' logs, for failures."""
        return "".join(f"\n== {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


def wait(reached, what: str, explain=lambda: "", seconds: float = 120) -> None:
    """Return once `reached()` is true; fail after a while."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}{explain()}"
        time.sleep(0.2)


@contextlib.contextmanager
def small_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster of two nodes, both on this machine, whose files lie in `folder`; its daemons end with it."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    settings = _SETTINGS.format(user=getpass.getuser(), folder=folder, ports=_free_ports(3))
    (folder / "slurm.conf").write_text(settings)
    (folder / "gres.conf").write_text("AutoDetect=off\nNodeName=n[1-2] Name=gpu Count=2 File=/dev/full,/dev/zero\n")
    _find_settings_in_jobs(folder)
    cluster = Cluster(folder)
    places = [f"--{name}={folder}/munge.{ending}" for name, ending in _MUNGE]
    commands = [["munged", "--foreground", "--force", *places], ["slurmctld", "-D", "-i"]]
    commands += [["slurmd", "-D", "-N", node] for node in NODES]
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            stack.enter_context(_daemon(command, folder / f"{number}-{command[0]}.out.log", cluster))
            if command[0] == "munged":
                wait((folder / "munge.socket").exists, "munged", cluster.logs)
        wait(lambda: _idle(cluster), "two idle nodes", cluster.logs)
        yield cluster
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            cluster.ask("scancel", "--user", getpass.getuser())
            wait(lambda: not cluster.jobs(), "the jobs' end", seconds=40)


def _find_settings_in_jobs(folder: Path) -> None:
    """A job sheds all variables of SLURM before it starts a step, and this cluster is not the one of /etc."""
    program = folder / "bin/srun"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    program.chmod(0o755)


_MUNGE = (("socket", "socket"), ("key-file", "key"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))


@contextlib.contextmanager
def _daemon(command: list[str], log: Path, cluster: Cluster) -> Iterator[None]:
    environment = os.environ | cluster.environment
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _idle(cluster: Cluster) -> bool:
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    done = subprocess.run(command, env=os.environ | cluster.environment, capture_output=True, text=True, timeout=60)
    return done.stdout.split() == ["idle"] * len(NODES)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
