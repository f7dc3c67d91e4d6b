"""A copy of a network for inference: equal in exact arithmetic, with fewer and faster operations."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from vosrepro.methods.common.folding import DTYPES, fold, fold_block
from vosrepro.methods.common.resnet import BasicBlock, Bottleneck
from vosrepro.methods.stm.encoders import ResNetEncoder
from vosrepro.methods.stm.model import KeyValue
from vosrepro.methods.stm.network import SpaceTimeNetwork


class MergedKeyValue(nn.Module):
    """Both projections as one convolution."""

    def __init__(self, pair: KeyValue) -> None:
        """Merge the weights of a pair."""
        super().__init__()
        parts = (pair.key_proj, pair.val_proj)
        self.sizes = [p.out_channels for p in parts]
        self.proj = nn.Conv2d(parts[0].in_channels, sum(self.sizes), 3, padding=1)
        with torch.no_grad():
            self.proj.weight.copy_(torch.cat([p.weight for p in parts]))
            self.proj.bias.copy_(torch.cat([p.bias for p in parts]))  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KeyValue.forward`."""
        key, value = self.proj(x).split(self.sizes, dim=1)
        return key, value


@torch.no_grad()
def prepare(
    model: nn.Module,
    *,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    channels_last: bool | None = None,
) -> SpaceTimeNetwork:
    """Fold batch normalization into convolutions, merge projections, set precision and layout.

    Similarities, softmax, top-k and aggregation stay float32 in every precision.

    Args:
        model: the network; it is not changed.
        precision: of convolutions, features and memory.
        channels_last: layout of the feature maps; None: innermost channels for half precision only,
            which tensor cores want.

    Returns:
        an evaluation-mode copy on the same device; its state dict is not that of `model`.
    """
    if not isinstance(model, SpaceTimeNetwork):
        raise TypeError(f"expected a space-time memory network, not {type(model).__name__}")
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fast.modules():
        if type(module) is ResNetEncoder:  # the original's mask encoder adds before normalizing
            fold(module, "conv1", "bn1")
        elif isinstance(module, Bottleneck | BasicBlock):
            fold_block(module)
    for name, module in list(fast.named_children()):
        if isinstance(module, KeyValue):
            fast.set_submodule(name, MergedKeyValue(module).to(module.key_proj.weight))
    fast.to(DTYPES[precision])
    for name, constant in model.named_buffers(recurse=False):
        fast.get_buffer(name).data = constant.clone()  # frames are normalized in float32
    if channels_last if channels_last is not None else precision != "fp32":
        fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fast
