"""Decoded annotations on disk, keyed by their content, for scoring the same truth many times.

An entry holds the bit planes of the frames of one job. Its name is a digest of the PNG bytes and of the
rules by which they are read, so a changed annotation can never meet an old entry; nothing expires. A
damaged entry is made anew. The folder can be deleted at any time.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.scoring.counting.jobs import CountingJob
from vosrepro.scoring.counting.packing import WORD, Packed, packed
from vosrepro.scoring.counting.protocols import Protocol
from vosrepro.scoring.counting.trees import ArrayTree, Tree

_FORMAT = 1  # rises when the meaning of an entry changes
_FIELDS = 6  # per frame: height, width, top, left, rows, words


class TruthCache:
    """A folder of entries."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def load(self, protocol: Protocol, truth: Tree, job: CountingJob) -> list[Packed] | None:
        """Planes of the annotations of a job, from the cache or decoded and stored.

        Returns:
            One item per frame of the job; None if the job cannot be cached (objects that are only known
            after reading, or arrays in memory).

        Raises:
            DataError: if an annotation is missing or unreadable.
        """
        if job.ids is None or isinstance(truth, ArrayTree):
            return None
        from vosrepro.base.files import atomic
        from vosrepro.scoring.counting.readers import PairReader

        path = self.folder / f"{self._digest(protocol, truth, job)}.planes"
        stored = self._read(path, job)
        if stored is not None:
            return stored
        reader = PairReader(protocol, truth, truth, job)
        planes = [reader.annotation(frame) for frame in job.frames]
        try:
            with atomic(path) as temporary:
                temporary.write_bytes(_encode(planes))
        except DataError as error:  # a full or read-only disk must not stop scoring
            _warn("annotations are not cached: %s", error)
        return planes

    def _digest(self, protocol: Protocol, truth: Tree, job: CountingJob) -> str:
        import hashlib

        rules = (_FORMAT, protocol.labels, protocol.void, job.ids, job.object_id is not None)
        digest = hashlib.blake2b(repr(rules).encode(), digest_size=20)
        for frame in job.frames:
            data = truth.data(job.folder, frame)
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def _read(self, path: Path, job: CountingJob) -> list[Packed] | None:
        try:
            content = np.asarray(np.memmap(path, np.uint8, "r"))
        except (OSError, ValueError):
            return None
        try:
            return _decode(content, job)
        except ValueError as error:
            _warn("%s is damaged (%s): it is made anew", path, error)
            return None


def _encode(planes: list[Packed]) -> bytes:
    """Checksum, number of frames, number of objects, ids, six fields per frame, then the bits."""
    ids = planes[0].ids if planes else ()
    header = [len(planes), len(ids), *ids]
    for p in planes:
        header += [p.height, p.width, p.top, p.left, *p.bits.shape[1:]]
    body = np.array(header, "<i8").tobytes() + b"".join(p.bits.tobytes() for p in planes)
    return zlib.crc32(body).to_bytes(8, "little") + body


def _decode(content: np.ndarray, job: CountingJob) -> list[Packed]:
    if (
        content.size < 24
        or content.size % 8
        or zlib.crc32(content[8:].data) != int.from_bytes(bytes(content[:8]), "little")
    ):
        raise ValueError("wrong checksum")
    words = content[8:].view(WORD)
    frames, objects = int(words[0]), int(words[1])
    ids = tuple(int(k) for k in words[2 : 2 + objects])
    if frames != len(job.frames) or ids != job.ids:
        raise ValueError("other frames or objects")
    at = 2 + objects + _FIELDS * frames
    fields = words[2 + objects : at].reshape(frames, _FIELDS)
    planes = []
    for height, width, top, left, rows, pitch in fields.tolist():
        size = objects * rows * pitch
        bits = words[at : at + size].reshape(objects, rows, pitch)
        planes.append(packed(height, width, top, left, ids, bits))
        at += size
    return planes


def _warn(message: str, *values: object) -> None:
    import logging

    logging.getLogger(__name__).warning(message, *values)
