"""The reference pool: labelled cells of the given masks, and confident cells of recent frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError
from vosrepro.methods.pml.search import Neighbors, nearest_cells
from vosrepro.methods.pml.votes import Ties, hard_vote, margin_vote, soft_vote

Vote = Literal["hard", "soft", "margin"]


@dataclass(frozen=True)
class Adaptation:
    """Online adaptation: which cells of a segmented frame join the pool.

    The paper reports that it adapts but not how in the parts that could be read; this definition is ours.

    Attributes:
        max_frames: additions of this many frames are kept, first in, first out; 0 switches it off.
        agree: neighbours that must carry the predicted label; None for all.
        max_distance2: largest squared distance of the nearest neighbour (4: no limit).
        stride: every stride-th confident cell in raster order joins.
    """

    max_frames: int = 0
    agree: int | None = None
    max_distance2: float = 4.0
    stride: int = 1

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: naming the value.
        """
        if self.max_frames < 0 or self.stride < 1:
            raise ConfigError(
                f"adaptation over {self.max_frames} frames with stride {self.stride} makes no sense: "
                "give max_frames 0 or more and stride 1 or more"
            )


@dataclass(frozen=True)
class Answer:
    """What the pool says about the cells of one frame.

    Attributes:
        labels: int64 (Q,) hard vote.
        agree: int64 (Q,) neighbours with that label.
        neighbors: the neighbours themselves.
    """

    labels: torch.Tensor
    agree: torch.Tensor
    neighbors: Neighbors


class ReferencePool:
    """Cells with known labels, in the order: given, then additions from oldest to newest.

    Attributes:
        count: number of labels, background included.
    """

    def __init__(self, k: int, adaptation: Adaptation, *, ties: Ties = "background") -> None:
        """Make an empty pool that votes with k neighbours; `ties` as of `votes.hard_vote`."""
        self.count = 1
        self._ties: Ties = ties
        self._k = k
        self._adaptation = adaptation
        self._given: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._added: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=adaptation.max_frames or None)

    def __len__(self) -> int:
        """Cells in the pool."""
        return sum(len(labels) for _, labels in (*self._given, *self._added))

    def give(self, cells: torch.Tensor, fractions: torch.Tensor) -> None:
        """Add cells that stay for ever.

        Args:
            cells: (N, C) embeddings.
            fractions: (N, L) share of each label, background first; L may exceed the labels so far.
        """
        self.count = max(self.count, fractions.shape[1])
        self._given.append((cells, fractions))

    def ask(self, cells: torch.Tensor) -> Answer:
        """Label the cells (Q, C) of a frame by their k nearest neighbours.

        Raises:
            ConfigError: if the pool has fewer than k cells.
            CheckpointError: if an embedding is not finite.
        """
        pool, fractions = self.contents()
        found = nearest_cells(cells, pool, self._k)
        labels, agree = hard_vote(fractions.argmax(1)[found.index], self.count, ties=self._ties)
        return Answer(labels, agree, found)

    def vote(self, cells: torch.Tensor, answer: Answer, *, vote: Vote, temperature: float) -> torch.Tensor:
        """Label probabilities (Q, L) of the cells by the given rule."""
        if vote == "hard":
            return F.one_hot(answer.labels, self.count).to(cells.dtype)
        pool, fractions = self.contents()
        if vote == "soft":
            return soft_vote(fractions, answer.neighbors.index)
        labels = fractions.argmax(1)
        return margin_vote(cells, pool, labels, count=self.count, k=self._k, temperature=temperature)

    def adapt(self, cells: torch.Tensor, answer: Answer) -> torch.Tensor:
        """Let the confident cells of a frame join; returns bool (Q,), which did."""
        rule = self._adaptation
        if rule.max_frames == 0:
            return torch.zeros_like(answer.labels, dtype=torch.bool)
        agree = self._k if rule.agree is None else rule.agree
        sure = (answer.agree >= agree) & (answer.neighbors.distance2[:, 0] <= rule.max_distance2)
        chosen = sure.nonzero()[:, 0][:: rule.stride]
        fractions = F.one_hot(answer.labels[chosen], self.count).to(cells.dtype)
        self._added.append((cells[chosen], fractions))
        joined = torch.zeros_like(sure)
        joined[chosen] = True
        return joined

    def contents(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All cells (N, C) and their label fractions (N, L)."""
        blocks = (*self._given, *self._added)
        cells = torch.cat([block for block, _ in blocks])
        fractions = [F.pad(f, (0, self.count - f.shape[1])) for _, f in blocks]
        return cells, torch.cat(fractions)
