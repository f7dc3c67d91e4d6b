"""Counting all jobs, in this process or several: blocks of frames, those of long sequences first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vosrepro.base.errors import VosreproError
from vosrepro.base.machine import usable_cores
from vosrepro.scoring.counting.cache import TruthCache
from vosrepro.scoring.counting.counting import COUNTS, Counter
from vosrepro.scoring.counting.jobs import CountingJob
from vosrepro.scoring.counting.protocols import Protocol
from vosrepro.scoring.counting.readers import PairReader
from vosrepro.scoring.counting.scratch import keep_freed_memory
from vosrepro.scoring.counting.selection import Counts
from vosrepro.scoring.counting.trees import Tree

BLOCK_FRAMES = 24  # smallest unit of work of a process
BLOCKS = 8  # per process, so that all end at about the same time
MIN_FRAMES = 64  # per process: less work is done before a process has started


class CountingTask(NamedTuple):
    """What all blocks share."""

    protocol: Protocol
    truth: Tree
    predictions: Tree
    cache: TruthCache | None


def count_jobs(task: CountingTask, jobs: Sequence[CountingJob], processes: int) -> list[Counts]:
    """Count all jobs.

    Args:
        task: rules and masks.
        jobs: what to count.
        processes: how many may work; 0 means one per core.

    Raises:
        VosreproError: the mistake of the first job, in their order, that has one.
    """
    frames = sum(len(job.frames) for job in jobs)
    wanted = processes or usable_cores()
    wanted = max(1, min(wanted, frames // MIN_FRAMES))
    if wanted == 1:
        keep_freed_memory()
        counter = Counter()
        return [count_job(task, job, counter) for job in jobs]
    return _in_processes(task, jobs, wanted)


def count_job(task: CountingTask, job: CountingJob, counter: Counter) -> Counts:
    """Count the frames of one job.

    Raises:
        DataError: if a file is missing, unreadable or of another size than its annotation.
        ProtocolError: if a prediction holds an id that the protocol refuses.
    """
    reader = PairReader(task.protocol, task.truth, task.predictions, job)
    known = task.cache.load(task.protocol, task.truth, job) if task.cache is not None else None
    sizes = np.empty((len(job.frames), 2), np.int64)
    # One array for all frames: small ones would be strewn over the memory that images are decoded into.
    counts = np.zeros((len(job.frames), len(reader.ids), len(COUNTS)), np.int64)
    ids = reader.ids
    for i, frame in enumerate(job.frames):
        truth, prediction = reader.pair(frame, known[i] if known is not None else None)
        if reader.ids != ids:
            counter.flush()
            counts, ids = _widened(counts, ids, reader.ids), reader.ids
        sizes[i] = truth.height, truth.width
        counter.add(truth, prediction, counts[i])
    counter.flush()
    return Counts(ids, counts, sizes)


def _widened(counts: np.ndarray, ids: tuple[int, ...], wider: tuple[int, ...]) -> np.ndarray:
    """Counts (frames, objects, 7) with columns of zeros for the ids that are new."""
    out = np.zeros((len(counts), len(wider), len(COUNTS)), np.int64)
    out[:, [wider.index(k) for k in ids]] = counts
    return out


def _in_processes(task: CountingTask, jobs: Sequence[CountingJob], processes: int) -> list[Counts]:
    import multiprocessing
    import threading
    from concurrent.futures import ProcessPoolExecutor

    frames = sum(len(job.frames) for job in jobs)
    size = max(BLOCK_FRAMES, frames // (BLOCKS * processes))
    order = sorted(range(len(jobs)), key=lambda k: -len(jobs[k].frames))
    alone = len(threading.enumerate()) == 1 and "torch" not in sys.modules
    method = "fork" if alone and sys.platform == "linux" else "spawn"
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context(method), initializer=_begin, initargs=(task,)
    ) as pool:
        futures = {k: [pool.submit(_count_block, block) for block in jobs[k].blocks(size)] for k in order}
        try:
            return [_joined([f.result() for f in futures[k]]) for k in range(len(jobs))]
        except VosreproError:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(task: CountingTask) -> None:
    """Set up a worker process."""
    global _task, _counter
    keep_freed_memory()
    _task, _counter = task, Counter()


_task: CountingTask | None = None
_counter: Counter | None = None


def _count_block(job: CountingJob) -> Counts:
    assert _task is not None
    assert _counter is not None
    return count_job(_task, job, _counter)


def _joined(blocks: Sequence[Counts]) -> Counts:
    """Blocks of one job, one after the other; a block that does not know an id has no pixel of it."""
    ids = tuple(sorted({k for block in blocks for k in block.ids}))
    counts = [_widened(block.counts, block.ids, ids) for block in blocks]
    sizes = np.concatenate([block.sizes for block in blocks])
    return Counts(ids, np.concatenate(counts), sizes)
