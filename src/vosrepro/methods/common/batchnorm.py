"""Batch normalization over the global batch, so that the number of processes changes no result, or over this process's.

Networks are built with plain `nn.BatchNorm2d`; `synchronize` exchanges it where there are several processes. torch's
own SyncBatchNorm needs a GPU, and its conversion would also unfreeze subclasses that hold their statistics still.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import ConfigError

_DIMS = (0, 2, 3)


class _Normalize(torch.autograd.Function):
    """Normalization by the statistics of all processes' inputs, whatever the share of each.

    Everything is computed in float32 at least: the mean of bfloat16 inputs far from 0 swallows their variance.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, C, H, W) -> the same; and mean, variance and count of each channel over all processes."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        total, mean, variance = _global_moments(wide)
        rate = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, rate, total)
        out = (wide - _spread(mean, wide)) * _spread(rate * weight, wide) + _spread(bias, wide)
        ctx.mark_non_differentiable(mean, variance, total)
        return out.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The losses of all processes depend on each one's input; weight and bias get their own share only."""
        x, weight, mean, rate, total = ctx.saved_tensors
        wide = torch.promote_types(x.dtype, torch.float32)
        gradient = gradients[0].to(wide)
        normal = (x.to(wide) - _spread(mean, gradient)) * _spread(rate, gradient)
        own = torch.stack([gradient.sum(_DIMS), (gradient * normal).sum(_DIMS)])
        sums = own.double()
        dist.all_reduce(sums)
        average, slope = sums / total
        of_x = gradient - _spread(average, gradient) - normal * _spread(slope, gradient)
        of_x = of_x * _spread(rate * weight, gradient)
        return of_x.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all processes' inputs together."""

    @classmethod
    def sharing(cls, layer: nn.BatchNorm2d) -> SyncedBatchNorm2d:
        """A layer with the very parameters and buffers of another."""
        synced = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        synced.__dict__.update(layer.__dict__)
        return synced

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        weight = self.weight if self.affine else x.new_ones(self.num_features, dtype=torch.float32)
        bias = self.bias if self.affine else x.new_zeros(self.num_features, dtype=torch.float32)
        out, mean, variance, count = _Normalize.apply(x, weight, bias, self.eps)  # type: ignore[misc]
        self._track(mean, variance * count / (count - 1).clamp(min=1))
        return out

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


class LocalBatchNorm2d(nn.BatchNorm2d):
    """Statistics of groups of `images` samples, as many as the authors had on one device, or of this process's share.

    A process's share is every n-th sample of the batch, and so is a group: which samples normalize each other
    depends on their number alone, not on how many processes there are. `synchronize` leaves subclasses alone; DDP
    sends the first process's running statistics to the others, as torch's DataParallel kept those of the first
    GPU: here they are the first group's.
    """

    images: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape.

        Raises:
            ConfigError: if the share is not made of whole groups.
        """
        images, (batch, channels) = self.images, x.shape[:2]
        if not self.training or images is None or batch == images:
            return super().forward(x)
        if batch % images:
            raise ConfigError(
                f"a share of {batch} samples is not made of groups of {images}, over which this network normalizes: "
                "train on fewer devices"
            )
        groups = batch // images
        weight, bias = (None if v is None else v.repeat(groups) for v in (self.weight, self.bias))
        mean, variance = (None if v is None else v.repeat(groups) for v in (self.running_mean, self.running_var))
        apart = x.reshape(images, groups * channels, *x.shape[2:])
        out = F.batch_norm(apart, mean, variance, weight, bias, training=True, momentum=self._rate(), eps=self.eps)
        for stored, updated in ((self.running_mean, mean), (self.running_var, variance)):
            if stored is not None and updated is not None:
                stored.copy_(updated[:channels])
        return out.reshape(x.shape)

    def _rate(self) -> float:
        """How far running statistics move; counts the batch."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum


def set_norm(network: nn.Module, *, kind: Literal["sync", "local"], momentum: float, images: int | None = None) -> None:
    """Choose the kind and the momentum of every batch normalization of a network, in place.

    Args:
        network: built with plain layers.
        kind: statistics of the global batch, or of groups of it.
        momentum: of running statistics.
        images: samples of a group, for "local"; None: a process's share.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            if kind == "local":
                module.__class__ = LocalBatchNorm2d
                module.__dict__["images"] = images  # `nn.Module` takes no number for an attribute of its own


def has_live_norm(network: nn.Module) -> bool:
    """Whether any layer normalizes by the statistics of its batch."""
    return any(isinstance(layer, nn.BatchNorm2d) and layer.training for layer in network.modules())


def synchronize(network: nn.Module) -> nn.Module:
    """Let every live `nn.BatchNorm2d` see the global batch; subclasses and frozen layers stay.

    Args:
        network: in training mode; changed in place.

    Returns:
        The network.
    """
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d and child.training:
                setattr(module, name, SyncedBatchNorm2d.sharing(child))
    return network


def _global_moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float64 (C,): count, mean and variance of each channel over all processes; a share may be empty."""
    count = x.numel() // x.shape[1]
    moments = torch.var_mean(x, dim=_DIMS, correction=0) if count else (x.new_zeros(x.shape[1]),) * 2
    variance, mean = (m.double() for m in moments)
    sums = torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * count
    dist.all_reduce(sums)
    mean = sums[1] / sums[0]
    return sums[0], mean, (sums[2] / sums[0] - mean.square()).clamp(min=0)


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(C,) -> (1, C, 1, 1) of the type of `like`."""
    return values.to(like.dtype).view(1, -1, 1, 1)
