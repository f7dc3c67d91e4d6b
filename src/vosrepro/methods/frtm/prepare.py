"""A copy of a network of the family for inference: equal in exact arithmetic, with fewer operations."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import nn

from vosrepro.methods.common.folding import DTYPES, fold, fold_block
from vosrepro.methods.common.resnet import BasicBlock, Bottleneck
from vosrepro.methods.frtm.backbone import Backbone
from vosrepro.methods.frtm.refiner import RRB


@torch.no_grad()
def prepare(model: nn.Module, *, precision: Literal["fp32", "bf16", "fp16"] = "fp32") -> Any:
    """Fold batch normalization and set the precision of backbone and segmentation network.

    Target models are optimized in their own precision, whatever this one is.

    Args:
        model: the network; it is not changed.
        precision: of convolutions and features. Half precision lies channels-last, for tensor cores.

    Returns:
        an evaluation-mode copy on the same device; its state dict is not that of `model`.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(fast.modules()):
        if isinstance(module, Backbone):
            fold(module, "conv1", "bn1")
        elif isinstance(module, BasicBlock | Bottleneck):
            fold_block(module)
        elif isinstance(module, RRB):
            fold(module.bblock, "0", "1")
    fast.to(DTYPES[precision])
    for name, constant in model.named_buffers():
        if name in ("backbone.mean", "backbone.std"):  # frames are normalized in float32
            fast.get_buffer(name).data = constant.clone()
    if precision != "fp32":
        fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fast
