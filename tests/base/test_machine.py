"""What a process may use of its machine."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
import torch

from vosrepro.base import machine
from vosrepro.base.errors import ConfigError, DeviceError
from vosrepro.base.machine import peak_memory, peak_rss_mb, pick_device, usable_cores


@pytest.fixture
def eight(monkeypatch):
    """A machine whose affinity allows eight cores, outside of any container or scheduler."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_CPU_QUOTA", machine.Path("/nonexistent"))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


def test_cores_are_those_of_the_affinity(eight):
    assert usable_cores() == 8


def test_a_system_without_affinity_has_all_its_cores(eight, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("250000 100000", 3), ("50000 100000", 1), ("max 100000", 8), ("9900000 100000", 8), ("", 8), ("1 0", 8)],
)
def test_a_containers_quota_counts_rounded_up(eight, monkeypatch, tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(machine, "_CPU_QUOTA", tmp_path / "cpu.max")
    assert usable_cores() == cores


def test_a_task_of_slurm_has_the_cores_that_it_was_given(eight, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert usable_cores() == 2


@pytest.fixture
def two_gpus(monkeypatch):
    """Torch sees two GPUs; the one that was made current is in the list."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize(
    ("name", "rank", "device"),
    [("auto", 0, "cuda:0"), ("cuda", 1, "cuda:1"), ("cuda:1", 0, "cuda:1"), ("cpu", 1, "cpu")],
)
def test_a_process_gets_the_gpu_of_its_number_unless_one_is_named(two_gpus, name, rank, device):
    found = pick_device(name, local_rank=rank)
    assert str(found) == device
    assert two_gpus == ([found] if found.type == "cuda" else [])


@pytest.mark.parametrize(("name", "rank"), [("cuda:2", 0), ("auto", 2)])
def test_a_gpu_that_is_not_there_is_a_sentence(two_gpus, name, rank):
    with pytest.raises(DeviceError, match="GPU 2 is wanted, but torch sees 2; use --device cpu"):
        pick_device(name, local_rank=rank)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", ""])
def test_an_unknown_kind_of_device_is_a_sentence(name):
    with pytest.raises(ConfigError, match="use auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_peak_memory_is_in_millions_of_bytes_for_this_process_and_for_a_child():
    facts = peak_memory(torch.device("cpu"))
    assert facts["peak_rss_mb"] == pytest.approx(peak_rss_mb(), rel=0.2)
    assert facts["peak_gpu_allocated_mb"] is None
    subprocess.run([sys.executable, "-c", "x = bytearray(300_000_000)"], check=True)
    assert peak_rss_mb(resource.getrusage(resource.RUSAGE_CHILDREN)) > 300
