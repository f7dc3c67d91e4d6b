"""Released checkpoints of the family -> our weights.

A released file holds the segmentation network only (`refiner.*`, and the gate's parts for G-FRTM); the
backbone is torchvision's. Module names are the same, so the map is the identity plus the backbone, and
everything is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.methods.common.checkpoints import checked
from vosrepro.methods.common.resnet import imagenet_state
from vosrepro.methods.frtm.model import FRTM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vosrepro.methods.frtm.model import TargetNetwork

_BACKBONES = {256: "resnet18", 1024: "resnet101"}


def convert(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of `FRTM` from a released checkpoint ("model" of a full file, or the bare state).

    Raises:
        CheckpointError: if keys are missing, unknown or misshapen, or the ImageNet weights of its backbone
            cannot be had.
    """
    return converted(released, FRTM, first="refiner.TSE.layer4.reduce.0.weight", what="FRTM")


def converted(
    released: Mapping[str, Any],
    build: Callable[..., TargetNetwork],
    *,
    first: str,
    what: str,
    backbone: Callable[[str], dict[str, torch.Tensor]] | None = None,
) -> dict[str, torch.Tensor]:
    """The state of `build(backbone=...)`, with the backbone that the checkpoint was made for.

    Args:
        released: see `convert`.
        build: the network; takes the backbone's name.
        first: the weight whose input channels tell the backbone.
        what: name of the layout, for errors.
        backbone: gives the backbone's weights by name; torchvision's if None.
    """
    state = inner_state(released)
    name = backbone_of(state, first, what)
    with torch.device("meta"):
        expected = build(backbone=name).state_dict()
    parts = {k: v for k, v in expected.items() if not k.startswith("backbone.")}
    checked_parts = checked(state, parts, what=f"{what} with {name}")
    trunk = (backbone or imagenet_state)(name)
    wanted = {k.removeprefix("backbone."): v for k, v in expected.items() if k not in parts}
    checked_trunk = checked(trunk, wanted, what=f"torchvision's {name}")
    return {**{f"backbone.{k}": v for k, v in checked_trunk.items()}, **checked_parts}


def inner_state(released: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network's state in a released file: its entry "model" if there is one."""
    inner = released.get("model", released)
    if not hasattr(inner, "items"):
        raise CheckpointError("the entry 'model' of the checkpoint is not a state dict: give another file")
    return inner


def backbone_of(state: Mapping[str, Any], first: str, what: str) -> str:
    """Name of the backbone that a checkpoint was made for.

    Raises:
        CheckpointError: if it cannot be told.
    """
    weight = state.get(first)
    channels = weight.shape[1] if isinstance(weight, torch.Tensor) and weight.dim() == 4 else None
    if channels not in _BACKBONES:
        raise CheckpointError(
            f"the checkpoint is not one of {what}: {first} is "
            f"{'missing' if weight is None else f'for {channels} channels'}; give the file that "
            "upstream released"
        )
    return _BACKBONES[channels]
