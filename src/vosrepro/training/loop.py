"""The whole training of one stage on one rank: build, run the steps, save, resume, publish.

Nothing here knows a method by name. The result is a function of the parameters, the data and the parent's
weights alone: on one process an interrupted job ends with the same bits as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import cv2
import torch

from vosrepro.base.errors import ConfigError, DeviceError, VosreproError
from vosrepro.base.files import begin_anew
from vosrepro.base.machine import pick_device
from vosrepro.methods import get_method
from vosrepro.methods.common.batchnorm import has_live_norm
from vosrepro.tracking.journal import Journal
from vosrepro.training import record
from vosrepro.training.data.clips import load_items, to_batch
from vosrepro.training.data.images import validation
from vosrepro.training.data.loader import batches, make_loader
from vosrepro.training.data.order import step_seed
from vosrepro.training.devices.world import World, joined
from vosrepro.training.job import MicroBatch, TrainingJob
from vosrepro.training.meter import Meter
from vosrepro.training.optimize import learning_rate
from vosrepro.training.state import StateFolder
from vosrepro.training.stop import Stop

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from vosrepro.base.types import Batch
    from vosrepro.study.params import Study
    from vosrepro.study.plan import StageNode

log = logging.getLogger(__name__)

_AGREE_EVERY_STEPS = 10  # how often several ranks ask each other whether one was told to stop
_LINE_EVERY_S = 60.0


def train(
    node: StageNode,
    study: Study,
    *,
    device: str = "auto",
    threads: int | None = None,
    world: World | None = None,
    micro_batch: int | None = None,
    anew: int = 0,
) -> None:
    """Train one stage to its end, resuming if an earlier attempt was interrupted.

    Args:
        node: the stage.
        study: where the data lies and what is held out.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of this process; None leaves the libraries' own choice.
        world: this rank's place; None takes RANK, WORLD_SIZE and LOCAL_RANK of the environment.
        micro_batch: the most samples of one forward pass; more are accumulated. None: the stage's own, then the
            study's where the network does not normalize by its batch.
        anew: see `vosrepro.base.files.begin_anew`.

    Raises:
        BusyError: if another process trains this stage.
        CheckpointError, ConfigError, DataError, DeviceError: see their messages.
        VosreproError: if the loss is not finite, or a signal ended the job (its state is saved).
    """
    world = World.from_environment() if world is None else world
    method = get_method(node.method)
    if method.build is None or method.train_step is None:
        raise ConfigError(f"method '{node.method}' has no weights to train")
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    place = pick_device(device, local_rank=world.local_rank)
    identity = record.identify(node)
    folder = StateFolder(identity.state)
    stop = Stop()
    with _alone(folder, world, place, stop, anew):
        saved = _usable_state(folder, node, world)
        if saved is None or not saved["finished"]:
            journal = Journal(node.journal, enabled=world.first)
            limit = MicroBatch(micro_batch or node.params.micro_batch, study.micro_batch)
            job = TrainingJob.build(node, folder, journal, world, place, limit, resuming=saved is not None)
            loader, facts = _begin(job, study, identity, saved)
            with job.journal, batches(loader) as found:
                take_steps(job, found, stop, validation(job, study))
            saved = _end(job, facts)
        elif world.first:
            log.info("%s was finished before; its outputs are written again", folder.path)
        if world.first:
            record.publish(node, identity, folder, saved["facts"])


@contextlib.contextmanager
def _alone(folder: StateFolder, world: World, place: torch.device, stop: Stop, anew: int) -> Iterator[None]:
    """Nobody else trains this stage, signals are heard, the ranks know each other, and torch's generators are ours."""
    with contextlib.ExitStack() as stack:
        if world.first:
            stack.enter_context(folder.locked())
            begin_anew(folder.path, anew, keep=("lock",))  # before other ranks are let in
        stack.enter_context(stop.listening())
        stack.enter_context(joined(world, place))
        stack.enter_context(torch.random.fork_rng(_forked(place)))
        yield


