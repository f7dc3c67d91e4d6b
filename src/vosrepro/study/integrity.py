"""Whether a file is what the record of its maker says; one that is not is moved aside, so that a rerun makes it again.

A job that meets such a file moves it to `state/damaged/`, together with a declared output of the rule that makes it:
that rule is then due, and every job keeps what it had finished.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vosrepro.base.errors import CheckpointError, DamagedError, DataError
from vosrepro.base.files import file_digest
from vosrepro.base.fingerprints import fingerprints, masks_digest, read_fingerprints
from vosrepro.study import paths
from vosrepro.study.records import Record, RunScores, ScoreRecord, StageRecord

if TYPE_CHECKING:
    from vosrepro.study.plan import Entry, Run, StageNode

log = logging.getLogger(__name__)
_AnyRecord = TypeVar("_AnyRecord", bound=Record)


def set_aside(path: Path) -> Path | None:
    """Move a file out of the way, over one that was moved before; where it is then, None if it was not there."""
    inside = path.absolute().is_relative_to(Path.cwd())
    target = paths.DAMAGED / (os.path.relpath(path) if inside else path.name)
    if not path.exists():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    log.warning("%s lies in %s now", path, target)
    return target


def damaged(path: Path, fault: str, *, made_with: Path) -> DamagedError:
    """The error of a job that cannot use a file which another job made, after it was moved aside.

    Args:
        path: the file.
        fault: what is wrong with it, as the end of a sentence.
        made_with: a declared output of the rule that makes the file; it is moved too.
    """
    moved = [target for target in map(set_aside, dict.fromkeys((path, made_with))) if target is not None]
    aside = f" (moved to {moved[0]})" if moved else ""
    return DamagedError(f"{path} {fault}{aside}: run the same command again, which makes it again")


def read_record(kind: type[_AnyRecord], path: Path) -> _AnyRecord:
    """Read the record of another job.

    Raises:
        DamagedError: if the file is there and is no such record.
        DataError: if it is missing.
    """
    try:
        return kind.read(path)
    except DataError as error:
        if not path.is_file():
            raise
        raise damaged(path, f"is no readable {kind.what}", made_with=path) from error


def intact(path: Path, sha256: str | None, *, record: Path) -> str:
    """SHA-256 of a file, after a comparison with what the record of its maker says, if that says anything.

    Raises:
        DamagedError: if the file is missing or is another one.
    """
    if not path.is_file():
        raise damaged(path, f"is missing, although {record} names it", made_with=record)
    found = file_digest(path)
    if sha256 not in (None, found):
        raise damaged(path, f"is not the file that {record} names", made_with=record)
    return found


def stage_weights(node: StageNode, step: int) -> str:
    """SHA-256 of the weights of a finished stage, compared with its record.

    Raises:
        CheckpointError: if the stage has not been trained.
        DamagedError: if the weights or the record are damaged.
    """
    path = node.weights(step)
    if not node.record.is_file():
        if not path.is_file():
            raise CheckpointError(f"weights {path} are missing: train stage {node.stage} first")
        return file_digest(path)
    record = read_record(StageRecord, node.record)
    known = {file.step: file.sha256 for file in record.checkpoints}
    return intact(path, known.get(step), record=node.record)


def check_masks(entry: Entry, digest: str | None) -> None:
    """Compare the masks of an entry with what inference made.

    Args:
        entry: of a benchmark of videos.
        digest: of all masks, as inference recorded it; None: of an older version, which recorded none.

    Raises:
        DamagedError: naming a mask that is another one, is missing or was added.
    """
    if digest is None:
        return
    folders = (
        sorted(path.name for path in entry.masks.iterdir() if path.is_dir() and not path.name.startswith("."))
        if entry.masks.is_dir()
        else []
    )
    found = fingerprints(entry.masks, folders)
    if masks_digest(found) == digest:
        return
    raise damaged(*_first_difference(entry, digest, found), made_with=entry.run.inference)


def check_scores(run: Run, entries: Iterable[Entry]) -> None:
    """Compare the scores of a run's entries with those that its record lists, if it is there.

    Raises:
        DamagedError: naming the record of an entry that is missing or says something else.
    """
    if not run.scores.is_file():
        return
    listed = read_record(RunScores, run.scores).entries
    for entry in entries:
        if entry.key not in listed:
            raise damaged(run.scores, f"does not list {entry.key}", made_with=run.scores)
        try:
            found = ScoreRecord.read(entry.score).global_
        except DataError as error:
            raise damaged(entry.score, "is missing or no record of a score", made_with=run.scores) from error
        if found != listed[entry.key]:
            raise damaged(entry.score, f"has other values than {run.scores}", made_with=run.scores)


def _first_difference(entry: Entry, digest: str, found: dict[str, dict[str, str]]) -> tuple[Path, str]:
    """The first mask that is not as recorded, and what is wrong; the table itself if it does not tell."""
    table = entry.mask_digests
    try:
        recorded = read_fingerprints(table)
    except DataError:
        recorded = {}
    if masks_digest(recorded) != digest:
        return (
            table,
            f"cannot say which of the masks in {entry.masks} differ from those that {entry.run.inference} names",
        )
    for sequence in sorted({*recorded, *found}):
        ours, theirs = found.get(sequence, {}), recorded.get(sequence, {})
        for frame in sorted({*ours, *theirs}):
            if ours.get(frame) != theirs.get(frame):
                path = entry.masks / sequence / f"{frame}.png"
                fault = "is missing" if frame not in ours else "is not the file that inference wrote"
                return path, f"{fault} (see {table})"
    return entry.masks / next(iter(set(found) - set(recorded)), ""), "holds no mask that inference wrote"
