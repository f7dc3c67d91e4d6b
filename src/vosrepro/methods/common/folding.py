"""Batch normalization folded into the convolution before it, for inference."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Precision of a prepared network -> type of its weights and features.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Replace two submodules by one convolution with the same output up to rounding.

    Args:
        owner: in evaluation mode; is changed.
        conv: name of the convolution in `owner`.
        norm: name of what follows it; left alone if it is no batch normalization.
    """
    layer = owner.get_submodule(norm)
    if isinstance(layer, nn.BatchNorm2d):
        folded = fuse_conv_bn_eval(owner.get_submodule(conv), layer)  # type: ignore[arg-type]
        owner.set_submodule(conv, folded)
        owner.set_submodule(norm, nn.Identity())


def fold_block(block: nn.Module) -> None:
    """Fold "conv<i>" with "bn<i>" of a residual block, and its "downsample" if it has one."""
    number = 1
    while hasattr(block, f"conv{number}"):
        fold(block, f"conv{number}", f"bn{number}")
        number += 1
    if getattr(block, "downsample", None) is not None:
        fold(block.get_submodule("downsample"), "0", "1")
