"""Weights files: safetensors with a few strings of metadata, read with a clear error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.base.files import atomic, file_digest
from vosrepro.base.types import without_start_weights
from vosrepro.methods import get_method
from vosrepro.methods.common.checkpoints import layout_problems

if TYPE_CHECKING:
    from torch import nn


def save_weights(path: Path | str, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write a state dict atomically as safetensors, with facts that `describe` reads again."""
    from safetensors.torch import save_file

    # One key of metadata: safetensors writes several in random order.
    metadata = None if facts is None else {"vosrepro": json.dumps(dict(facts), sort_keys=True)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def weights_digest(path: Path) -> str:
    """SHA-256 of a weights file.

    Raises:
        CheckpointError: if there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"weights {path} are missing: run the training step first")
    return file_digest(path)


def load_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"weights {path} are missing: run the training step first") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weights {path} cannot be read ({error}): delete the file and run the step that makes it"
        ) from error


def read_facts(path: Path | str) -> dict[str, Any]:
    """What a weights file says of itself; empty if nothing.

    Raises:
        CheckpointError: if it is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return dict(json.loads(metadata.get("vosrepro", "{}")))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no weights file {path}") from error
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error})") from error


def describe(path: Path | str) -> dict[str, Any]:
    """As `read_facts`, with at least "method" and "model" (arguments of the network).

    Raises:
        CheckpointError: if it cannot be read, or was written by something else.
    """
    facts = read_facts(path)
    try:
        get_method(facts["method"])
        return {"model": {}, **facts}
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{path} does not say which method it belongs to: use weights that vosrepro trained, selected or imported"
        ) from error


def open_model(path: Path, *, device: torch.device) -> tuple[str, nn.Module]:
    """The method's name and the network for inference of a weights file that describes itself.

    Raises:
        CheckpointError: if it does not, or does not fit.
    """
    facts = describe(path)
    network = inference_model(facts["method"], facts["model"], weights=path, seed=0, device=device)
    assert network is not None
    return facts["method"], network


def build_model(
    method: str, model: Mapping[str, Any], *, weights: Path | None, seed: int, device: torch.device
) -> nn.Module | None:
    """A method's network in evaluation mode, or None for a method without weights.

    Args:
        weights: a safetensors file; None draws random weights from `seed`.

    Raises:
        CheckpointError: if the weights do not fit the network, naming the first differing keys.
    """
    card = get_method(method)
    if card.build is None:
        return None
    # Weights to start from would be read only to be overwritten.
    arguments = dict(model) if weights is None else without_start_weights(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = card.build(**arguments)
    if weights is not None:
        load_strictly(network, load_weights(weights), source=str(weights))
    return network.to(device).eval()


def inference_model(
    method: str,
    model: Mapping[str, Any],
    *,
    weights: Path | None,
    seed: int,
    device: torch.device,
    precision: str = "fp32",
) -> nn.Module | None:
    """As `build_model`, then the method's own faster copy for inference in a precision, if it has one."""
    network = build_model(method, model, weights=weights, seed=seed, device=device)
    prepare = get_method(method).prepare
    return network if network is None or prepare is None else prepare(network, precision=precision)


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Load a state dict; every key and shape must fit.

    Raises:
        CheckpointError: naming what differs.
    """
    problems = layout_problems(state, network.state_dict())
    if problems:
        raise CheckpointError(f"{source} does not fit the network: {'; '.join(problems)}")
    network.load_state_dict(dict(state), strict=False)
