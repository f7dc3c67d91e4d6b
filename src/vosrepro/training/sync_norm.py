"""Batch normalization over the global batch, so that the number of processes does not change a result.

torch's own SyncBatchNorm needs a GPU, and its conversion would also unfreeze subclasses that hold their
statistics still.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class _Sum(torch.autograd.Function):
    """Sum over all ranks; each rank's loss depends on each rank's input."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all ranks' inputs together."""

    @classmethod
    def sharing(cls, layer: nn.BatchNorm2d) -> SyncedBatchNorm2d:
        """A layer with the very parameters and buffers of another."""
        synced = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        synced.__dict__.update(layer.__dict__)
        return synced

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        count = torch.full_like(mean, x.numel() / x.shape[1], dtype=torch.float64)
        mean, variance = mean.double(), variance.double()
        sums = _Sum.apply(torch.stack([count, count * mean, count * (variance + mean**2)]))
        count, mean = sums[0], sums[1] / sums[0]
        variance = sums[2] / count - mean**2
        self._track(mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        shape = (1, -1, 1, 1)
        return x * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is None:
            rate = 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        else:
            rate = self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(variance.to(self.running_var.dtype), rate)


def has_live_norm(network: nn.Module) -> bool:
    """Whether any layer normalizes by the statistics of its batch."""
    return any(_live(layer) for layer in network.modules())


def synchronize(network: nn.Module) -> nn.Module:
    """Let every live `nn.BatchNorm2d` see the global batch; subclasses and frozen layers stay.

    Args:
        network: in training mode; changed in place.

    Returns:
        The network.
    """
    for module in network.modules():
        for name, child in module.named_children():
            if _live(child) and isinstance(child, nn.BatchNorm2d):
                setattr(module, name, SyncedBatchNorm2d.sharing(child))
    return network


def _live(layer: nn.Module) -> bool:
    return type(layer) is nn.BatchNorm2d and layer.training
