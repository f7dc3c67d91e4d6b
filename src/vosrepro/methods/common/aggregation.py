"""Soft aggregation: from independent per-object probabilities to one distribution per pixel."""

from __future__ import annotations

import torch

#: Probabilities are kept this far from 0 and 1 (in float32, 1 - EPSILON rounds to 0.99999988).
EPSILON = 1e-7


def aggregation_logits(objects: torch.Tensor, *, dim: int = 0) -> torch.Tensor:
    """Log-odds of background and objects; softmax of them over `dim` is the aggregated probability.

    The background's probability is the product of the objects' absences.

    Args:
        objects: per-object probabilities in [0, 1], N of them along `dim`; computed in float32.
        dim: the object dimension.

    Returns:
        float32 logits with N+1 entries along `dim`, background first, within about +-16.

    Source: Oh et al., ICCV 2019, Sec. 3.3; hkchengrex/Mask-Propagation: model/aggregate.py.
    """
    objects = objects.float()
    background = torch.prod(1 - objects, dim=dim, keepdim=True)
    clamped = torch.cat([background, objects], dim=dim).clamp(EPSILON, 1 - EPSILON)
    return torch.log(clamped / (1 - clamped))


def aggregate(objects: torch.Tensor, *, dim: int = 0) -> torch.Tensor:
    """Aggregated probabilities: `softmax(aggregation_logits(objects))`, summing to 1 over `dim`."""
    return torch.softmax(aggregation_logits(objects, dim=dim), dim=dim)
