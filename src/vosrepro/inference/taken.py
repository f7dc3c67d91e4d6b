"""Result masks that authors published, taken in place of inference: read as they come, written as ours are.

A zip or a folder, nested or not, with whatever else archives hold; what would make its scores those of something
else (another benchmark, another size, ids that nobody gave, frames that lack) is refused in one sentence.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.files import file_digest
from vosrepro.base.fingerprints import masks_digest, write_fingerprints
from vosrepro.base.labels import write_labels
from vosrepro.datasets import Video, benchmark_videos, read_annotation
from vosrepro.datasets.sets.catalog import benchmark_part
from vosrepro.inference.run_record import begin_run_journal, keep_entry
from vosrepro.scoring.counting.packing import check_two_values
from vosrepro.scoring.counting.png import Malformed
from vosrepro.scoring.counting.protocols import find_protocol
from vosrepro.scoring.counting.readers import ids_in_words
from vosrepro.scoring.counting.trees import FolderTree, ZipTree, open_tree
from vosrepro.study.digests import code_of, data_digest, entry_identity
from vosrepro.study.integrity import read_record
from vosrepro.study.params import BenchmarkParams
from vosrepro.study.plan import Entry, Plan, Run
from vosrepro.study.records import (
    DataManifest,
    InferenceRecord,
    Provenance,
    RunInference,
    TakenMasks,
    Timing,
)
from vosrepro.weights.released import MaskSet, how_to_get_masks, load_released, masks_file

#: How deep below the top of an archive the folders of the sequences may lie.
_DEPTH = 4
_NOTHING_RAN = "none"


@dataclass(frozen=True)
class MaskSource:
    """An opened folder or zip of masks; `inside` is the folder in it that holds the sequences."""

    path: Path
    tree: FolderTree | ZipTree
    inside: str
    folders: tuple[str, ...]


def take_run(plan: Plan, run: Run) -> None:
    """Write masks, masks.csv and infer.json of every entry of a run whose recipe takes masks, then inference.json.

    Raises:
        ConfigError: if an entry is of another benchmark than the masks.
        DataError: if the masks are not there or do not fit the benchmark; names sequence and frame.
    """
    started = time.monotonic()
    facts = load_released().masks(run.method, run.recipe)
    path = masks_file(plan.study.masks_root, facts)
    if path is None:
        raise DataError(
            f"the masks of {run.method}/{run.recipe} are not here: {how_to_get_masks(plan.study.masks_root, facts)}"
        )
    data = read_record(DataManifest, plan.data_manifest)
    entries = plan.entries_of(run)
    journal = begin_run_journal(run, entries, {"masks": path.name, "data": data.digest})
    records = {}
    with journal:
        for entry in entries:
            record = _take(plan, entry, facts, path, data)
            records[entry.key] = keep_entry(entry, record)
        journal.end()
    seconds = round(time.monotonic() - started, 3)
    RunInference(run=run.key, entries=records, wall_seconds=seconds, provenance=Provenance.here()).write(run.inference)


def _take(plan: Plan, entry: Entry, facts: MaskSet, path: Path, data: DataManifest) -> InferenceRecord:
    benchmark = entry.benchmark_params
    if facts.masks != entry.benchmark or benchmark.classifies:
        raise ConfigError(
            f"{entry.key}: {facts.file} holds masks of {facts.masks}, not of {entry.benchmark}: correct the study"
        )
    started = time.monotonic()
    videos = benchmark_videos(benchmark, plan.study.data)
    source = find_source(path, [video.name for video in videos])
    if entry.masks.is_dir():
        shutil.rmtree(entry.masks)
    made, lacking = {}, 0
    for video in videos:
        frames = frames_to_take(source, video, benchmark)
        lacking += len(video.frames) - len(frames)
        made[video.name] = _write(source, video, frames, benchmark, entry.masks / video.name)
    write_fingerprints(entry.mask_digests, made)
    masks = masks_digest(made)
    left = len(set(source.folders) - {video.name for video in videos})
    taken = _described(facts, source, masks, left=left, lacking=lacking)
    return InferenceRecord(
        entry=entry.key,
        device=_NOTHING_RAN,
        precision=_NOTHING_RAN,
        timing=Timing(),
        params=dict(entry.variant_params),
        benchmark=benchmark.model_dump(mode="json"),
        masks_digest=masks,
        taken=taken,
        identity=entry_identity(entry, taken.digest, data_digest(data, [benchmark_part(benchmark)])),
        code=code_of("taken"),
        data_digest=data.digest,
        wall_seconds=round(time.monotonic() - started, 3),
        provenance=Provenance.here(),
    )


def _described(facts: MaskSet, source: MaskSource, masks: str, *, left: int, lacking: int) -> TakenMasks:
    """Where masks come from; a zip has the digest of its file, a folder that of the masks that were read."""
    zipped = source.path.is_file()
    digest = file_digest(source.path) if zipped else masks
    return TakenMasks(
        path=source.path.name,
        digest=digest,
        inside=source.inside,
        expected=facts.sha256 == digest if zipped and facts.sha256 else None,
        left=left,
        lacking=lacking,
        obtain=facts.obtain,
        licence=facts.licence,
    )


def find_source(path: Path, wanted: Sequence[str]) -> MaskSource:
    """The folder in a folder or zip that holds the sequences of a benchmark, at whatever depth.

    Raises:
        DataError: if there is none, or some of the sequences lack.
    """
    level, found = [""], None
    for _ in range(_DEPTH):
        trees = [(inside, open_tree(path / inside)) for inside in level]
        held = [(len(set(tree.folders()) & set(wanted)), inside, tree) for inside, tree in trees]
        found = max(held, key=lambda item: item[0], default=None)
        if found is None or found[0]:
            break
        level = [f"{inside}/{name}".lstrip("/") for inside, tree in trees for name in tree.folders()]
    shown = ", ".join(wanted[:3]) + (", ..." if len(wanted) > 3 else "")
    if found is None or not found[0]:
        raise DataError(
            f"{path} holds masks of none of the {len(wanted)} sequences ({shown}): it is of another benchmark, "
            "download the file that the study names"
        )
    _, inside, tree = found
    folders = tuple(tree.folders())
    missing = [name for name in wanted if name not in folders]
    if missing:
        raise DataError(
            f"{tree.name} lacks {len(missing)} of the {len(wanted)} sequences ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): download it again, a mean over the rest is no published number"
        )
    return MaskSource(path, tree, inside, folders)


def frames_to_take(source: MaskSource, video: Video, benchmark: BenchmarkParams) -> list[str]:
    """Names of a video's frames that have a mask; only frames that the benchmark does not score may lack.

    Raises:
        DataError: if another one lacks.
    """
    names = [path.stem for path in video.frames]
    present = set(source.tree.frames(video.name))
    idle = set(video.starts.values())
    if benchmark.scoring is not None and find_protocol(benchmark.scoring).frames == "inner":
        idle |= {names[0], names[-1]}
    missing = [name for name in names if name not in present and name not in idle]
    if missing:
        raise DataError(
            f"{source.tree.name}: sequence '{video.name}' lacks {len(missing)} of {len(names)} frames, first "
            f"'{missing[0]}': download it again"
        )
    return [name for name in names if name in present]


def _write(
    source: MaskSource, video: Video, frames: Sequence[str], benchmark: BenchmarkParams, folder: Path
) -> dict[str, str]:
    """Write the masks of one video; the digest of each by its frame."""
    size = video.original_size or read_annotation(video, next(iter(video.starts.values()))).shape
    digests = {}
    for frame in frames:
        image = source.tree.image(video.name, frame)
        where = f"{source.tree.name}: sequence '{video.name}', frame '{frame}'"
        if (image.height, image.width) != size:
            raise DataError(
                f"{where} is {image.width} x {image.height} pixels, but its annotation is {size[1]} x {size[0]}: "
                "these are masks of another size or benchmark"
            )
        try:
            if benchmark.scoring is not None and find_protocol(benchmark.scoring).labels == "two-valued":
                check_two_values(image)
        except Malformed as error:
            raise DataError(f"{where}: {error}") from error
        labels = (image.array() > 0).astype(np.uint8) if video.binary else image.array()
        extra = sorted(set(np.unique(labels).tolist()) - {0, *video.starts})
        if extra:
            raise DataError(
                f"{where} holds id {extra[0]}, but the objects there are {ids_in_words(sorted(video.starts))}: "
                "these are masks of another benchmark"
            )
        write_labels(folder / f"{frame}.png", np.ascontiguousarray(labels))
        digests[frame] = file_digest(folder / f"{frame}.png")
    return digests
