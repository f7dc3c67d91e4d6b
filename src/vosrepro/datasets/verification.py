"""Is the data complete and sound? A precise sentence per defect, and a manifest of what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.artifacts import value_digest
from vosrepro.datasets.boxes import read_boxes
from vosrepro.datasets.folders import SOURCES, set_folder
from vosrepro.datasets.image_files import Defect, image_size
from vosrepro.datasets.inventory import PARTS, Inventory, defect_list, take_inventory
from vosrepro.datasets.listing import Line, Listing
from vosrepro.datasets.video import object_labels
from vosrepro.errors import DataError
from vosrepro.labels import read_labels
from vosrepro.params import BenchmarkParams, DataParams, pick

if TYPE_CHECKING:
    from vosrepro.plan import Plan

#: Parts up to this size are read whole; of larger ones sizes are noted and some files are read.
READ_WHOLE_BYTES = 512 * 2**20
_FAMILIES = {
    "davis2016": ("davis16-train", "davis16-val"),
    "davis2017": ("davis17-train", "davis17-val"),
    "davis2017-testdev": ("davis17-testdev",),
    "ytvos": ("ytvos-train", "ytvos-valid", "ytvos-valid-all", "ytvos-jjval"),
    "ytvos19": ("ytvos19-valid", "ytvos19-valid-all"),
}
#: Videos or images of the official parts; having fewer is no defect, but a person should see it. Sources: the sets'
#: own pages; ImageNet-VID: both halves together.
OFFICIAL_VIDEOS = {
    "davis16-train": 30, "davis16-val": 20, "davis17-train": 60, "davis17-val": 30, "davis17-testdev": 30,
    "ytvos-valid": 474, "ytvos-valid-all": 474, "ytvos19-valid": 507, "ytvos19-valid-all": 507,
    "imagenet": 1_281_167 + 50_000, "imagenet-val": 50_000, "imagenet-vid": 4417,
}  # fmt: skip
_SAMPLES = 200  # image and mask pairs that are read of a part too large to be read whole


def verify(
    data: DataParams,
    names: Sequence[str] | None = None,
    *,
    full: bool = False,
    listing: Listing | None = None,
) -> dict[str, Any]:
    """Check parts of the data and describe them.

    Every file must be there and not empty; files that are read must be complete images (checksums of
    PNGs, headers and end of JPEGs), a mask must have its frame's size, and the first mask of a benchmark
    video must show an object. A part larger than `READ_WHOLE_BYTES` is read in samples, unless `full`.

    Args:
        data: where the sets lie.
        names: parts ("davis17-val", ...) or whole sets ("davis2017", ...); None: all that is there.
        full: read every file of every part.
        listing: is filled with the folders of every part.

    Returns:
        {"root", "generated", "files", "bytes", "digest", "parts": {part: {"folder", "videos", "frames",
        "masks", "files", "bytes", "digest", "digest_of", and where known "official_videos"}}}. A part's digest is over its sorted (path,
        size, SHA-256) if "digest_of" is "content", over (path, size) if it is "sizes"; paths are
        relative to the set's folder, so moving data changes nothing.

    Raises:
        ConfigError: if a name is unknown.
        DataError: a sentence per defect.
    """
    parts = _expand(names) if names is not None else _present(data)
    described: dict[str, dict[str, Any]] = {}
    defects: list[str] = []
    wrong_files = False
    for part in parts:
        try:
            inventory = take_inventory(part, data)
        except DataError as error:
            defects.append(str(error))
            continue
        facts, wrong, lines = _check(inventory, full=full)
        defects += wrong
        wrong_files |= bool(wrong)
        if not data.generated and part in OFFICIAL_VIDEOS:
            facts["official_videos"] = OFFICIAL_VIDEOS[part]
        described[part] = facts
        if listing is not None:
            listing.add(part, lines, digest_of=facts["digest_of"])
    if defects:
        raise DataError(
            defect_list(dict.fromkeys(defects)) + (_advice(data) if wrong_files else "")
        )
    return {
        "root": data.root,
        "generated": data.generated,
        "files": sum(facts["files"] for facts in described.values()),
        "bytes": sum(facts["bytes"] for facts in described.values()),
        "digest": value_digest({part: facts["digest"] for part, facts in described.items()}),
        "parts": described,
    }


def _advice(data: DataParams) -> str:
    if data.generated:
        return f". Run `vosrepro data generate --root {data.root}`"
    return ". Extract the archive again, or correct the folder in data.sets of the study"


def parts_of_plan(plan: Plan) -> list[str]:
    """The parts that a study's jobs read, in the order of `PARTS`."""
    needed = {source.set for node in plan.stages for source in node.params.data}
    if any(run.params.weights == "trained" for run in plan.runs):
        needed.add(plan.study.selection.set)
    needed = {name.removesuffix("-all") for name in needed}
    needed |= {benchmark_part(benchmark) for benchmark in plan.benchmarks.values()}
    if "imagenet" in needed:  # both halves
        needed.discard("imagenet-val")
    for name in sorted(needed):
        pick(PARTS, name, what="data set", where="vosrepro.datasets")
    return [part for part in PARTS if part in needed]