def _usable_state(folder: StateFolder, node: StageNode, world: World) -> dict[str, Any] | None:
    """What an earlier attempt saved, if all its checkpoints are still there."""
    saved = folder.load(first=world.first)
    if saved is not None and not folder.complete(saved, node.params.checkpoint_steps()):
        log.warning("checkpoints are missing or damaged in %s: training from the start", folder.path)
        return None
    return saved


def _begin(
    job: TrainingJob, study: Study, identity: record.Identity, saved: dict[str, Any] | None
) -> tuple[DataLoader, dict[str, Any]]:
    """The batches of the steps that are left, and the facts of the job so far."""
    items = load_items(job.node.params, study.data, held_out=job.node.held_out)
    if saved is not None:
        job.restore(saved)
    elif job.world.first:
        record.clear_stale(job.node)
        log.info("%s: training %d steps on %s", job.node.folder, job.node.params.steps, job.device)
    job.check_space()
    facts = record.job_facts(job.node, str(job.device), job.world.size)
    record.begin_stage_journal(job.node, identity, job.journal, step=job.step, facts=facts)
    share = job.world.share(job.node.params.batch_size)
    return make_loader(job.node, items, share=share, first=job.step, pin=job.device.type == "cuda"), facts


def _end(job: TrainingJob, facts: dict[str, Any]) -> dict[str, Any]:
    """The finished state, saved beside the journal."""
    facts = facts | job.measured()
    job.journal.end("FINISHED", job.metrics)
    state = {"finished": True, "step": job.step, "facts": facts, "checkpoints": job.checkpoints}
    if job.world.first:
        job.folder.journal.write_bytes(job.journal.path.read_bytes())
        job.folder.save(state)
    return state


def _forked(device: torch.device) -> list[int]:
    return [device.index] if device.type == "cuda" and device.index is not None else []


def take_steps(job: TrainingJob, found: Iterator[Any], stop: Stop, validate: Callable[[], None] | None) -> None:
    """Do the steps that are left; between two of them report, validate, keep weights, save the state, or stop.

    Args:
        job: what the steps work on.
        found: collated samples, one item a step.
        stop: whether a signal asked for an end.
        validate: what to do at each checkpoint.

    Raises:
        VosreproError: if the loss is not finite, or a signal ended the job after its state was saved.
    """
    params = job.node.params
    weights_at = set(params.checkpoint_steps())
    said = time.monotonic()
    for batch in _timed(found, job.meter):
        update(job, batch)
        job.step += 1
        job.meter.step_done()
        last = job.step == params.steps
        reporting = last or job.step % params.log_every_steps == 0
        keeping = job.step in weights_at
        stopping = not last and _agreed(job, stop)
        saving = stopping or (not last and _state_due(job, keeping=keeping))
        if reporting or keeping or saving:
            _check_losses(job)
        if reporting:
            said = _report(job, said)
        if keeping and validate is not None:
            validate()
        if keeping:
            job.save_weights()
        if saving:
            job.save_state()
        if stopping:
            raise VosreproError(
                f"training of {job.node.folder} was stopped by {stop.signal or 'a signal'} after step "
                f"{job.step} of {params.steps}; its state is saved: run the same command to go on"
            )


def _state_due(job: TrainingJob, *, keeping: bool) -> bool:
    every = job.node.params.state_every_steps
    return job.step % every == 0 if every else keeping


def _timed(batches: Iterator[Any], meter: Meter) -> Iterator[Any]:
    while True:
        before = time.perf_counter()
        batch = next(batches, None)
        meter.waited_s += time.perf_counter() - before
        if batch is None:
            return
        yield batch


