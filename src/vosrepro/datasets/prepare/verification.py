"""Is the data complete and sound? A precise sentence per defect, and a manifest of what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import DataError, pick
from vosrepro.base.files import value_digest
from vosrepro.datasets.prepare.checking import check_part
from vosrepro.datasets.prepare.inventory import PARTS, defect_list
from vosrepro.datasets.prepare.listing import Listing
from vosrepro.datasets.sets.catalog import benchmark_part, training_parts
from vosrepro.datasets.sets.folders import SOURCES, set_folder
from vosrepro.study.params import DataParams

if TYPE_CHECKING:
    from vosrepro.study.plan import Plan

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
    "davis16-train": 30,
    "davis16-val": 20,
    "davis17-train": 60,
    "davis17-val": 30,
    "davis16-merged17-val": 20,
    "davis17-testdev": 30,
    "ytvos-valid": 474,
    "ytvos-valid-all": 474,
    "ytvos19-valid": 507,
    "ytvos19-valid-all": 507,
    "imagenet": 1_281_167 + 50_000,
    "imagenet-val": 50_000,
    "imagenet-vid": 4417,
}


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
    video must show an object. A part larger than `checking.READ_WHOLE_BYTES` is read in samples, unless `full`.

    Args:
        data: where the sets lie.
        names: parts ("davis17-val", ...) or whole sets ("davis2017", ...); None: all that is there.
        full: read every file of every part.
        listing: is filled with the folders of every part.

    Returns:
        {"root", "generated", "files", "bytes", "digest", "parts": {part: {"folder", "videos", "frames",
        "masks", "files", "bytes", "digest", "digest_of", and where known "official_videos"}}}. A part's
        digest is over its folders, a folder's over its sorted (path, size, SHA-256) if "digest_of" is
        "content", over (path, size) if it is "sizes"; paths are relative to the set's folder, so moving
        data changes nothing.

    Raises:
        ConfigError: if a name is unknown.
        DataError: a sentence per defect.
    """
    parts = _expand(names) if names is not None else _present(data)
    described: dict[str, dict[str, Any]] = {}
    defects: list[str] = []
    wrong_files = False
    for part in parts:
        folders = Listing() if listing is None else listing
        try:
            facts, wrong = check_part(part, data, folders, full=full)
        except DataError as error:
            defects.append(str(error))
            continue
        defects += wrong
        wrong_files |= bool(wrong)
        if not data.generated and part in OFFICIAL_VIDEOS:
            facts["official_videos"] = OFFICIAL_VIDEOS[part]
        described[part] = facts
    if defects:
        raise DataError(defect_list(dict.fromkeys(defects)) + (_advice(data) if wrong_files else ""))
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
    needed = {part for name in needed for part in training_parts(name)}
    needed |= {benchmark_part(benchmark) for benchmark in plan.benchmarks.values()}
    if "imagenet" in needed:  # both halves
        needed.discard("imagenet-val")
    for name in sorted(needed):
        pick(PARTS, name, what="data set", where="vosrepro.datasets")
    return [part for part in PARTS if part in needed]


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