def benchmark_part(benchmark: BenchmarkParams) -> str:
    """The part that a benchmark reads."""
    if benchmark.dataset in ("ytvos", "ytvos19"):
        return f"{benchmark.dataset}-{benchmark.split}" + (
            "-all" if benchmark.frame_source == "all" else ""
        )
    if benchmark.dataset == "ali21":
        return "ali21"
    if benchmark.dataset == "davis2017-testdev":
        return "davis17-testdev"
    return f"{benchmark.dataset.replace('davis20', 'davis')}-{benchmark.split}"


def _expand(names: Sequence[str]) -> list[str]:
    known = {**{part: (part,) for part in PARTS}, **_FAMILIES}
    found = [p for n in names for p in pick(known, n, what="data set", where="vosrepro.datasets")]
    return list(dict.fromkeys(found))


def _present(data: DataParams) -> list[str]:
    """Parts of the sets whose folder exists; of YouTube-VOS and ImageNet, those that are there."""
    found: list[str] = []
    for name in SOURCES:
        try:
            folder = set_folder(name, data)
        except DataError:
            continue
        markers = {
            "davis16-val": "ImageSets/*/val.txt",
            "davis16-train": "ImageSets/*/train.txt",
            "ytvos-train": "train*",
            "ytvos-valid": "valid",
            "ytvos-valid-all": "all_frames/valid_all_frames",
            "ytvos-jjval": "train/ImageSets/jjval.txt",
            "ytvos19-valid": "valid",
            "ytvos19-valid-all": "all_frames/valid_all_frames",
        }
        if name == "imagenet" and not any(folder.glob("*train*")):
            found.append("imagenet-val")
            continue
        for part in _FAMILIES.get(name, (name,)):
            if any(folder.glob(markers.get(part, "*"))):
                found.append(part)
    if not found:
        wanted = ", ".join(source.folder for source in SOURCES.values())
        raise DataError(
            f"{data.root} holds none of the folders {wanted}: correct the root, or name the folders in "
            "data.sets of the study"
        )
    return found


@dataclass
class _Reading:
    """The state of one check: sizes and hashes of what was read, and what is wrong."""

    defects: list[str] = field(default_factory=list)
    hashes: dict[Path, str] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)  # width, height

    def read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            self.hashes[path] = hashlib.sha256(data).hexdigest()
            if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                self.sizes[path] = image_size(data)
            elif path.suffix.lower() == ".xml":
                height, width = read_boxes(path).size
                self.sizes[path] = (width, height)
        except DataError as error:
            self.defects.append(str(error))
        except OSError as error:
            self.defects.append(f"{path} cannot be read ({error.strerror or error})")
        except Defect as error:
            self.defects.append(f"{path} {error}")


def _check(inventory: Inventory, *, full: bool) -> tuple[dict[str, Any], list[str], list[Line]]:
    files = inventory.files()
    reading = _Reading(defects=list(inventory.defects))
    lengths: dict[Path, int] = {}
    for path in files:
        try:
            lengths[path] = path.stat().st_size
        except OSError:
            reading.defects.append(f"{path} is missing")
            continue
        if lengths[path] == 0:
            reading.defects.append(f"{path} is empty")
    total = sum(lengths.values())
    whole = full or total <= READ_WHOLE_BYTES
    pairs = inventory.pairs
    if not whole:
        pairs = pairs[:: max(1, len(pairs) // _SAMPLES)]
    wanted = files if whole else [p for pair in pairs for p in pair if p is not None]
    for path in wanted:
        if lengths.get(path):
            reading.read(path)
    _compare_sizes(reading, pairs)
    for path in inventory.first_masks:
        if lengths.get(path) and (path in reading.sizes or not whole):
            _look_for_objects(reading, path, binary=inventory.binary)
    lines: list[Line] = [
        (
            _name_in(inventory.folder, p),
            lengths[p],
            reading.hashes.get(p) if whole else None,
        )
        for p in files
        if p in lengths
    ]
    facts = {
        "folder": str(inventory.folder),
        "videos": inventory.videos,
        "frames": len(inventory.pairs),
        "masks": sum(1 for _, mask in inventory.pairs if mask is not None),
        "files": len(files),
        "bytes": total,
        "digest": value_digest(lines),
        "digest_of": "content" if whole else "sizes",
    }
    return facts, reading.defects, lines


def _name_in(folder: Path, path: Path) -> str:
    """Path below the set's folder; a list of videos may lie elsewhere and has its name alone."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _compare_sizes(reading: _Reading, pairs: Sequence[tuple[Path, Path | None]]) -> None:
    for image, mask in pairs:
        if mask is None or image not in reading.sizes or mask not in reading.sizes:
            continue
        ours, its = reading.sizes[mask], reading.sizes[image]
        if ours != its:
            reading.defects.append(
                f"{mask} is {ours[0]}x{ours[1]} pixels but its frame {image} is {its[0]}x{its[1]}"
            )


def _look_for_objects(reading: _Reading, path: Path, *, binary: bool) -> None:
    try:
        labels = read_labels(path)
    except DataError as error:
        reading.defects.append(str(error))
        return
    if not object_labels(labels, binary=binary).any():
        reading.defects.append(f"{path} has no object pixel, so there is nothing to track")
