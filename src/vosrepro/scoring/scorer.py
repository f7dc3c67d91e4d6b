"""Scoring a folder, a zip or arrays: plan, count (in processes, longest first), select, summarize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.scoring.counting.cache import TruthCache
from vosrepro.scoring.counting.execution import CountingTask, count_jobs
from vosrepro.scoring.counting.jobs import plan_jobs
from vosrepro.scoring.counting.protocols import find_protocol
from vosrepro.scoring.counting.selection import select_counts
from vosrepro.scoring.counting.trees import ArrayTree, Tree, check_nesting, open_tree
from vosrepro.scoring.score import Score

Arrays = Mapping[str, Mapping[str, np.ndarray]]


def score_folder(  # noqa: PLR0913, options by name
    results: Path | str,
    truth: Path | str,
    protocol: str,
    *,
    sequences: Sequence[str] | None = None,
    meta: Path | str | None = None,
    seen: Sequence[str] | None = None,
    processes: int = 1,
    cache: Path | str | None = None,
) -> Score:
    """Score result masks.

    Args:
        results: folder, zip, or folder inside a zip, with `<sequence>/<frame>.png`.
        truth: annotations in the same layout.
        protocol: name in `vosrepro.scoring.counting.protocols.PROTOCOLS`.
        sequences: which to score, in this order; None: all of `truth`.
        meta: meta.json in the form of YouTube-VOS: objects with their first frames and categories.
        seen: categories that are in the training set, for the seen/unseen split; None: those of
            meta.json's "seen_categories" if it has that list, else no split.
        processes: worker processes; 0 means one per core.
        cache: folder for decoded annotations, keyed by their content.

    Returns:
        Counts and scores.

    Raises:
        ConfigError: if the protocol is unknown.
        DataError: if files are missing or unreadable; names sequence and frame.
        ProtocolError: if the protocol refuses what is there; names sequence, frame and id.
    """
    return score_trees(
        open_tree(results),
        open_tree(truth),
        protocol,
        sequences=sequences,
        meta=meta,
        seen=seen,
        processes=processes,
        cache=cache,
    )


def score_arrays(
    predictions: Arrays,
    truth: Arrays | Path | str,
    protocol: str,
    *,
    sequences: Sequence[str] | None = None,
    meta: Path | str | None = None,
    seen: Sequence[str] | None = None,
    cache: Path | str | None = None,
) -> Score:
    """Score label maps in memory; the same numbers as `score_folder` on the same labels.

    Args:
        predictions: sequence -> frame name -> integer or bool array (H, W).
        truth: the same, or a folder of annotations.
        protocol: see `score_folder`, as for the rest.
        sequences: which to score; None: all of `truth`.
        meta: see `score_folder`.
        seen: see `score_folder`.
        cache: see `score_folder`; used if `truth` is a folder.
    """
    tree = ArrayTree(truth, "truth") if isinstance(truth, Mapping) else open_tree(truth)
    return score_trees(
        ArrayTree(predictions, "predictions"),
        tree,
        protocol,
        sequences=sequences,
        meta=meta,
        seen=seen,
        cache=cache,
    )


def score_trees(  # noqa: PLR0913, options by name
    predictions: Tree,
    truth: Tree,
    protocol: str,
    *,
    sequences: Sequence[str] | None = None,
    meta: Path | str | None = None,
    seen: Sequence[str] | None = None,
    processes: int = 1,
    cache: Path | str | None = None,
) -> Score:
    """`score_folder` on opened trees."""
    rules = find_protocol(protocol)
    names = list(truth.folders() if sequences is None else sequences)
    if not names:
        raise DataError(f"{truth.name} holds no sequence folder: give the folder of the annotations")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"sequence '{twice}' is listed twice: list each sequence once")
    check_nesting(predictions, names)
    _require_sequences(predictions, names)
    document = Meta(meta, seen)
    jobs = [job for name in names for job in plan_jobs(rules, truth, name, document.starts(name))]
    task = CountingTask(rules, truth, predictions, None if cache is None else TruthCache(cache))
    counted = count_jobs(task, jobs, processes)
    parts = [
        part
        for job, counts in zip(jobs, counted, strict=True)
        for part in select_counts(rules, job, counts, predictions.name)
    ]
    if not parts:
        raise DataError(f"{truth.name} holds no object to score by protocol '{protocol}'")
    groups = {(part.sequence, part.object_id): document.group(part.sequence, part.object_id) for part in parts}
    return Score(protocol, parts, groups=groups)


def _require_sequences(predictions: Tree, names: Sequence[str]) -> None:
    present = set(predictions.folders())
    missing = [name for name in names if name not in present]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{predictions.name} lacks {len(missing)} of {len(names)} sequences ({shown}): "
            "run inference on them, or name the ones to score with --sequences"
        )


class Meta:
    """What a YouTube-VOS meta.json says."""

    def __init__(self, path: Path | str | None, seen: Sequence[str] | None) -> None:
        self._path = path
        self._videos: Mapping[str, Any] = {}
        self._seen = None if seen is None else set(seen)
        if path is None:
            return
        from vosrepro.base.files import read_json

        document = read_json(path)
        try:
            self._videos = document["videos"]
        except (TypeError, KeyError) as error:
            raise DataError(f"{path} has no key 'videos': give a YouTube-VOS meta.json") from error
        if seen is None and isinstance(document.get("seen_categories"), list):
            self._seen = set(document["seen_categories"])

    def starts(self, sequence: str) -> dict[int, str] | None:
        """Object id -> frame of its first mask; None without meta.json."""
        if self._path is None:
            return None
        try:
            objects = self._videos[sequence]["objects"]
            return {int(k): str(value["frames"][0]) for k, value in objects.items()}
        except (TypeError, KeyError, ValueError, IndexError) as error:
            raise DataError(
                f"{self._path} lacks or garbles the objects of sequence '{sequence}' ({error!r})"
            ) from error

    def categories(self) -> list[str]:
        """All categories of all objects, sorted."""
        objects = (o for video in self._videos.values() for o in video.get("objects", {}).values())
        return sorted({o["category"] for o in objects if "category" in o})

    def group(self, sequence: str, object_id: int) -> str:
        """Either "seen" or "unseen"; empty if categories are not known."""
        if self._seen is None or self._path is None:
            return ""
        objects = self._videos.get(sequence, {}).get("objects", {})
        category = objects.get(str(object_id), {}).get("category")
        if category is None:
            return ""
        return "seen" if category in self._seen else "unseen"
