"""Checks of released checkpoints: every key and every shape, with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vosrepro.base.errors import CheckpointError

_SHOWN = 5
_COUNTER = "num_batches_tracked"


def without_prefix(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Drop a prefix that all keys share; keys are unchanged if one lacks it."""
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def checked(state: Mapping[str, Any], expected: Mapping[str, torch.Tensor], *, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, in the order of `expected`.

    Args:
        state: the checkpoint.
        expected: state dict of the network (its tensors may be on the meta device).
        what: name of the layout, for errors.

    Raises:
        CheckpointError: if a key is missing or unknown (BatchNorm counters may be missing), a value is
            not a tensor, or a shape differs; names the first five of each and their number.
    """
    problems = []
    missing = [k for k in expected if k not in state and not k.endswith(_COUNTER)]
    unknown = [k for k in state if k not in expected]
    misshapen = [
        f"{key}: {_shape(state[key])} instead of {_shape(tensor)}"
        for key, tensor in expected.items()
        if key in state and _shape(state[key]) != _shape(tensor)
    ]
    for name, keys in (("missing", missing), ("unknown", unknown), ("of wrong shape", misshapen)):
        if keys:
            more = ", ..." if len(keys) > _SHOWN else ""
            problems.append(f"{len(keys)} keys are {name} ({', '.join(keys[:_SHOWN])}{more})")
    if problems:
        raise CheckpointError(
            f"the checkpoint does not have the layout of {what} ({len(expected)} keys): "
            f"{'; '.join(problems)}; give the file that upstream released, unchanged"
        )
    return {key: state[key] if key in state else torch.zeros((), dtype=torch.int64) for key in expected}


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
