"""From nearest neighbours to labels: hard, soft and margin votes."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from vosrepro.methods.pml.search import label_similarity

#: What becomes of two labels with equally many neighbours.
Ties = Literal["background", "nearest"]
_BINARY = 2


def hard_vote(neighbors: torch.Tensor, count: int, *, ties: Ties = "background") -> tuple[torch.Tensor, torch.Tensor]:
    """Majority of the neighbours' labels; a tie goes to the tied label that owns the nearest one.

    Args:
        neighbors: int64 (Q, k) labels of the neighbours, nearest first.
        count: number of labels.
        ties: of background and one object, which an even k can have: "background", as the seed, whose object
            needs more than k / 2, or "nearest", as with more labels.

    Returns:
        int64 (Q,) labels, and int64 (Q,) how many neighbours carry them.

    Source: sydney0zq/PML: infer_bs.py for two labels; more labels and the tie rule are ours.
    """
    votes = F.one_hot(neighbors, count).sum(1)
    most = votes.amax(1, keepdim=True)
    first = (votes.gather(1, neighbors) == most).int().argmax(1, keepdim=True)
    labels = neighbors.gather(1, first)[:, 0]
    if count == _BINARY and ties == "background":
        labels = torch.where(votes[:, 0] == votes[:, 1], 0, labels)
    return labels, most[:, 0]


def soft_vote(fractions: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Mean of the neighbours' label fractions: fractions (N, L), index (Q, k) -> (Q, L)."""
    return fractions[index].mean(1)


def margin_vote(
    query: torch.Tensor,
    pool: torch.Tensor,
    labels: torch.Tensor,
    *,
    count: int,
    k: int,
    temperature: float,
) -> torch.Tensor:
    """Softmax over labels of the similarity that decides a k-neighbour majority.

    For two labels and odd k its arg-max is the hard vote; in between it is smooth, so that upsampling
    can place the boundary between two cells.

    Args:
        query: (Q, C).
        pool: (N, C).
        labels: int64 (N,), 0..count - 1.
        count: number of labels.
        k: number of neighbours.
        temperature: similarity difference that makes odds of e.

    Returns:
        (Q, count), rows sum to 1; a label with fewer than (k + 1) // 2 cells is judged by those it has.

    Deviation: ours; the publications vote hard or do not say.
    """
    rank = k // 2 + 1
    similarity = label_similarity(query, pool, labels, count=count, rank=rank)
    sizes = torch.bincount(labels, minlength=count)
    for label in ((sizes > 0) & (sizes < rank)).nonzero()[:, 0].tolist():
        members = pool[labels == label]
        alone = torch.zeros(len(members), dtype=torch.int64, device=pool.device)
        similarity[:, label] = label_similarity(query, members, alone, count=1, rank=len(members))[:, 0]
    return torch.softmax(similarity / temperature, dim=1)
