from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from vosrepro.base.errors import DeviceError
from vosrepro.training.devices.lease import lease, lease_root

POOL = ("0", "1", "2", "3")


def claim(root, count, log, hold_s):
    """Hold `count` devices for a while; write when it began and ended."""
    with lease(count, POOL, root=root, timeout_s=60, poll_s=0.01) as given:
        began = time.monotonic()
        time.sleep(hold_s)
        ended = time.monotonic()
        with log.open("a") as file:
            file.writelines(f"{device} {began} {ended}\n" for device in given.devices)


def test_many_claimants_never_share_a_device(tmp_path):
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    workers = [context.Process(target=claim, args=(tmp_path, 1 + i % 3, log, 0.02)) for i in range(24)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    uses: dict[str, list[tuple[float, float]]] = {}
    for line in log.read_text().splitlines():
        device, began, ended = line.split()
        uses.setdefault(device, []).append((float(began), float(ended)))
    assert sum(map(len, uses.values())) == sum(1 + i % 3 for i in range(24))
    assert set(uses) <= set(POOL)  # on a busy machine one may never be needed
    for spans in uses.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_devices_of_a_killed_holder_are_free_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vosrepro.training.devices.lease import lease\n"
        "with lease(4, list('0123'), root=Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(DeviceError, match=f"GPU 0 was last taken by process {holder.pid}"),
        lease(1, POOL, root=tmp_path, timeout_s=0.05, poll_s=0.01),
    ):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lease(4, POOL, root=tmp_path, timeout_s=1, poll_s=0.01) as given:
        assert given.devices == POOL


def test_a_child_that_inherits_the_lease_keeps_it(tmp_path):
    with lease(1, ["0"], root=tmp_path) as given:
        child = subprocess.Popen(["sleep", "60"], pass_fds=given.files)
    with (
        pytest.raises(DeviceError, match="did not become free"),
        lease(1, ["0"], root=tmp_path, timeout_s=0.05, poll_s=0.01),
    ):
        pass
    child.kill()
    child.wait()
    with lease(1, ["0"], root=tmp_path, timeout_s=1, poll_s=0.01):
        pass


def test_all_or_nothing(tmp_path):
    with lease(3, POOL, root=tmp_path):
        with (
            pytest.raises(DeviceError, match="2 of 4 GPUs did not become free"),
            lease(2, POOL, root=tmp_path, timeout_s=0.05, poll_s=0.01),
        ):
            pass
        with lease(1, POOL, root=tmp_path, timeout_s=1, poll_s=0.01) as given:
            assert given.devices == ("3",)


def test_more_devices_than_there_are_is_an_error_and_none_is_no_lease(tmp_path):
    with pytest.raises(DeviceError, match="5 GPUs were asked for, but there are 4"), lease(5, POOL):
        pass
    with lease(0, POOL, root=tmp_path / "absent") as given:
        assert given.devices == ()


def test_the_folder_of_locks_is_private_and_local(tmp_path):
    root = lease_root({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert root.parent == tmp_path
    assert root.stat().st_mode & 0o777 == 0o700
    assert str(os.getuid()) in root.name
    assert lease_root({"XDG_RUNTIME_DIR": str(tmp_path)}) == root  # not made twice
    root.rmdir()
    root.write_text("")
    with pytest.raises(DeviceError, match=rf"{root.name} is not a folder of yours: remove it or set XDG_RUNTIME_DIR"):
        lease_root({"XDG_RUNTIME_DIR": str(tmp_path)})
