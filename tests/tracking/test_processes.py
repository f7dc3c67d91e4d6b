from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from vosrepro.tracking.processes import Lock, Process, lived_at


def test_a_process_is_alive_until_it_ends_even_unreaped() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process(child.pid)
    assert process.alive()
    child.kill()
    deadline = time.monotonic() + 5
    while process.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.alive()  # a zombie now
    child.wait()
    assert not Process(child.pid).alive()


def test_a_process_did_not_live_before_it_began() -> None:
    assert lived_at(os.getpid(), time.time())
    assert not lived_at(os.getpid(), time.time() - 1e6)
    assert not lived_at(2**22 + 1, time.time())


def test_a_lock_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    code = (
        "import sys, time; from vosrepro.tracking.processes import Lock;"
        "lock = Lock(sys.argv[1]); print(lock.acquire(), flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    lock = Lock(path)
    assert not lock.acquire()
    assert lock.holder()["pid"] == child.pid
    child.kill()
    child.wait()
    assert lock.acquire()
    assert lock.holder()["pid"] == os.getpid()
    assert not Lock(path).acquire()
    lock.release()
    assert Lock(path).acquire()
