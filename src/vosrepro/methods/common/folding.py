"""Batch normalization folded into the convolution before it, for inference."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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
