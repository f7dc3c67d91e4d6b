from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError, DeviceError
from vosrepro.training.devices import launch as module
from vosrepro.training.devices.launch import (
    child_environment,
    devices_for,
    first_host,
    launch,
    threads_per_process,
    torchrun_command,
    usable_gpus,
    visible_devices,
)
from vosrepro.training.devices.lease import Lease, lease
from vosrepro.training.devices.world import World

#: Stands for the vosrepro command line: says what it was given, or waits.
FAKE = """
import json, os, signal, sys, time
keys = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "LOCAL_RANK")
if sys.argv[1] == "show":
    with open(f"rank{os.environ.get('RANK', '')}.json", "w") as file:
        json.dump({"pid": os.getpid(), **{k: os.environ.get(k) for k in keys}}, file)
elif sys.argv[1] == "wait":
    from vosrepro.training.devices.world import World, die_with_parent
    def stop(number, frame):
        open(f"stopped{os.environ.get('RANK', '')}", "w").close()
        sys.exit(1)
    signal.signal(signal.SIGTERM, stop)
    if World.from_environment().size > 1:
        die_with_parent()
    open(f"ready{os.environ.get('RANK', '')}", "w").write(str(os.getpid()))
    time.sleep(120)
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
"""

START = """
import sys
from pathlib import Path
from vosrepro.training.devices import launch
launch.MODULE = "fake_vosrepro"
status = launch.launch(sys.argv[3:], gpus=int(sys.argv[1]), processes=int(sys.argv[2]) or None, threads=2,
                       root=Path("leases"), timeout_s=5)
assert "torch" not in sys.modules
sys.exit(status)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start(gpus, processes, *command)`: a process that launches the fake command in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    Path("fake_vosrepro.py").write_text(FAKE)
    Path("leases").mkdir(mode=0o700)

    def begin(gpus, processes, *command, devices=""):
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": devices}
        return subprocess.Popen(
            [sys.executable, "-c", START, str(gpus), str(processes), *command],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def done(process, status=0):
    _, text = process.communicate(timeout=90)
    assert process.returncode == status, text
    return text


def until(condition, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def shown(name="rank.json"):
    return json.loads(Path(name).read_text())


def test_one_process_becomes_the_command_itself(start):
    process = start(1, 0, "show", "3", devices="5")
    done(process, 3)
    assert shown()["pid"] == process.pid
    assert shown()["CUDA_VISIBLE_DEVICES"] == "5"
    assert shown()["RANK"] is None


def test_without_a_gpu_the_command_runs_on_the_cpu(start):
    done(start(2, 0, "show"))
    assert shown()["CUDA_VISIBLE_DEVICES"] == ""
    assert int(shown()["OMP_NUM_THREADS"]) == min(2, len(os.sched_getaffinity(0)))


def test_the_command_keeps_its_lease_until_it_ends(start, tmp_path):
    process = start(1, 0, "wait", devices="0")
    until(Path("ready").exists)
    root = tmp_path / "leases"
    with (
        pytest.raises(DeviceError, match=f"taken by process {process.pid}"),
        lease(1, ["0"], root=root, timeout_s=0.05, poll_s=0.01),
    ):
        pass
    process.kill()
    process.communicate()
    with lease(1, ["0"], root=root, timeout_s=1, poll_s=0.01):
        pass


@pytest.mark.slow
def test_several_processes_are_ranks_and_share_devices_and_threads(start):
    done(start(2, 0, "show", devices="6,7"))
    ranks = [shown(f"rank{i}.json") for i in range(2)]
    assert [r["RANK"] for r in ranks] == ["0", "1"]
    assert {r["WORLD_SIZE"] for r in ranks} == {"2"}
    assert {r["CUDA_VISIBLE_DEVICES"] for r in ranks} == {"6,7"}
    assert {r["OMP_NUM_THREADS"] for r in ranks} == {"1"}


@pytest.mark.slow
def test_sigterm_reaches_the_ranks_and_the_status_is_theirs(start):
    process = start(0, 2, "wait")
    until(lambda: Path("ready0").exists() and Path("ready1").exists())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert Path("stopped0").exists()
    assert Path("stopped1").exists()


@pytest.mark.slow
def test_ranks_die_with_a_killed_launcher_and_its_devices_are_free(start, tmp_path):
    process = start(2, 0, "wait", devices="0,1")
    until(lambda: Path("ready0").exists() and Path("ready1").exists())
    pids = [int(Path(f"ready{i}").read_text()) for i in range(2)]
    process.kill()
    process.communicate()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 40)
    with lease(2, ["0", "1"], root=tmp_path / "leases", timeout_s=40, poll_s=0.05):
        pass


def test_visible_devices_come_from_the_environment_or_the_driver(monkeypatch, tmp_path):
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "2, 0"}) == ["2", "0"]
    assert visible_devices({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_devices({}) == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    nodes = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]"))
    assert visible_devices({}) == nodes


def test_fewer_gpus_are_used_with_a_warning_unless_they_are_required(caplog):
    assert usable_gpus(4, ["0", "1"], {}) == 2
    assert usable_gpus(1, [], {}) == 0
    assert "using the CPU" in caplog.text
    with pytest.raises(DeviceError, match="unset VOSREPRO_REQUIRE_GPU"):
        usable_gpus(1, [], {"VOSREPRO_REQUIRE_GPU": "1"})


def test_jobs_inside_one_allocation_share_its_devices_and_other_allocations_do_not_matter(tmp_path):
    env = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "1,2"}
    other = {**env, "SLURM_JOB_ID": "8"}  # whose devices 1 and 2 are two others
    with (
        devices_for(1, env, timeout_s=0, root=tmp_path) as first,
        devices_for(1, env, timeout_s=0, root=tmp_path) as second,
        devices_for(2, other, timeout_s=0, root=tmp_path) as third,
    ):
        assert (first.devices, second.devices, third.devices) == (("1",), ("2",), ("1", "2"))
        with pytest.raises(DeviceError, match="did not become free"), devices_for(1, env, timeout_s=0, root=tmp_path):
            pass
    with devices_for(2, env, timeout_s=0, root=tmp_path) as again:
        assert again.devices == ("1", "2")


def test_threads_are_shared_and_capped_by_the_usable_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert threads_per_process(None, 1) == 8
    assert threads_per_process(6, 2) == 3
    assert threads_per_process(100, 4) == 2
    assert threads_per_process(1, 4) == 1


def test_a_multi_node_job_meets_at_its_first_node():
    env = {
        "SLURM_JOB_ID": "123",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_JOB_NODELIST": "gpu[03-04,9],x1",
    }
    command = torchrun_command(["train"], 4, env)
    assert "--rdzv-endpoint=gpu03:20123" in command
    assert "--nnodes=2" in command
    assert command[-1] == "train"
    assert "GLOO_SOCKET_IFNAME" not in child_environment(env, Lease(), processes=4, threads=None)
    assert first_host({"SLURM_JOB_NODELIST": "a7,a9"}) == "a7"
    here = torchrun_command(["train"], 2, {})
    assert "--standalone" in here
    assert "--local-addr=127.0.0.1" in here  # the name of the host need not resolve


def test_wrong_uses_are_explained(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="after '--'"):
        launch([], gpus=0)
    monkeypatch.setattr(module, "visible_devices", lambda env: ["0", "1"])
    with pytest.raises(ConfigError, match="--processes 3 does not fit 2 GPUs"):
        launch(["train"], gpus=2, processes=3, root=tmp_path)
    with pytest.raises(ConfigError, match="must be numbers"):
        World.from_environment({"RANK": "x"})


SELF = """
import sys
from vosrepro.training.devices import launch
launch.MODULE = "fake_vosrepro"
from vosrepro.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_itself(*arguments):
    env = {**os.environ, "PYTHONPATH": ".", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, "-c", SELF, *arguments], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["train", "infer", "select"])
def test_a_command_with_gpus_starts_itself_again_with_its_other_arguments(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("fake_vosrepro.py").write_text(
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules]))"
    )
    own = ["--study", "a.yaml", "--method", "stm", "--recipe", "r", "--seed", "3", "--anew", "7"]
    own += ["--stage", "s0", "--device", "cpu", "--micro-batch", "2"] if command == "train" else ["--device", "cpu"]
    done = run_itself(command, "--gpus", "0", "--threads", "1", *own)
    assert done.returncode == 0, done.stderr
    (name, *given), threads, torch_loaded = json.loads(done.stdout)
    assert name == command
    assert sorted(zip(given[::2], given[1::2], strict=True)) == sorted(zip(own[::2], own[1::2], strict=True))
    assert (threads, torch_loaded) == ("1", False)


def test_ranks_without_devices_to_lease_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["--study", "a.yaml", "--method", "stm", "--recipe", "r", "--seed", "3", "--stage", "s0"]
    done = run_itself("train", "--processes", "2", *own)
    assert done.returncode == 2
    assert "--processes needs --gpus" in done.stderr
