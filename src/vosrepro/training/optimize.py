"""Optimizers and learning-rate schedules as plain functions of the step.

`torch.optim.Optimizer` imports torch's compiler when it is first used, which costs seconds at every start;
the functional updates underneath it do the same arithmetic without that. The learning rate depends on
the step alone, so there is no scheduler state to save.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.errors import CheckpointError

if TYPE_CHECKING:
    from vosrepro.params import OptimizerParams

_BETAS = (0.9, 0.999)
_EPS = 1e-8
_POLY_POWER = 0.9


def learning_rate(params: OptimizerParams, step: int, steps: int) -> float:
    """The rate of the update that follows step `step` (counted from 0) of a stage of `steps` steps.

    Linear warm-up first, then "step" (multiplied by `lr_drop_factor` from each of `lr_drop_steps` on),
    "cosine" (to 0 at the end) or "poly" (power 0.9, to 0 at the end).
    """
    if step < params.lr_warmup_steps:
        return params.lr * (step + 1) / params.lr_warmup_steps
    if params.schedule == "step":
        drops = sum(step >= at for at in params.lr_drop_steps)
        return params.lr * params.lr_drop_factor**drops
    share = (step - params.lr_warmup_steps) / max(1, steps - params.lr_warmup_steps)
    if params.schedule == "cosine":
        return params.lr * 0.5 * (1 + math.cos(math.pi * share))
    return params.lr * (1 - share) ** _POLY_POWER


class Optimizer:
    """Adam (L2 decay in the gradient), AdamW (decoupled decay) or SGD with momentum.

    The same updates as `torch.optim.Adam`, `AdamW` and `SGD` with their default constants, in torch's
    fused form; parameters without a gradient are skipped.

    Args:
        params: which optimizer.
        parameters: the trainable parameters, in a fixed order.
    """

    def __init__(self, params: OptimizerParams, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.params = params
        self.parameters = [p for p in parameters if p.requires_grad]
        slots = ("momentum",) if params.name == "sgd" else ("mean", "square")
        self._slots = {
            slot: [
                torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters
            ]
            for slot in slots
        }
        self._counts = [torch.zeros((), device=p.device) for p in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip(self, largest_norm: float) -> torch.Tensor:
        """Scale the gradients so that their joint L2 norm is at most `largest_norm`; the norm before."""
        return torch.nn.utils.clip_grad_norm_(self.parameters, largest_norm)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with learning rate `lr`."""
        live = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        parameters = [self.parameters[i] for i in live]
        gradients = [self.parameters[i].grad for i in live]
        if not live:
            return
        if self.params.name == "sgd":
            self._sgd(parameters, gradients, live, lr)
        else:
            self._adam(parameters, gradients, live, lr)

    def _adam(self, parameters: list, gradients: list, live: list[int], lr: float) -> None:
        from torch.optim.adam import adam
        from torch.optim.adamw import adamw

        update = adamw if self.params.name == "adamw" else adam
        update(
            parameters,
            gradients,
            [self._slots["mean"][i] for i in live],
            [self._slots["square"][i] for i in live],
            [],
            [self._counts[i] for i in live],
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=lr,
            weight_decay=self.params.weight_decay,
            eps=_EPS,
            maximize=False,
        )

    def _sgd(self, parameters: list, gradients: list, live: list[int], lr: float) -> None:
        from torch.optim.sgd import sgd

        sgd(
            parameters,
            gradients,
            [self._slots["momentum"][i] for i in live],
            fused=True,
            weight_decay=self.params.weight_decay,
            momentum=self.params.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Tensors to save; they are not copied."""
        return {"name": self.params.name, "counts": self._counts, **self._slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: if it belongs to another optimizer or network.
        """
        fits = state.get("name") == self.params.name and len(state["counts"]) == len(self._counts)
        if not fits:
            raise CheckpointError(
                f"the saved state is of optimizer '{state.get('name')}' with "
                f"{len(state.get('counts', []))} parameters, not '{self.params.name}' with "
                f"{len(self._counts)}: delete the state folder to start anew"
            )
        for slot, tensors in {**self._slots, "counts": self._counts}.items():
            for tensor, saved in zip(tensors, state[slot], strict=True):
                tensor.copy_(saved)
