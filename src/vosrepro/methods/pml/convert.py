"""Checkpoints of others to our state dict: key maps that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.methods.common.checkpoints import read_checkpoint
from vosrepro.methods.pml.model import PML

_BACKBONE = "base_extractor."
_COUNTER = "num_batches_tracked"
_PREFIXES = ("module.", "Scale.")
_CLASSIFIER = "layer5."


def build(*, start: str | None = None, **network: Any) -> PML:
    """A network with random weights, or with the backbone of a released file.

    Args:
        start: DeepLab-v2 ResNet-101 weights (see `convert_backbone`). Where the file cannot be read, the
            network can be built and loaded, but not used before other weights were loaded.
        network: arguments of `PML`.

    Raises:
        ConfigError: if the network is not of the published size, and see `PML`.
    """
    model = PML(**network)
    if start is None:
        return model
    shapes = {key: value.shape for key, value in model.base_extractor.state_dict().items()}
    if any(shapes.get(key.removeprefix(_BACKBONE)) != shape for key, shape in _backbone().items()):
        raise ConfigError(f"{start} is for a backbone of the published size: leave out width, blocks and cell_px")
    try:
        state = convert_backbone(read_checkpoint(start).content)
    except CheckpointError as error:
        model.missing = error
    else:
        model.load_state_dict(transfer(state, model))
    return model


def convert(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint of the seed's training (630 entries, saved from DataParallel) as our state.

    Raises:
        CheckpointError: if a tensor is missing, unknown or misshapen.
    """
    state = _stripped(_unwrapped(released))
    if state and not any(key.startswith("embedding_head.") for key in state):
        raise CheckpointError(
            "these weights have no embedding head, so they are a backbone to start training from, not "
            "a trained PML network: use convert_backbone"
        )
    return _checked(state, _seed_shapes(), what="PML checkpoint")


def convert_backbone(released: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """DeepLab-v2 ResNet-101 weights as the backbone part of our state.

    The prefixes "module." and "Scale." are removed and the classifier `layer5` dropped; then all 520
    weights, biases and running statistics must be there. Counters of batches may lack (old files).

    Raises:
        CheckpointError: saying how many of the 520 were found.
    """
    state = _stripped(_unwrapped(released))
    state = {
        key if key.startswith(_BACKBONE) else _BACKBONE + key: value
        for key, value in state.items()
        if not key.startswith(_CLASSIFIER)
    }
    return _checked(state, _backbone(), what="DeepLab backbone")


def transfer(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a previous stage for the next; a backbone alone is completed by the model's own head.

    Raises:
        CheckpointError: if a backbone tensor of the model is missing.
    """
    own = model.state_dict()
    if any(key.startswith("embedding_head.") for key in state):
        return state
    missing = [k for k in own if k.startswith(_BACKBONE) and k not in state]
    if missing:
        raise CheckpointError(
            f"{len(missing)} backbone tensors are missing from the weights to start from "
            f"({', '.join(missing[:3])}, ...): convert the file with convert_backbone"
        )
    return {**{k: v for k, v in own.items() if not k.startswith(_BACKBONE)}, **state}


@cache
def _seed_shapes() -> dict[str, torch.Size]:
    with torch.random.fork_rng(devices=[]):
        network = PML(head="seed", coords="zero", channel_order="rgb", norm="live")
    return {key: value.shape for key, value in network.state_dict().items()}


def _backbone() -> dict[str, torch.Size]:
    return {k: s for k, s in _seed_shapes().items() if k.startswith(_BACKBONE)}


def _unwrapped(released: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("state_dict", "model"):
        if isinstance(released.get(key), Mapping):
            return released[key]
    return released


def _stripped(state: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in state.items():
        key = name
        while key.startswith(_PREFIXES):
            key = key.partition(".")[2]
        if key in found:
            raise CheckpointError(
                f"'{name}' appears twice after removing the prefixes {', '.join(_PREFIXES)}: "
                "the file holds several networks, extract one of them"
            )
        found[key] = value
    return found


def _checked(state: Mapping[str, Any], shapes: Mapping[str, torch.Size], *, what: str) -> dict[str, torch.Tensor]:
    """Tensors in the order of `shapes`, or an error with counts."""
    wanted = [key for key in shapes if not key.endswith(_COUNTER)]
    missing = [key for key in wanted if key not in state]
    unknown = [key for key in state if key not in shapes]
    misshapen = [key for key in wanted if key in state and getattr(state[key], "shape", None) != shapes[key]]
    if missing or unknown or misshapen:
        facts = [
            f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in (
                ("missing", missing),
                ("unknown", unknown),
                ("misshapen", misshapen),
            )
            if names
        ]
        fit = len(wanted) - len(missing) - len(misshapen)
        raise CheckpointError(
            f"this is no {what}: {fit} of {len(wanted)} tensors fit; {'; '.join(facts)}; "
            "give a file of DeepLab-v2 ResNet-101 with Caffe-style strides"
        )
    counter = torch.zeros((), dtype=torch.int64)
    return {key: state.get(key, counter) if key.endswith(_COUNTER) else state[key] for key in shapes}
