"""The machine under a job: usable cores, devices, peak memory, and what the hardware is called."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    import torch

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MB = 1e6
_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's


def usable_cores() -> int:
    """Cores that this process may use: by its affinity, its container's quota, and its SLURM task."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (_quota(), os.environ.get("SLURM_CPUS_PER_TASK", ""))
    return max(1, min([cores, *(int(limit) for limit in limits if limit.isdigit())]))


def pick_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device of a process: "auto" (a GPU if torch sees one), "cpu", "cuda" or "cuda:N".

    Args:
        name: what a person asked for.
        local_rank: number of this process on its machine, which is its GPU where the name has none.

    Raises:
        ConfigError: if there is no such kind of device.
        DeviceError: if it is not there.
    """
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not seen):
        return torch.device("cpu")
    kind, _, number = ("cuda" if name == "auto" else name).partition(":")
    if kind != "cuda" or not (number.isdigit() or number == ""):
        raise ConfigError(f"there is no device '{name}': use auto, cpu, cuda or cuda:N")
    index = int(number or local_rank)
    if index >= seen:
        raise DeviceError(
            f"device {name} was asked for: GPU {index} is wanted, but torch sees {seen}; use --device cpu or auto, "
            "or fewer --gpus"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def computes_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself; others emulate it, which takes longer than float32."""
    if device.type == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not _BF16_FLAGS.isdisjoint(_cpu_flags())


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Peak memory of this process so far, in MB (10^6 bytes)."""
    facts: dict[str, float | None] = {
        "peak_rss_mb": peak_rss_mb(),
        "peak_gpu_allocated_mb": None,
        "peak_gpu_reserved_mb": None,
    }
    if device.type == "cuda":
        import torch

        facts["peak_gpu_allocated_mb"] = torch.cuda.max_memory_allocated(device) / _MB
        facts["peak_gpu_reserved_mb"] = torch.cuda.max_memory_reserved(device) / _MB
    return facts


def peak_rss_mb(usage: resource.struct_rusage | None = None) -> float:
    """Peak resident memory in MB of this process, or of the child that a usage belongs to."""
    peak = (usage or resource.getrusage(resource.RUSAGE_SELF)).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _MB


def usage() -> dict[str, float]:
    """CPU seconds of this process and of its children that have ended, and its peak memory in MB (10^6 bytes)."""
    times = os.times()
    spent = times.user + times.system + times.children_user + times.children_system
    return {"cpu_seconds": round(spent, 2), "peak_rss_mb": round(peak_rss_mb(), 1)}


def device_name(device: torch.device) -> str:
    """What a device is called in tables: the GPU's model, or "cpu"."""
    if device.type != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)


@cache
def hardware() -> dict[str, Any]:
    """Processor, usable cores and, when torch is already loaded, the accelerator's name."""
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "machine": platform.machine(),
        "gpu": None,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
        facts["gpu_count"] = torch.cuda.device_count()
    return facts


def _quota() -> str:
    """Whole cores of the container's quota, rounded up; "" without one."""
    try:
        quota, period = _CPU_QUOTA.read_text().split()[:2]
        return "" if quota == "max" else str(-(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return ""


def _cpu_flags() -> set[str]:
    """What the processor can do, in the kernel's words; empty where the kernel does not say."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), set()
    )


def _cpu_name() -> str:
    try:
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
