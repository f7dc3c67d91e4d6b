"""The exponential moving average of the weights, which short trainings end with less noise in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


class WeightAverage:
    """Averages weights and running statistics over the steps.

    After step t (from 0) the average moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights, so
    that the random start is soon forgotten. What is counted (integers) is copied.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 1992; the warm-up is that of TensorFlow's
        ExponentialMovingAverage. Deviation: no published system of the study averages its weights.

    Args:
        network: whose weights are averaged, with their start in place.
        decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._decay = decay
        live = network.state_dict()
        self._names = [name for name, tensor in live.items() if tensor.is_floating_point()]
        self._means = [live[name].detach().clone() for name in self._names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        live = self._network.state_dict()
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for name, mean in zip(self._names, self._means, strict=True):
            mean.lerp_(live[name].to(mean), share)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """As the network's, with averages."""
        return {**self._network.state_dict(), **dict(zip(self._names, self._means, strict=True))}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from saved averages."""
        for name, mean in zip(self._names, self._means, strict=True):
            mean.copy_(state[name])
