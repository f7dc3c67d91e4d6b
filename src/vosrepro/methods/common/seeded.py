"""Key-seeded weights: a whole network's weights from its key names, for parity without weight files."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn


def seeded_tensor(key: str, shape: tuple[int, ...], *, gain: float) -> torch.Tensor:
    """The float32 tensor that belongs to a key of a state dict.

    Drawn in float64 from PCG64 seeded with the CRC-32 of the key: matrices and kernels are normal with
    standard deviation gain / sqrt(fan-in); scales 1 + 0.1 normal; biases and running means 0.1 normal;
    running variances 1 + 0.1 |normal|; counters 0.
    """
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    drawn = rng.standard_normal(shape)
    if len(shape) >= 2:
        drawn *= gain / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("running_var"):
        drawn = 1 + 0.1 * np.abs(drawn)
    elif key.endswith(("bias", "running_mean")):
        drawn *= 0.1
    else:
        drawn = 1 + 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32))


def seed_weights(model: nn.Module, *, gain: float, keep: tuple[str, ...] = (), prefix: str = "") -> None:
    """Fill a network's whole state dict by `seeded_tensor`.

    Args:
        model: the network; its keys must be spelled as upstream's.
        gain: see `seeded_tensor`.
        keep: endings of keys that stay as they are (constant buffers).
        prefix: put before each key before seeding.
    """
    state = model.state_dict()
    for key, tensor in state.items():
        if not key.endswith(keep) or not keep:
            state[key] = seeded_tensor(prefix + key, tuple(tensor.shape), gain=gain)
    model.load_state_dict(state)
