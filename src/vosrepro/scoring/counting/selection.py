"""Which of the counts a protocol scores: objects, and the frames of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vosrepro.base.errors import ProtocolError
from vosrepro.scoring.counting.jobs import CountingJob
from vosrepro.scoring.counting.protocols import Protocol
from vosrepro.scoring.counting.readers import ids_in_words


class Counts(NamedTuple):
    """Counts of a job: int64 (frames, objects, 7); sizes int64 (frames, 2) as height, width."""

    ids: tuple[int, ...]
    counts: np.ndarray
    sizes: np.ndarray


class ObjectCounts(NamedTuple):
    """The scored counts of one object.

    Attributes:
        sequence: its sequence.
        object_id: its id.
        frames: names of the scored frames.
        counts: int64 (frames, 7), columns as in `vosrepro.scoring.counting.counting.COUNTS`.
        sizes: int64 (frames, 2), height and width.
    """

    sequence: str
    object_id: int
    frames: tuple[str, ...]
    counts: np.ndarray
    sizes: np.ndarray


def select_counts(protocol: Protocol, job: CountingJob, counted: Counts, results: str) -> list[ObjectCounts]:
    """The objects and frames that the protocol scores.

    Args:
        protocol: the rules.
        job: what was counted.
        counted: all its counts.
        results: name of the predictions, for errors.

    Raises:
        ProtocolError: if an id is predicted that never is an object.
    """
    selected = []
    for k, object_id in enumerate(counted.ids):
        begin = _first_scored(protocol, job, counted, k)
        if begin is None:
            _refuse_unknown(protocol, job, counted, k, results)
        elif begin < len(job.frames):
            name = object_id if job.object_id is None else job.object_id
            rows = counted.counts[begin:, k]
            selected.append(ObjectCounts(job.sequence, name, job.frames[begin:], rows, counted.sizes[begin:]))
    return selected


def _first_scored(protocol: Protocol, job: CountingJob, counted: Counts, k: int) -> int | None:
    """Index into job.frames of an object's first scored frame; None if it is no object."""
    if protocol.objects in ("to maximum", "single"):
        return 0
    in_truth = np.flatnonzero(counted.counts[:, k, 1])
    if protocol.objects == "seen":
        if not in_truth.size:
            return None
        return int(np.flatnonzero(counted.counts[:, k, 1:3].any(axis=1))[0])
    if counted.ids[k] in job.starts:
        return job.starts[counted.ids[k]] + 1 - job.first
    return int(in_truth[0]) + 1 if in_truth.size else None


def _refuse_unknown(protocol: Protocol, job: CountingJob, counted: Counts, k: int, results: str) -> None:
    predicted = np.flatnonzero(counted.counts[:, k, 2])
    if protocol.extra == "refuse" and predicted.size:
        frame = job.frames[int(predicted[0])]
        known = [i for n, i in enumerate(counted.ids) if counted.counts[:, n, 1].any()]
        raise ProtocolError(
            f"{results}: sequence '{job.folder}', frame '{frame}': id {counted.ids[k]} is predicted, but "
            f"the objects of the annotations are {ids_in_words(known)}: predict only ids of the given masks"
        )
