"""The metric loss: each anchor nearer to its own kind than to any other, by a margin."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances (A, P) of rows x (A, C) and y (P, C), not below 0."""
    products = x @ y.T
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None]
    return (norms - 2 * products).clamp_min(0)


def hinges(
    anchors: torch.Tensor,
    anchor_labels: torch.Tensor,
    pool: torch.Tensor,
    pool_labels: torch.Tensor,
    *,
    margin: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much each anchor violates the margin.

    Args:
        anchors: (A, C).
        anchor_labels: int64 (A,).
        pool: (P, C), with at least one cell of each anchor's label and one of another.
        pool_labels: int64 (P,).
        margin: alpha, in squared distance.

    Returns:
        (A,) `max(0, nearest distance of the same label - nearest distance of any other + margin)`, and
        bool (A,): whether the nearest cell has the anchor's label. The gradient flows through the anchor
        and the two nearest cells.

    Source: Chen et al., CVPR 2018, Sec. 3.3; sydney0zq/PML: net/loss.py.
    """
    distances = squared_distances(anchors, pool)
    same = anchor_labels[:, None] == pool_labels[None]
    nearest_same = distances.masked_fill(~same, torch.inf).min(1).values
    nearest_other = distances.masked_fill(same, torch.inf).min(1).values
    return (nearest_same - nearest_other + margin).clamp_min(0), nearest_same < nearest_other


def usable_labels(anchor_labels: torch.Tensor, pool_labels: torch.Tensor) -> list[int]:
    """Labels that both the anchor frame and the pool have; empty if there are not two of them.

    A triplet without them is skipped, as the seed skips one that lacks foreground or background.
    """
    shared = set(torch.unique(anchor_labels).tolist()) & set(torch.unique(pool_labels).tolist())
    return sorted(shared) if len(shared) > 1 else []


def sample_anchors(
    labels: torch.Tensor, wanted: list[int], count: int, *, generator: torch.Generator | None = None
) -> dict[int, torch.Tensor]:
    """`count` cells of each wanted label, drawn with replacement: {label: indices (count,)}."""
    chosen = {}
    for label in wanted:
        cells = (labels == label).nonzero()[:, 0]
        draw = torch.randint(len(cells), (count,), generator=generator)
        chosen[label] = cells[draw.to(cells.device)]
    return chosen


def triplet_loss(
    anchor: torch.Tensor,
    anchor_labels: torch.Tensor,
    pool: torch.Tensor,
    pool_labels: torch.Tensor,
    anchors: Mapping[int, torch.Tensor],
    *,
    margin: float,
) -> tuple[torch.Tensor, dict[int, torch.Tensor], torch.Tensor]:
    """Mean over the labels of the mean hinge of each label's anchors.

    Args:
        anchor: embeddings (N, C) of the anchor frame.
        anchor_labels: int64 (N,).
        pool: embeddings (P, C) of the other frames of the triplet.
        pool_labels: int64 (P,).
        anchors: {label: indices into the anchor frame}.
        margin: alpha.

    Returns:
        The loss, the part of each label, and bool (A,): anchors whose nearest cell has their label.

    Deviation: the seed knows foreground and background; for two labels this is its formula.
    """
    cells = torch.cat(list(anchors.values()))
    values, right = hinges(anchor[cells], anchor_labels[cells], pool, pool_labels, margin=margin)
    sizes = [len(index) for index in anchors.values()]
    parts = {label: part.mean() for label, part in zip(anchors, values.split(sizes), strict=True)}
    return torch.stack(list(parts.values())).mean(), parts, right
