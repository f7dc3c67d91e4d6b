"""The weighted memory of samples from which the filters are re-trained.

Source: andr345/frtm-vos: model/memory.py; gbc-sid/MTMFI-VOS for the other growth rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def initial_weights(samples: int) -> torch.Tensor:
    """Weights of the augmented samples; the annotated frame counts double."""
    weights = torch.ones(samples, dtype=torch.float64)
    weights[0] = 2
    return weights / (samples + 1)


def updated_weights(
    gains: torch.Tensor,
    previous: torch.Tensor,
    *,
    rate: float,
    growth: Literal["divide", "multiply"] = "divide",
    protect_first: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights after a new sample took the slot of least weight (the first of equals).

    The newest sample tends to weight `rate` ("divide") or `rate` / (1 + `rate`) ("multiply"); older ones
    decay by a constant factor per sample, the annotated frame with them.

    Args:
        gains: (O, capacity), 0 where a slot is free.
        previous: int64 (O,), slot of the sample before, -1 if this is the first.
        rate: see above.
        growth: see above.
        protect_first: never give slot 0 away.

    Returns:
        New weights, summing to 1, and the slots (O,).
    """
    capacity = gains.shape[1]
    ranked = gains.clone()
    if protect_first:
        ranked[:, 0] = torch.inf
    slots = torch.arange(capacity, device=gains.device)
    least = ranked == ranked.amin(1, keepdim=True)
    slot = torch.where(least, slots, capacity).amin(1)  # ties: the first, on every device
    factor = 1 / (1 - rate) if growth == "divide" else 1 + rate
    first = previous < 0
    last = gains.gather(1, previous.clamp(min=0)[:, None])[:, 0] * factor
    new = torch.where(first, torch.full_like(last, rate), last)
    grown = torch.where(first[:, None], gains * factor, gains)
    grown = grown.scatter(1, slot[:, None], new[:, None])
    return grown / grown.sum(1, keepdim=True), slot


class SampleMemory:
    """Projected samples, their data terms and weights, for a growing number of objects.

    Attributes:
        gains: (O, capacity).
        last: int64 (O,), the slot that was filled last, -1 before.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.gains = torch.empty(0)
        self.last = torch.empty(0)
        self._samples = torch.empty(0)  # (O, capacity, c, N)
        self._terms: tuple[torch.Tensor, ...] = ()
        self._filled: list[int] = []  # upper bounds of the filled slots, known without the device

    @property
    def count(self) -> int:
        """Slots that may be filled, of the object with the most."""
        return max(self._filled, default=0)

    def add(self, samples: torch.Tensor, terms: tuple[torch.Tensor, ...], gains: torch.Tensor) -> None:
        """Take the first samples of new objects, each tensor (n, K, ...)."""
        count, first = samples.shape[:2]
        if first > self.capacity:
            raise ValueError(f"{first} first samples do not fit into a memory of {self.capacity}")
        last = torch.full((count,), -1, dtype=torch.int64, device=samples.device)
        if not len(self.gains):
            self.gains, self.last = self._room(gains), last
            self._samples, self._terms = self._room(samples), tuple(map(self._room, terms))
        else:
            self.gains = torch.cat([self.gains, self._room(gains)])
            self.last = torch.cat([self.last, last])
            self._samples = torch.cat([self._samples, self._room(samples)])
            pairs = zip(self._terms, terms, strict=True)
            self._terms = tuple(torch.cat([a, self._room(b)]) for a, b in pairs)
        self._filled += [first] * count

    def insert(
        self,
        rows: Sequence[int],
        samples: torch.Tensor,
        terms: tuple[torch.Tensor, ...],
        valid: torch.Tensor,
        rule: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """Store one sample for each of some objects.

        Args:
            rows: the n objects.
            samples: (n, c, N).
            terms: each (n, ...).
            valid: bool (n,); nothing changes for the others.
            rule: weights and previous slots -> new weights and slots.
        """
        index = torch.arange(len(self._filled), device=self.gains.device)
        if list(rows) != list(range(len(self._filled))):
            index = torch.tensor(rows, device=self.gains.device)
        gains, slots = rule(self.gains[index], self.last[index])
        for store, new in zip((self._samples, *self._terms), (samples, *terms), strict=True):
            old = store[index, slots]
            mask = valid.view(-1, *[1] * (old.dim() - 1))
            store[index, slots] = torch.where(mask, new.to(old), old)
        self.gains[index] = torch.where(valid[:, None], gains, self.gains[index])
        self.last[index] = torch.where(valid, slots, self.last[index])
        for row in rows:
            self._filled[row] = min(self.capacity, self._filled[row] + 1)

    def read(self, rows: Sequence[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]:
        """Samples, terms and weights of some objects; free slots have weight 0."""
        used = max(self._filled[row] for row in rows)
        pick: slice | torch.Tensor = slice(None)  # a view, if all objects are wanted
        if list(rows) != list(range(len(self._filled))):
            pick = torch.tensor(rows, device=self.gains.device)
        terms = tuple(term[pick, :used] for term in self._terms)
        return self._samples[pick, :used], terms, self.gains[pick, :used]

    def _room(self, x: torch.Tensor) -> torch.Tensor:
        room = x.new_zeros(x.shape[0], self.capacity, *x.shape[2:])
        room[:, : x.shape[1]] = x
        return room
