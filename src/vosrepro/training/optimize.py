"""Optimizers and learning-rate schedules as plain functions of the step.

`torch.optim.Optimizer` imports torch's compiler when it is first used, which costs seconds at every start;
the functional updates underneath it do the same arithmetic without that. The learning rate depends on
the step alone, so there is no scheduler state to save.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.study.params import ParameterGroup

if TYPE_CHECKING:
    from vosrepro.study.params import OptimizerParams

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


@dataclass(frozen=True)
class _Group:
    """Places in the list of parameters that are updated alike."""

    places: tuple[int, ...]
    lr_factor: float
    weight_decay: float
    updates: int


def _grouped(params: OptimizerParams, trainable: Sequence[tuple[str, Any]]) -> list[_Group]:
    groups = (*params.groups, ParameterGroup(prefixes=("",)))  # the last takes what is left
    places: list[list[int]] = [[] for _ in groups]
    for place, (name, parameter) in enumerate(trainable):
        fits = (name.startswith(group.prefixes) and (parameter.ndim < 2 or not group.vectors) for group in groups)
        places[list(fits).index(True)].append(place)
    for group, found in zip(params.groups, places, strict=False):
        if not found:
            raise ConfigError(
                f"no trainable parameter begins with {' or '.join(group.prefixes)}, as a group of the "
                f"optimizer says: the names begin with {', '.join(_heads(trainable))}"
            )
    return [
        _Group(
            tuple(found),
            group.lr_factor,
            params.weight_decay if group.weight_decay is None else group.weight_decay,
            group.updates_per_step,
        )
        for group, found in zip(groups, places, strict=True)
        if found
    ]


def _heads(trainable: Sequence[tuple[str, Any]]) -> list[str]:
    return sorted({name.split(".")[0] for name, _ in trainable})


class Optimizer:
    """Adam (L2 decay in the gradient), AdamW (decoupled decay) or SGD with momentum.

    The same updates as `torch.optim.Adam`, `AdamW` and `SGD` with their default constants, in torch's
    fused form; parameters without a gradient are skipped.

    Args:
        params: which optimizer, and which parameters it treats otherwise.
        named: names and parameters in a fixed order; those that need no gradient are left out.

    Raises:
        ConfigError: if a group names no parameter.
    """

    def __init__(self, params: OptimizerParams, named: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
        self.params = params
        trainable = [(name, p) for name, p in named if p.requires_grad]
        self.parameters = [p for _, p in trainable]
        self._groups = _grouped(params, trainable)
        slots = ("momentum",) if params.name == "sgd" else ("mean", "square")
        if params.amsgrad and params.name != "sgd":
            slots = (*slots, "largest")
        self._slots = {
            slot: [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters] for slot in slots
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
        for group in self._groups:
            live = [i for i in group.places if self.parameters[i].grad is not None]
            for _ in range(group.updates if live else 0):
                update = self._sgd if self.params.name == "sgd" else self._adam
                update(live, lr * group.lr_factor, group.weight_decay)

    def _adam(self, live: list[int], lr: float, weight_decay: float) -> None:
        from torch.optim.adam import adam
        from torch.optim.adamw import adamw

        update = adamw if self.params.name == "adamw" else adam
        update(
            [self.parameters[i] for i in live],
            self._gradients(live),
            [self._slots["mean"][i] for i in live],
            [self._slots["square"][i] for i in live],
            [self._slots["largest"][i] for i in live] if self.params.amsgrad else [],
            [self._counts[i] for i in live],
            fused=True,
            amsgrad=self.params.amsgrad,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=_EPS,
            maximize=False,
        )

    def _gradients(self, live: list[int]) -> list[torch.Tensor]:
        found = [self.parameters[i].grad for i in live]
        return [gradient for gradient in found if gradient is not None]

    def _sgd(self, live: list[int], lr: float, weight_decay: float) -> None:
        from torch.optim.sgd import sgd

        sgd(
            [self.parameters[i] for i in live],
            self._gradients(live),
            [self._slots["momentum"][i] for i in live],
            fused=True,
            weight_decay=weight_decay,
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
