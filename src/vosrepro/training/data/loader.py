"""From items to collated samples: decoded frames kept in memory, worker processes, a fixed order."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vosrepro.base.errors import DataError, VosreproError
from vosrepro.training.data.clips import Item, Readers, Sample, make_sampler, read_soft_mask
from vosrepro.training.data.order import item_of, sample_generator
from vosrepro.training.devices.world import die_with_parent

if TYPE_CHECKING:
    from vosrepro.study.plan import StageNode

log = logging.getLogger(__name__)

_CACHE_BYTES = 512 << 20
_PREFETCH = 4
#: How long the next batch may take; a worker that waits for a dead file server never answers.
_LONGEST_WAIT_S = 1800.0
_SHARED = Path("/dev/shm")


class Cache:
    """Keeps decoded arrays until a budget is used up; what comes later is decoded each time.

    A small set is decoded once; of a large one the first frames stay, which costs nothing but the memory.

    Args:
        budget_bytes: the most to keep.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._left = budget_bytes
        self._arrays: dict[Any, np.ndarray] = {}

    def get(self, key: Any, read: Any, *arguments: Any) -> np.ndarray:
        """`read(*arguments)`, remembered under `key`."""
        array = self._arrays.get(key)
        if array is None:
            array = read(*arguments)
            if array.nbytes <= self._left:
                self._left -= array.nbytes
                self._arrays[key] = array
        return array


class StageSamples(Dataset):
    """All samples of a stage, addressed by (step, index in the global batch)."""

    def __init__(self, node: StageNode, items: list[Item], *, cache_bytes: int = _CACHE_BYTES) -> None:
        from vosrepro import datasets

        self._node = node
        self._items = items
        cache = Cache(cache_bytes)
        readers = Readers(
            frame=lambda path: cache.get(path, datasets.read_frame, path),
            labels=lambda video, frame: cache.get(video.annotations[frame], datasets.read_annotation, video, frame),
            mask=lambda path: cache.get(path, read_soft_mask, path),
        )
        self._sampler = make_sampler(node.params.clips, readers)

    def __len__(self) -> int:
        """Samples of the whole stage."""
        return self._node.params.steps * self._node.params.batch_size

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        """The sample `index` of the global batch of `step`; nothing else determines it."""
        step, index = place
        node = self._node
        number = step * node.params.batch_size + index
        item = self._items[item_of(node.seed, node.stage, number=number, items=len(self._items))]
        rng = sample_generator(node.seed, node.stage, step, index)
        return self._sampler.sample(item, rng, share=step / node.params.steps)

    def __getitems__(self, places: Sequence[tuple[int, int]]) -> list[Sample] | VosreproError:
        """The samples of a batch. A fault is returned: torch would put a traceback into its sentence."""
        try:
            return [self[place] for place in places]
        except VosreproError as error:
            return error


class _Steps:
    """Places of one rank's share of every global batch from a step on."""

    def __init__(self, share: range, first: int, steps: int) -> None:
        self._share, self._first, self._steps = share, first, steps

    def __len__(self) -> int:
        return self._steps - self._first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self._first, self._steps):
            yield [(step, index) for index in self._share]


def collate(samples: list[Sample] | VosreproError) -> dict[str, torch.Tensor] | VosreproError:
    """Stack samples along a new first dimension; a fault passes through to `batches`."""
    if isinstance(samples, VosreproError):
        return samples
    return {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}


def collate_plain(samples: list[Sample] | VosreproError) -> dict[str, np.ndarray] | VosreproError:
    """`collate` without tensors: arrays go through a pipe and need no shared memory."""
    if isinstance(samples, VosreproError):
        return samples
    return {name: np.stack([s[name] for s in samples]) for name in samples[0]}


def fits_shared(batch_bytes: int, batches_under_way: int, *, where: Path = _SHARED) -> bool:
    """Whether shared memory has room for all batches under way; containers often have 64 MB of it.

    A worker that finds it full is killed or hangs, so batches then go through pipes, which costs a copy.
    """
    try:
        facts = os.statvfs(where)
    except OSError:
        return True  # this system shares memory in another way
    return 2 * batch_bytes * batches_under_way <= facts.f_bavail * facts.f_frsize


def make_loader(node: StageNode, items: list[Item], *, share: range, first: int, pin: bool) -> DataLoader:
    """Batches of one rank from step `first` on, in order.

    Args:
        node: the stage; `loader_workers` of its parameters is the number of worker processes.
        items: what `clips.load_items` found.
        share: indices of the global batch that this rank computes.
        first: the first step.
        pin: whether batches go to page-locked memory, for copies to a GPU.
    """
    workers = node.params.loader_workers
    clips = StageSamples(node, items, cache_bytes=_CACHE_BYTES // max(1, workers))
    return DataLoader(
        clips,
        batch_sampler=_Steps(share, first, node.params.steps),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate if not workers or _shares(clips, share, first, workers) else collate_plain,
        timeout=_LONGEST_WAIT_S if workers else 0,
        pin_memory=pin,
        prefetch_factor=_PREFETCH if workers else None,
        worker_init_fn=_begin_worker if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


@contextlib.contextmanager
def batches(loader: DataLoader) -> Iterator[Iterator[dict[str, torch.Tensor]]]:
    """The batches of a loader, whose workers end with the block however it is left.

    At its exit Python would wait forever for workers of a failed training, for they ignore SIGTERM.

    Raises:
        VosreproError: a fault that a worker met, as it stated it.
    """
    found = iter(loader)
    try:
        yield map(_sound, _timely(found))
    finally:
        end = getattr(found, "_shutdown_workers", None)  # torch calls it when it collects `found`
        if end is not None:
            end()


def _shares(clips: StageSamples, share: range, first: int, workers: int) -> bool:
    """Whether the batches of all workers fit into shared memory, judged by the first sample."""
    sample = clips.__getitems__([(first, share[0])]) if len(clips) and len(share) else []
    if isinstance(sample, VosreproError) or not sample:
        return True  # the worker meets the fault itself
    size = len(share) * sum(array.nbytes for array in sample[0].values())
    fits = fits_shared(size, workers * _PREFETCH)
    if not fits:
        log.warning("%s is too small for the batches of %d workers: they go through pipes", _SHARED, workers)
    return fits


def _timely(found: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            batch = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
            raise DataError(
                f"the loader's workers gave no batch in {_LONGEST_WAIT_S:.0f} s: see whether the disk of the data "
                "answers, then run again"
            ) from error
        yield batch


def _sound(batch: Any) -> dict[str, torch.Tensor]:
    if isinstance(batch, VosreproError):
        raise batch
    return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in batch.items()}


def _begin_worker(_worker: int) -> None:
    """Leave signals to the rank that owns this worker, and die with it."""
    import signal

    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
