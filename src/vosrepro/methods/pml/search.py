"""Exact nearest neighbours and per-label order statistics of unit vectors, by matrix products.

The similarity that ranks a pool cell r for a query q is `q.r - |r|^2 / 2`, so that the order is that of the
Euclidean distance even where vectors are only nearly normalized.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError, ConfigError

#: Query cells per matrix product: on a CPU 256 x 6527 similarities (7 MB) stay in its cache; a GPU
#: wants few, large products.
_CHUNK = {"cpu": 256, "cuda": 4096}
#: Pool cells whose maximum is looked at before their members are.
_GROUP = 16


class Neighbors(NamedTuple):
    """The nearest pool cells of each query cell, by ascending distance, then ascending index."""

    index: torch.Tensor  # int64 (Q, k)
    distance2: torch.Tensor  # (Q, k) squared distances, at least 0


def nearest_cells(query: torch.Tensor, pool: torch.Tensor, k: int, *, chunk: int | None = None) -> Neighbors:
    """The k nearest pool cells of each query cell, exactly.

    The k + 1 groups of pool cells with the largest maxima contain the k + 1 most similar cells, so only
    their members are ranked; equal similarities are then put into the order of the pool.

    Args:
        query: (Q, C).
        pool: (N, C) of the same dtype.
        k: number of neighbours, at most N.
        chunk: query cells per product, which bounds memory at `chunk * N` values; None: by device.

    Raises:
        ConfigError: if the pool has fewer than k cells.
        CheckpointError: if an embedding is not finite.
    """
    check_finite(query, pool)
    cells = len(pool)
    if not 1 <= k <= cells:
        raise ConfigError(
            f"{k} nearest neighbours were asked for but the reference pool has {cells} cells: "
            "lower neighbors, or use larger frames"
        )
    groups = -(-cells // _GROUP)
    extra = groups * _GROUP - cells
    bias = F.pad(pool.square().sum(1) / -2, (0, extra), value=-torch.inf)
    turned = F.pad(pool, (0, 0, 0, extra)).T
    chunk = min(chunk or _chunk(query), max(1, len(query)))
    similar = query.new_empty(chunk, groups * _GROUP)  # kept: fresh pages cost as much as the ranking
    wanted, seen = min(k + 1, cells), min(k + 1, groups)
    members = torch.arange(_GROUP, device=pool.device) * groups
    found = []
    for part in query.split(chunk):
        similar = torch.addmm(bias, part, turned, out=similar[: len(part)])
        best = similar.view(-1, _GROUP, groups).amax(1).topk(seen, dim=1, sorted=False).indices
        candidates = (best[:, :, None] + members).flatten(1)
        values, order = similar.gather(1, candidates).topk(wanted, dim=1)
        index = candidates.gather(1, order)
        tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
        if len(tied):
            index[tied, :k] = _stable(similar[tied, :cells], values[tied, :k], index[tied, :k])
        distance2 = part.square().sum(1, keepdim=True) - 2 * values[:, :k]
        found.append((index[:, :k], distance2.clamp_min(0)))
    return Neighbors(torch.cat([i for i, _ in found]), torch.cat([d for _, d in found]))


def _stable(similar: torch.Tensor, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Top-k indices (R, k) of rows with equal values: larger first, then the lower index."""
    k, cells = values.shape[1], similar.shape[1]
    last = values[:, -1:]
    positions = torch.arange(cells, device=similar.device).expand(similar.shape)
    equal = torch.where(similar == last, positions, cells).topk(k, dim=1, largest=False).values
    above = torch.where(values > last, index, cells)
    candidates = torch.cat([above, equal], dim=1).sort(dim=1).values
    padded = torch.cat([similar, similar.new_full((len(similar), 1), -torch.inf)], dim=1)
    order = padded.gather(1, candidates).sort(dim=1, descending=True, stable=True).indices
    return candidates.gather(1, order)[:, :k]


def label_similarity(
    query: torch.Tensor,
    pool: torch.Tensor,
    labels: torch.Tensor,
    *,
    count: int,
    rank: int = 1,
    chunk: int | None = None,
) -> torch.Tensor:
    """The rank-th largest similarity of each query cell to the pool cells of each label.

    Args:
        query: (Q, C).
        pool: (N, C).
        labels: int64 (N,), 0..count - 1.
        count: number of labels.
        rank: 1 for the maximum.
        chunk: as in `nearest_cells`.

    Returns:
        (Q, count) of `q.r - |r|^2/2 + 1/2` (for unit vectors the cosine); -inf where a label has fewer
        than `rank` cells. For two labels and odd k with rank (k + 1) / 2, the majority of the k nearest
        neighbours is label 1 if and only if its entry is the larger one.

    Raises:
        CheckpointError: if an embedding is not finite.
    """
    check_finite(query, pool)
    order = torch.argsort(labels, stable=True)
    sizes = torch.bincount(labels, minlength=count).tolist()
    turned = pool[order].T.contiguous()
    bias = pool[order].square().sum(1) / -2 + 0.5
    result = query.new_full((len(query), count), -torch.inf)
    chunk = chunk or _chunk(query)
    for begin in range(0, len(query), chunk):
        part = query[begin : begin + chunk]
        blocks = torch.addmm(bias, part, turned).split(sizes, dim=1)
        for label, block in enumerate(blocks):
            if block.shape[1] >= rank:
                top = block.amax(1) if rank == 1 else block.topk(rank, dim=1).values[:, -1]
                result[begin : begin + len(part), label] = top
    return result


def _chunk(query: torch.Tensor) -> int:
    return _CHUNK.get(query.device.type, _CHUNK["cuda"])


def check_finite(query: torch.Tensor, pool: torch.Tensor) -> None:
    """Refuse embeddings that no distance can rank.

    Raises:
        CheckpointError: saying how many cells are concerned.
    """
    for name, x in (("frame", query), ("reference pool", pool)):
        sums = x.sum(1)
        if not bool(torch.isfinite(sums).all()):
            bad = int((~torch.isfinite(x).all(1)).sum())
            raise CheckpointError(
                f"{bad} of {len(x)} embeddings of the {name} are not finite: the weights have "
                "diverged or do not fit this network; train again with a lower rate or import others"
            )
