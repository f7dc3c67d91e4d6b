"""Building a network of the family by name, with or without an ImageNet encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.methods.common.resnet import imagenet_state
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.network import SpaceTimeNetwork
from vosrepro.methods.stm.original import OriginalSTM
from vosrepro.methods.stm.transfer import CONV1

Flavor = Literal["mask-propagation", "original"]


def build(
    *, flavor: Flavor = "mask-propagation", encoder_weights: str | None = None, **network: Any
) -> SpaceTimeNetwork:
    """A network with random weights, drawn from torch's global generator.

    Args:
        flavor: "mask-propagation" is `STM`; "original" is `OriginalSTM`, which takes no argument.
        encoder_weights: None, "imagenet" (torchvision's ResNet-50, downloaded once to torch's cache) or
            the path of a ResNet-50 state dict.
        network: arguments of `STM`.

    Raises:
        ConfigError: if an argument is unknown.
        CheckpointError: if the encoder's weights cannot be had or do not fit.
    """
    try:
        if flavor == "original":
            model: SpaceTimeNetwork = OriginalSTM(**network)
        else:
            model = STM(**network)
    except TypeError as error:
        raise ConfigError(f"the network of stm cannot be built: {error}") from error
    if encoder_weights is not None:
        if not isinstance(model, STM):
            raise ConfigError("encoder_weights are only for the flavor mask-propagation")
        fill_encoders(model, _resnet50(encoder_weights))
    return model


def fill_encoders(model: STM, resnet: dict[str, torch.Tensor]) -> None:
    """Copy an ImageNet ResNet-50 into both encoders.

    The memory encoder's biases become 0, and the mask channels of its first convolution are drawn as an
    orthogonal tensor.

    Raises:
        CheckpointError: if the network's encoders are not a ResNet-50.

    Source: hkchengrex/Mask-Propagation: model/mod_resnet.py.
    """
    with torch.no_grad():
        for key, tensor in model.rgb_encoder.state_dict().items():
            tensor.copy_(_fitting(resnet, key.replace("res2.", "layer1."), tensor))
        for key, tensor in model.mask_rgb_encoder.state_dict().items():
            name = f"mask_rgb_encoder.{key}"
            if name == CONV1:
                masks = torch.empty(tensor.shape[0], tensor.shape[1] - 3, *tensor.shape[2:])
                nn.init.orthogonal_(masks)
                tensor.copy_(torch.cat([_fitting(resnet, key, tensor[:, :3]), masks], dim=1))
            elif key in resnet:
                tensor.copy_(_fitting(resnet, key, tensor))
            elif key.endswith("bias"):
                tensor.zero_()


def _fitting(resnet: dict[str, torch.Tensor], key: str, like: torch.Tensor) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return resnet.get(key, torch.zeros_like(like))
    if key not in resnet or resnet[key].shape != like.shape:
        raise CheckpointError(
            f"the encoder's weights have no {key} of shape {tuple(like.shape)}: they must be a "
            "ResNet-50's and the network must have width 64, blocks [3, 4, 6] and bottlenecks"
        )
    return resnet[key]


def _resnet50(source: str) -> dict[str, torch.Tensor]:
    if source == "imagenet":
        return imagenet_state("resnet50")
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"encoder_weights {path} is missing: give a ResNet-50 state dict")
    return torch.load(path, map_location="cpu", weights_only=True)