def update(job: TrainingJob, samples: Mapping[str, torch.Tensor]) -> None:
    """One step of the optimizer on this rank's share of the global batch.

    The gradient is that of the mean loss over the global batch, whatever it is split into: DDP averages over
    ranks, so a part of n samples weighs n * ranks / global batch. Nothing is learned if every part on every rank
    says "skipped": 1.
    """
    params, train_step = job.node.params, job.method.train_step
    assert train_step is not None
    torch.manual_seed(step_seed(job.node.seed, job.node.stage, job.step))
    skips: list[torch.Tensor] = []
    with _memory_errors_explained(job):
        for part, synced in _parts(job, samples):
            count = len(part["frames"])
            with contextlib.nullcontext() if synced else job.model.no_sync():  # type: ignore[operator]
                with torch.autocast(job.device.type, dtype=torch.bfloat16, enabled=params.precision == "bf16"):
                    values = train_step(job.model, part, iteration=job.step, **params.loss)
                weight = count * job.world.size / params.batch_size
                loss = values["loss"] if weight == 1 else values["loss"] * weight
                job.guard.note(loss, step=job.step)
                if job.device.type == "cpu":
                    _check_losses(job)  # elsewhere this would wait for the device at each step
                loss.backward()
            if "skipped" in values:
                skips.append(torch.as_tensor(values["skipped"], device=job.device).detach() >= 1)
            job.meter.add(values, samples=count)
    if _anything_learned(job, skips):
        _apply_gradient(job)
    job.optimizer.zero_grad()


def _parts(job: TrainingJob, samples: Mapping[str, torch.Tensor]) -> Iterator[tuple[Batch, bool]]:
    """Micro-batches of this rank, each with whether its backward pass is the one that ranks exchange gradients in."""
    batch = cast("Mapping[str, torch.Tensor]", to_batch(samples, job.device))
    count = len(batch["frames"])
    for start in range(0, count, job.micro_batch):
        part = {name: value[start : start + job.micro_batch] for name, value in batch.items()}
        yield cast("Batch", part), start + job.micro_batch >= count or job.world.size == 1


@contextlib.contextmanager
def _memory_errors_explained(job: TrainingJob) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"set micro_batch: {max(1, job.micro_batch // 2)} in the study (same result, less memory) or "
        if has_live_norm(job.network) or job.micro_batch == 1:
            smaller = ""
        raise DeviceError(f"{job.device} ran out of memory at step {job.step}: {smaller}use more GPUs") from error


def _anything_learned(job: TrainingJob, skips: list[torch.Tensor]) -> bool:
    if not skips:
        return True
    learned = torch.stack(skips).logical_not().any().float()
    return bool(job.world.sum(learned) > 0)


def _apply_gradient(job: TrainingJob) -> None:
    params = job.node.params
    if params.optimizer.gradient_clip is not None:
        job.optimizer.clip(params.optimizer.gradient_clip)
    job.optimizer.step(learning_rate(params.optimizer, job.step, params.steps))
    if job.average is not None:
        job.average.update(job.step)


def _check_losses(job: TrainingJob) -> None:
    step = job.guard.first_bad_step()
    if step is not None:
        raise VosreproError(
            f"the loss of {job.node.folder} is not finite at step {step}: lower the learning rate "
            f"({job.node.params.optimizer.lr}) or set gradient_clip in params/methods/"
            f"{job.node.method}.yaml; the last saved state is kept in {job.folder.path}"
        )


def _report(job: TrainingJob, said: float) -> float:
    """Log the metrics of a window; the time of the last line."""
    params = job.node.params
    metrics = job.meter.report(job.world)
    metrics["train/lr"] = learning_rate(params.optimizer, job.step - 1, params.steps)
    job.metrics = metrics
    job.journal.metrics(metrics, step=job.step)
    now = time.monotonic()
    if job.world.first and (now - said >= _LINE_EVERY_S or job.step == params.steps):
        log.info(
            "%s: step %d of %d, loss %.4f, %.1f samples/s (loader %.0f %%)",
            job.node.folder,
            job.step,
            params.steps,
            metrics["train/loss"],
            metrics["time/samples_per_second"],
            100 * metrics["time/loader_share"],
        )
        return now
    return said


def _agreed(job: TrainingJob, stop: Stop) -> bool:
    """Whether the job is to stop after this step; all ranks answer alike."""
    if job.world.size == 1:
        return stop.signal is not None
    if job.step % _AGREE_EVERY_STEPS:
        return False
    told = torch.tensor(float(stop.signal is not None), device=job.device)
    return bool(job.world.sum(told) > 0)
