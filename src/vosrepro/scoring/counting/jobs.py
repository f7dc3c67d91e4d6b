"""What has to be counted: the frames and objects of each sequence, by the rules of a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vosrepro.base.errors import DataError, ProtocolError
from vosrepro.scoring.counting.packing import VOID, labels_in
from vosrepro.scoring.counting.protocols import Protocol
from vosrepro.scoring.counting.trees import Tree


class CountingJob(NamedTuple):
    """Frames of one folder to count.

    Attributes:
        sequence: name in the result.
        folder: where the masks lie in both trees: the sequence, or sequence/object.
        frames: names of the frames to count.
        first: index of frames[0] among the folder's annotated frames.
        ids: objects, or None if every label that occurs is one.
        starts: index of the frame of each object's first annotation, as far as known beforehand.
        object_id: the one object of a per-object folder.
    """

    sequence: str
    folder: str
    frames: tuple[str, ...]
    first: int
    ids: tuple[int, ...] | None
    starts: Mapping[int, int]
    object_id: int | None = None

    def blocks(self, size: int) -> list[CountingJob]:
        """The same work in pieces of at most `size` frames."""
        return [
            self._replace(frames=self.frames[i : i + size], first=self.first + i)
            for i in range(0, len(self.frames), size)
        ] or [self]


def plan_jobs(protocol: Protocol, truth: Tree, sequence: str, starts: Mapping[int, str] | None) -> list[CountingJob]:
    """The jobs of one sequence: one, or one per object folder.

    Args:
        protocol: the rules.
        truth: annotations.
        sequence: its name.
        starts: from meta.json: object id -> frame of its first mask; None without meta.json.

    Raises:
        DataError: if annotations are missing or unreadable.
        ProtocolError: if they cannot be scored by the protocol.
    """
    if protocol.per_object_folders and not truth.frames(sequence):
        return [
            _plan_folder(protocol, truth, sequence, f"{sequence}/{name}", object_id)
            for name, object_id in _object_folders(truth, sequence)
        ]
    if protocol.objects == "starts" and starts is not None:
        return [_plan_starts(protocol, truth, sequence, starts)]
    return [_plan_folder(protocol, truth, sequence, sequence, None)]


def _plan_folder(protocol: Protocol, truth: Tree, sequence: str, folder: str, object_id: int | None) -> CountingJob:
    """By the annotations alone."""
    frames = _frames(protocol, truth, folder)
    ids: tuple[int, ...] | None = None
    starts: dict[int, int] = {}
    if protocol.objects == "single" or object_id is not None:
        ids = (1,)
    elif protocol.objects in ("to maximum", "starts"):
        first = labels_in(truth.image(folder, frames[0]))
        present = [v for v in first if not (protocol.void and v == VOID)]
        if protocol.objects == "starts":
            starts = dict.fromkeys(present, 0)
        elif present:
            ids = tuple(range(1, max(present) + 1))
        else:
            raise ProtocolError(_no_objects(truth, folder, frames[0], first))
    scored = frames[1 : _end(protocol, frames)]
    return CountingJob(sequence, folder, tuple(scored), 1, ids, starts, object_id)


def _plan_starts(protocol: Protocol, truth: Tree, sequence: str, starts: Mapping[int, str]) -> CountingJob:
    """By the objects of meta.json."""
    frames = _frames(protocol, truth, sequence)
    index = {frame: i for i, frame in enumerate(frames)}
    for object_id, frame in starts.items():
        if frame not in index:
            raise DataError(
                f"{truth.name}: sequence '{sequence}': meta.json says that object {object_id} begins "
                f"on frame '{frame}', but {sequence}/{frame}.png is missing"
            )
    first = min((index[f] for f in starts.values()), default=len(frames)) + 1
    scored = frames[first : _end(protocol, frames)]
    known = {object_id: index[frame] for object_id, frame in starts.items()}
    return CountingJob(sequence, sequence, tuple(scored), first, tuple(sorted(starts)), known)


def _frames(protocol: Protocol, truth: Tree, folder: str) -> list[str]:
    """Names of the annotated frames; enough of them for the protocol."""
    frames = truth.frames(folder)
    if not frames:
        raise DataError(f"{truth.name}: sequence '{folder}' has no annotation: check the folder of the truth")
    needed = 2 if protocol.frames == "after start" else 3
    if len(frames) < needed:
        raise ProtocolError(
            f"{truth.name}: sequence '{folder}' has {len(frames)} annotated frame(s), but protocol "
            f"'{protocol.name}' needs at least {needed}: is this the annotation of first frames only?"
        )
    return frames


def _end(protocol: Protocol, frames: Sequence[str]) -> int:
    return len(frames) if protocol.frames == "after start" else len(frames) - 1


def _object_folders(truth: Tree, sequence: str) -> list[tuple[str, int]]:
    folders = truth.folders(sequence)
    if not folders:
        raise DataError(f"{truth.name}: sequence '{sequence}' has no annotation")
    for name in folders:
        if not name.isdecimal():
            raise DataError(f"{truth.name}: folder '{sequence}/{name}' is not an object number (000, 001, ...)")
    return [(name, int(name)) for name in folders]


def _no_objects(truth: Tree, folder: str, frame: str, labels: Sequence[int]) -> str:
    where = f"{truth.name}: sequence '{folder}', frame '{frame}'"
    if labels:
        return (
            f"{where} holds only the void label 255, so there is nothing to score: these look like "
            "DAVIS-2016 annotations, use protocol davis2016"
        )
    return f"{where} holds no object, so there is nothing to score: check the annotation"
