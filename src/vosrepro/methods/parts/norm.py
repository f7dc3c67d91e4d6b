"""Batch normalization per process or over all of them, and its momentum."""

from __future__ import annotations

from typing import Literal

from torch import nn


class LocalBatchNorm2d(nn.BatchNorm2d):
    """Statistics of this process's share of the batch only, as the seed's towers had.

    Training joins the statistics of plain `nn.BatchNorm2d` over all processes and leaves subclasses alone;
    DDP sends the first process's running statistics to the others, as the seed kept its first GPU's.
    """


def set_norm(network: nn.Module, *, kind: Literal["sync", "local"], momentum: float) -> None:
    """Choose the kind and the momentum of every batch normalization of a network, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            if kind == "local":
                module.__class__ = LocalBatchNorm2d
