"""Sums of what a job reports between two log lines, over steps and over processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vosrepro.training.devices.world import World


class Meter:
    """Averages over the samples since the last report; tensors stay on their device until then.

    Args:
        device: where the sums are kept.
        batch_size: samples of one step over all processes.
    """

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self._device = device
        self._batch_size = batch_size
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self.waited_s = 0.0
        self._since = time.perf_counter()
        self._timed_steps = 0

    def add(self, values: Mapping[str, Any], *, samples: int) -> None:
        """Add the means of some samples."""
        for name, value in values.items():
            scalar = torch.as_tensor(value, dtype=torch.float32, device=self._device).detach()
            before = self._sums.get(name)
            self._sums[name] = scalar * samples if before is None else before + scalar * samples

    def step_done(self) -> None:
        """Count one step."""
        self._steps += 1
        self._timed_steps += 1

    def report(self, world: World) -> dict[str, float]:
        """Averages "train/<name>" and times "time/..." since the last report; starts anew.

        Every rank must call this at the same step.
        """
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names]).double()
        means = (world.sum(sums) / (self._steps * self._batch_size)).tolist()
        passed = max(time.perf_counter() - self._since, 1e-9)
        result = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        result["time/samples_per_second"] = self._timed_steps * self._batch_size / passed
        result["time/loader_share"] = min(1.0, self.waited_s / passed)
        self._sums, self._steps = {}, 0
        self.waited_s, self._since, self._timed_steps = 0.0, time.perf_counter(), 0
        return result

    def state_dict(self) -> dict[str, Any]:
        """The sums of an unfinished window; times are not kept."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue an unfinished window."""
        self._sums = {name: value.to(self._device) for name, value in state["sums"].items()}
        self._steps = int(state["steps"])


class LossGuard:
    """Remembers the first step whose loss is not finite, without waiting for the device.

    Args:
        device: where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def note(self, loss: torch.Tensor, *, step: int) -> None:
        """Look at the loss of a step (a scalar)."""
        fresh = (self._first < 0) & ~torch.isfinite(loss.detach())
        self._first = torch.where(fresh, step, self._first)

    def first_bad_step(self) -> int | None:
        """The first such step, or None; waits for the device."""
        step = int(self._first)
        return None if step < 0 else step
