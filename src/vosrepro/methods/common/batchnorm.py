"""Batch normalization over all processes of a training, on any device and backend."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is all-reduced too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose batch is the global one, so that the number of processes changes no gradient.

    Every process must hold an equal share of the batch. torch's own SyncBatchNorm needs GPUs.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, H, W); in training mode by the statistics of all processes' batches."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        moments = torch.stack([input.mean(dim=(0, 2, 3)), input.square().mean(dim=(0, 2, 3))])
        mean, square = _SumOverProcesses.apply(moments) / dist.get_world_size()  # type: ignore[operator]
        variance = (square - mean.square()).clamp(min=0)
        self._remember(mean, variance, count=input.numel() // len(mean) * dist.get_world_size())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return input * scale[:, None, None] + shift[:, None, None]

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, *, count: int) -> None:
        momentum = self.momentum if self.momentum is not None else 0.1
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        unbiased = variance * count / max(1, count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
