"""One rank's part of a training job: building it, saving it, and going on from what was saved."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import nn

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.base.files import file_digest
from vosrepro.base.machine import peak_memory
from vosrepro.costs.jobs import training_bytes
from vosrepro.methods import get_method
from vosrepro.methods.common.batchnorm import has_live_norm, synchronize
from vosrepro.study.digests import code_of
from vosrepro.tracking.journal import Journal
from vosrepro.training.average import WeightAverage
from vosrepro.training.data.order import build_seed
from vosrepro.training.devices.world import World
from vosrepro.training.meter import LossGuard, Meter
from vosrepro.training.optimize import Optimizer
from vosrepro.training.state import StateFolder, check_free_space
from vosrepro.weights.files import load_strictly, load_weights, save_weights

if TYPE_CHECKING:
    from vosrepro.base.types import Method
    from vosrepro.study.plan import StageNode

log = logging.getLogger(__name__)


class MicroBatch(NamedTuple):
    """Who says how many samples are forwarded at once, if anyone does."""

    asked: int | None = None  # for this training
    of_study: int | None = None  # for all trainings of the study that it does not change

    def limit(self, share: int, *, live: bool) -> int:
        """The most samples of one forward pass on a device.

        Args:
            share: samples of a batch on this device.
            live: whether the network normalizes by what it is given at once.

        Raises:
            ConfigError: if what was asked for this training would change its batch statistics.
        """
        most = min(self.asked or self.of_study or share, share)
        if live and most < share:
            if self.asked:
                raise ConfigError(
                    f"a micro_batch of {self.asked} would change what the batch normalization of this network sees "
                    f"({share} samples on a device): leave it out, or use more GPUs"
                )
            return share
        return most


@dataclass
class TrainingJob:
    """What the steps of one rank work on.

    Attributes:
        network: the plain network; `model` is the same one, wrapped when there are several ranks.
        step: steps done.
        earlier_s: wall time of the interrupted attempts before this one.
        resumed_from: the steps at which attempts continued.
        checkpoints: step -> SHA-256 of the weights written so far.
    """

    node: StageNode
    method: Method
    network: nn.Module
    model: nn.Module
    optimizer: Optimizer
    average: WeightAverage | None
    meter: Meter
    guard: LossGuard
    world: World
    device: torch.device
    folder: StateFolder
    journal: Journal
    micro_batch: int
    step: int = 0
    earlier_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    resumed_from: list[int] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def wall_s(self) -> float:
        """Seconds of training so far, over all attempts."""
        return self.earlier_s + time.perf_counter() - self.began

    @classmethod
    def build(
        cls,
        node: StageNode,
        folder: StateFolder,
        journal: Journal,
        world: World,
        device: torch.device,
        micro_batch: MicroBatch,
        *,
        resuming: bool,
    ) -> Self:
        """The network with its seeded initialization or its parent's weights, and all around it.

        The weights are in place before the network is wrapped, so that all ranks start from rank 0's.

        Args:
            node: the stage.
            folder: its state folder.
            journal: its live journal.
            world: this rank's place.
            device: this rank's device.
            micro_batch: who says how many samples are forwarded at once.
            resuming: True leaves the parent's weights unread, for `restore` follows.

        Raises:
            CheckpointError: if the parent's weights do not fit.
            ConfigError: if micro-batches would change batch statistics.
        """
        method = get_method(node.method)
        assert method.build is not None
        share = world.share(node.params.batch_size)
        torch.manual_seed(build_seed(node.seed, node.stage))
        network = method.build(**node.model)
        if not resuming:
            _start_from_parent(network, node, method)
        network.to(device).train()
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        most = micro_batch.limit(len(share), live=has_live_norm(network))
        decay = node.params.average_decay
        average = None if decay is None else WeightAverage(network, decay)
        return cls(
            node=node,
            method=method,
            network=network,
            model=_shared(network, device) if world.size > 1 else network,
            optimizer=Optimizer(node.params.optimizer, network.named_parameters()),
            average=average,
            meter=Meter(device, node.params.batch_size),
            guard=LossGuard(device),
            world=world,
            device=device,
            folder=folder,
            journal=journal,
            micro_batch=most,
        )

    def check_space(self) -> None:
        """Refuse to begin if the disk cannot hold what is still to be saved.

        Raises:
            DataError: saying how much is missing.
        """
        size = sum(t.numel() * t.element_size() for t in self.network.state_dict().values())
        _, need = training_bytes(self.node.params, size, done=self.step)
        check_free_space(self.folder.path, need)

    def save_weights(self) -> None:
        """Write a checkpoint (first rank only).

        Raises:
            DataError: if the disk is full.
            CheckpointError: if safetensors is not installed.
        """
        if not self.world.first:
            return
        path = self.folder.weights(self.step)
        facts = {
            "method": self.node.method,
            "model": dict(self.node.model),
            "stage": self.node.stage,
            "step": self.step,
        }
        try:
            save_weights(path, (self.average or self.network).state_dict(), facts)
        except ImportError as error:
            raise CheckpointError(
                "weights are stored as safetensors, which is not installed: pip install safetensors"
            ) from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            reason = " ".join(str(error).split())[:120]
            raise DataError(
                f"{path} cannot be written ({reason}): free space or fix permissions, then run again"
            ) from error
        self.checkpoints[self.step] = file_digest(path)
        self.folder.publish(self.step, self.node.weights(self.step))

    def save_state(self) -> None:
        """Write what `restore` needs (first rank only; the ranks differ in nothing)."""
        if self.world.first:
            self.folder.save(
                {
                    "finished": False,
                    "step": self.step,
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": None if self.average is None else self.average.state_dict(),
                    "meter": self.meter.state_dict(),
                    "resumed_from": self.resumed_from,
                    "checkpoints": self.checkpoints,
                    "wall_s": self.wall_s,
                    "source": code_of("train", self.node.method),
                }
            )

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: if it does not fit.
        """
        load_strictly(self.network, saved["network"], source=str(self.folder.path))
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.meter.load_state_dict(saved["meter"])
        self.step = int(saved["step"])
        self.earlier_s = float(saved["wall_s"])
        self.resumed_from = [*saved["resumed_from"], self.step]
        self.checkpoints = dict(saved.get("checkpoints", {}))
        if self.world.first:
            steps = self.node.params.steps
            log.info("resumed from step %d of %d (%s)", self.step, steps, self.folder.path)
            if saved["source"] != code_of("train", self.node.method):
                log.warning("code has changed since the state was saved: raise `revision` to retrain")

    def measured(self) -> dict[str, Any]:
        """Time, memory and last metrics, for run.json."""
        memory = peak_memory(self.device)
        peak = memory["peak_gpu_allocated_mb"] or memory["peak_rss_mb"] or 0.0
        samples = self.step * self.node.params.batch_size
        return {
            "final_metrics": self.metrics,
            "resumed_from": self.resumed_from,
            "wall_seconds": round(self.wall_s, 3),
            "samples_per_second": round(samples / self.wall_s, 3),
            "peak_memory_mb": round(peak, 1),
        }


def _start_from_parent(network: nn.Module, node: StageNode, method: Method) -> None:
    """Load the weights of the stage before, fitted to this network; a first stage has none."""
    if node.parent is None:
        return
    source = node.parent.last_weights
    weights = load_weights(source)
    if method.transfer is not None:
        weights = method.transfer(weights, network)
    load_strictly(network, weights, source=str(source))


def _shared(network: nn.Module, device: torch.device) -> nn.Module:
    """The network wrapped so that all ranks take the same step."""
    synchronize(network)
    return nn.parallel.DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
