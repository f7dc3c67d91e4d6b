"""The processes of one training job: who am I, what do the others have.

Torch is imported where it is used, because the launcher asks this module too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from vosrepro.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

_TIMEOUT = timedelta(minutes=30)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class World:
    """One rank's place among the processes that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> World:
        """What torchrun set: RANK, WORLD_SIZE and LOCAL_RANK; one process without them."""
        env = os.environ if environment is None else environment
        try:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
            rank, size, local = (int(env.get(n, d)) for n, d in zip(names, (0, 1, 0), strict=True))
        except ValueError as error:
            raise ConfigError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers ({error})") from error
        return cls(rank, size, local)

    @property
    def first(self) -> bool:
        """Whether this rank writes files and messages."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Indices of the global batch that this rank computes.

        Raises:
            ConfigError: if there are more processes than samples.
        """
        if self.size > batch_size:
            raise ConfigError(
                f"{self.size} processes cannot share a batch of {batch_size}: ask for fewer GPUs or processes"
            )
        return range(self.rank, batch_size, self.size)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values


@contextlib.contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """Hold the process group of a job: NCCL for GPUs, gloo for CPUs, nothing for one process."""
    if world.size == 1:
        yield
        return
    import torch.distributed as dist

    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to signal this process when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
