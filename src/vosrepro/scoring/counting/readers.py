"""From two label images to planes of the same objects, by the rules of a protocol."""

from __future__ import annotations

from collections.abc import Sequence

from vosrepro.base.errors import DataError, ProtocolError
from vosrepro.scoring.counting.jobs import CountingJob
from vosrepro.scoring.counting.packing import (
    VOID,
    Packed,
    check_two_values,
    labels_in,
    pack_binary,
    pack_objects,
)
from vosrepro.scoring.counting.png import LabelImage, Malformed
from vosrepro.scoring.counting.protocols import Protocol
from vosrepro.scoring.counting.trees import Tree


class PairReader:
    """Reads the frames of one job.

    Attributes:
        ids: the objects; grows while reading if the protocol takes every label that occurs.
    """

    def __init__(self, protocol: Protocol, truth: Tree, predictions: Tree, job: CountingJob) -> None:
        self._protocol = protocol
        self._truth = truth
        self._predictions = predictions
        self._job = job
        self._binary = protocol.labels != "ids" or job.object_id is not None
        self.ids: tuple[int, ...] = tuple(sorted(job.starts if job.ids is None else job.ids))

    def pair(self, frame: str, truth: Packed | None = None) -> tuple[Packed, Packed]:
        """Planes of annotation and prediction, same ids.

        Args:
            frame: its name.
            truth: planes of the annotation where they are known already.

        Raises:
            DataError: if a file is missing, unreadable, or of another size than its annotation.
            ProtocolError: if the prediction holds an id that the protocol refuses.
        """
        if truth is None:
            truth = self.annotation(frame)
        prediction = self._checked_prediction(frame, truth)
        if truth.ids != prediction.ids:  # the prediction brought new ids
            truth = self.annotation(frame)
        return truth, prediction

    def _checked_prediction(self, frame: str, truth: Packed) -> Packed:
        # One decoded image at a time: both would fall out of the second-level cache.
        result = self._predictions.image(self._job.folder, frame)
        if (truth.height, truth.width) != (result.height, result.width):
            raise DataError(
                f"{self._where(self._predictions, frame)} is {result.width} x {result.height} pixels, "
                f"but its annotation is {truth.width} x {truth.height}: write masks at the size of the "
                "annotation"
            )
        return self._prediction(result, frame)

    def annotation(self, frame: str) -> Packed:
        """Planes of an annotation alone."""
        return self._annotation(self._truth.image(self._job.folder, frame), frame)

    def _annotation(self, image: LabelImage, frame: str) -> Packed:
        void = self._protocol.void
        if self._binary:
            self._check_values(image, self._truth, frame)
            return pack_binary(image, ignore=VOID if void else None)
        packed, others = pack_objects(image, self.ids)
        if others and self._job.ids is None:
            found = set(labels_in(image)) - ({VOID} if void else set())
            if self._learn(found):
                packed, _ = pack_objects(image, self.ids)
        return packed

    def _prediction(self, image: LabelImage, frame: str) -> Packed:
        if self._binary:
            self._check_values(image, self._predictions, frame)
            return pack_binary(image)
        packed, others = pack_objects(image, self.ids)
        if not others:
            return packed
        if self._job.ids is None:
            self._learn(set(labels_in(image)))
            return pack_objects(image, self.ids)[0]
        if self._protocol.extra == "refuse":
            extra = next(v for v in labels_in(image) if v not in self.ids)
            raise ProtocolError(
                f"{self._where(self._predictions, frame)}: id {extra} is predicted, but the objects "
                f"there are {ids_in_words(self.ids)}: predict only ids of the given masks"
            )
        return packed

    def _learn(self, found: set[int]) -> bool:
        """Take new labels as objects."""
        before = self.ids
        self.ids = tuple(sorted({*before, *found}))
        return self.ids != before

    def _check_values(self, image: LabelImage, tree: Tree, frame: str) -> None:
        if self._protocol.labels != "two-valued":
            return
        try:
            check_two_values(image)
        except Malformed as error:
            raise DataError(f"{self._where(tree, frame)}: {error}") from error

    def _where(self, tree: Tree, frame: str) -> str:
        return f"{tree.name}: sequence '{self._job.folder}', frame '{frame}'"


def ids_in_words(ids: Sequence[int]) -> str:
    """Ids for a sentence: "1..4", "1, 3" or "none"."""
    if not ids:
        return "none"
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]}..{ids[-1]}"
    return ", ".join(map(str, ids))
