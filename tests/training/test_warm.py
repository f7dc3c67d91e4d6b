"""A job in a fork of the warm process is the job that it would have been in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vosrepro.training.devices.launch import THREADS
from vosrepro.training.devices.requests import SOCKET, source_state

#: Imported by the warm process: what stands for the vosrepro command line.
JOBS = """
import json, os, signal, sys, time
from pathlib import Path
import vosrepro.cli

def main(arguments):
    name, *rest = arguments
    if name == "show":
        umask = os.umask(0)
        facts = {"arguments": rest, "folder": os.getcwd(), "umask": umask, "parent": os.getppid(),
                 "environment": dict(os.environ), "files": sorted(os.listdir("/proc/self/fd"))}
        Path("shown.json").write_text(json.dumps(facts))
        print("to the output")
        print("to the errors", file=sys.stderr)
        return int(rest[0])
    if name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    def stop(number, frame):
        Path("stopped").write_text(str(number))
        sys.exit(7)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Path("ready").write_text(str(os.getpid()))
    time.sleep(60)
    return 0

vosrepro.cli.main = main
"""

#: Stands for `vosrepro train --gpus 0`: status 99 says that no fork was to be had.
ASK = """
import os, sys
from vosrepro.training.devices.requests import run_warm
status = run_warm(sys.argv[1:], os.environ, [int(f) for f in os.environ.get("HELD", "").split()])
sys.exit(99 if status is None else status)
"""


def environment(folder, **more):
    return os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(folder)} | more


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    (folder / "stand_in_jobs.py").write_text(JOBS)
    path = folder / "warm"
    command = [sys.executable, "-m", "vosrepro.training.devices.warm", str(path), str(os.getpid()), "stand_in_jobs"]
    process = subprocess.Popen(command, env=environment(folder), start_new_session=True)
    wait_for(path.exists)
    yield path, process
    process.kill()
    process.wait()


@pytest.fixture
def ask(warm, tmp_path):
    def start(*arguments, held=(), **more):
        env = environment(tmp_path, **{SOCKET: str(warm[0])}, **more)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", ASK, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=env, pass_fds=held, **pipes)

    return start


def test_it_has_the_askers_arguments_folder_environment_mask_and_files(ask, warm, tmp_path):
    previous = os.umask(0o027)
    try:
        asked = ask("show", "5", COLOUR="blue")
    finally:
        os.umask(previous)
    out, err = asked.communicate()
    facts = json.loads((tmp_path / "shown.json").read_text())
    assert (asked.returncode, out, err) == (5, "to the output\n", "to the errors\n")
    assert facts["arguments"] == ["5"]
    assert facts["folder"] == str(tmp_path)
    assert facts["umask"] == 0o027
    assert facts["environment"] == environment(tmp_path, **{SOCKET: str(warm[0])}, COLOUR="blue")
    assert facts["parent"] == warm[1].pid


def test_it_holds_the_leases_of_its_asker_and_nothing_of_other_jobs(ask, tmp_path):
    other = ask("wait")
    wait_for((tmp_path / "ready").exists)
    with (tmp_path / "lease").open("w") as file:
        held = file.fileno()
        asked = ask("show", "0", held=(held,), HELD=str(held))
        asked.communicate()
    other.send_signal(signal.SIGTERM)
    other.communicate()
    # three standard files, the lease, and the folder that is being listed
    assert len(json.loads((tmp_path / "shown.json").read_text())["files"]) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_asker_reaches_it(ask, tmp_path, number):
    asked = ask("wait")
    wait_for((tmp_path / "ready").exists)
    asked.send_signal(number)
    asked.communicate()
    assert asked.returncode == 7
    assert (tmp_path / "stopped").read_text() == str(int(number))


def test_it_ends_when_its_asker_is_killed(ask, tmp_path):
    asked = ask("wait")
    ready = tmp_path / "ready"
    wait_for(lambda: ready.exists() and ready.read_text())
    job = int(ready.read_text())
    asked.kill()
    asked.communicate()
    wait_for(lambda: not Path(f"/proc/{job}").exists())


def test_a_death_by_signal_is_a_failure(ask):
    asked = ask("die")
    asked.communicate()
    assert asked.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("two threads", {"OMP_NUM_THREADS": "2"}),
        ("a job of a cluster", {"SLURM_JOB_ID": "17"}),
        ("no warm process", {SOCKET: "/nowhere/warm"}),
        ("none wanted", {SOCKET: ""}),
    ],
)
def test_what_would_not_be_the_same_there_is_started_another_way(ask, warm, tmp_path, why, more):
    env = environment(tmp_path, **{SOCKET: str(warm[0])}) | more
    asked = subprocess.run([sys.executable, "-c", ASK, "show", "0"], cwd=tmp_path, env=env)
    assert asked.returncode == 99, why
    assert not (tmp_path / "shown.json").exists()


def test_changed_code_is_noticed(tmp_path, monkeypatch):
    file = tmp_path / "module.py"
    file.write_text("a = 1\n")
    monkeypatch.setattr("vosrepro.training.devices.requests._PACKAGE", tmp_path)
    before = source_state()
    assert source_state() == before
    file.write_text("a = 2\n")
    os.utime(file, ns=(1, 1))
    assert source_state() != before


def test_it_ends_with_its_workflow(tmp_path):
    workflow = subprocess.Popen(["sleep", "60"])
    path = tmp_path / "own" / "warm"
    path.parent.mkdir()
    command = [sys.executable, "-m", "vosrepro.training.devices.warm", str(path), str(workflow.pid), "json"]
    process = subprocess.Popen(command, env=environment(tmp_path))
    wait_for(path.exists)
    workflow.kill()
    workflow.wait()
    assert process.wait(30) == 0
    assert not path.parent.exists()
