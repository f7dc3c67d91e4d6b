"""What was measured and counted of the parts of a study: samples per second, and operations per sample.

params/throughput.csv holds rates that somebody measured, and names the machine. params/work.csv holds floating-
point operations that `vosrepro bench work` counted. Rows are found by what determines the work: stages and
variants of one network, clip size and loss share them, and a parameter that changes parts with its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import csv_text, read_rows, value_digest, write_text
from vosrepro.base.types import names_cache, without_start_weights
from vosrepro.study.params import MethodParams, MethodSize, StageParams, shipped
from vosrepro.study.plan import variant_settings

RATES = "params/throughput.csv"
WORK = "params/work.csv"
RATE_COLUMNS = ("method", "size", "kind", "name", "objects", "machine", "gpus", "samples_per_second", "source")
#: Columns that tell whether a row is about the same as another.
RATE_PLACE = RATE_COLUMNS[:7]
WORK_COLUMNS = ("method", "size", "kind", "name", "objects", "identity", "gflop", "torch", "source")
#: "train": samples of a stage. "init" and "infer": first and later frames of recipe/variant. "score": frames of a
#: scoring protocol, for all methods.
RATE_KINDS = ("train", "init", "infer", "score")
#: "first-visit" is added to a sample of "train" for which no cache holds anything.
WORK_KINDS = ("train", "first-visit", "init", "infer")


@dataclass(frozen=True)
class Rate:
    """A measured rate.

    Attributes:
        samples_per_second: samples of a stage, or frames of a video.
        machine: as its owner calls it.
        gpus: how many worked together; 0 on a CPU.
        objects: in each frame; 0 for trainings.
    """

    samples_per_second: float
    machine: str
    gpus: int
    objects: int = 0


@dataclass(frozen=True)
class Work:
    """A counted amount of work."""

    gflop: float
    objects: int = 0


def sample_identity(method: str, model: Mapping[str, Any], params: StageParams) -> str:
    """Digest of what determines the work of a sample of a training stage.

    Args:
        method: its name.
        model: all arguments of the network in this stage.
        params: the stage.
    """
    clips = params.clips
    loss = {k: bool(v) if names_cache(k) else v for k, v in params.loss.items()}
    shape = [clips.kind, clips.frames, clips.objects, clips.size_px, params.precision]
    return value_digest(["train", method, without_start_weights(model), shape, loss])[:12]


def frame_identity(method: str, size: str, model: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Digest of what determines the work of a frame, apart from its objects; `size` stands for its pixels."""
    return value_digest(["infer", method, size, without_start_weights(model), dict(settings)])[:12]


def named_identities(method: MethodParams, size_name: str) -> dict[tuple[str, str], str]:
    """(kind, name) of everything of a method at one size -> identity."""
    size: MethodSize = method.sizes[size_name]
    found = {
        ("train", name): sample_identity(method.method, {**size.model, **stage.model}, stage)
        for name, stage in size.stages.items()
    }
    for recipe_name, recipe in size.recipes.items():
        for variant in method.variants:
            settings = variant_settings(method, size, variant)
            found["infer", f"{recipe_name}/{variant}"] = frame_identity(
                method.method, size_name, size.model_of(recipe), settings
            )
    return found


class Rates:
    """Measured rates by kind and identity; build with `load_rates`."""

    def __init__(self, rows: Iterable[tuple[dict[str, str], Rate]]) -> None:
        self._rows = list(rows)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def find(self, methods: Mapping[str, MethodParams], size: str) -> dict[tuple[str, str], list[Rate]]:
        """(kind, identity) -> rates in the order of the file; of scoring, (kind, protocol)."""
        found: dict[tuple[str, str], list[Rate]] = {}
        identities = {name: named_identities(params, size) for name, params in methods.items() if size in params.sizes}
        for row, rate in self._rows:
            if row["kind"] == "score":
                found.setdefault(("score", row["name"]), []).append(rate)
                continue
            if row["size"] != size:
                continue
            family = "infer" if row["kind"] == "init" else row["kind"]
            identity = identities.get(row["method"], {}).get((family, row["name"]))
            if identity is not None:
                found.setdefault((row["kind"], identity), []).append(rate)
        return found


def load_rates(path: Path | str = RATES) -> Rates:
    """Read measured rates.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path, rows = shipped(path), []
    for line, row in read_rows(path, RATE_COLUMNS):
        try:
            rate = Rate(float(row["samples_per_second"]), row["machine"], int(row["gpus"]), int(row["objects"]))
            if rate.samples_per_second <= 0 or rate.gpus < 0 or rate.objects < 0:
                raise ValueError("rates are positive")
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {line}: gpus, objects and samples_per_second must be numbers ({error})"
            ) from error
        _known_kind(row["kind"], RATE_KINDS, f"{path}, line {line}")
        rows.append((row, rate))
    return Rates(rows)


def load_work(path: Path | str = WORK) -> dict[tuple[str, str], list[Work]]:
    """Read counted work: (kind, identity) -> rows by number of objects.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path, found = shipped(path), {}
    for line, row in read_rows(path, WORK_COLUMNS):
        try:
            work = Work(float(row["gflop"]), int(row["objects"]))
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: gflop and objects must be numbers ({error})") from error
        _known_kind(row["kind"], WORK_KINDS, f"{path}, line {line}")
        found.setdefault((row["kind"], row["identity"]), []).append(work)
    return found


def put_rows(
    path: Path | str,
    columns: tuple[str, ...],
    rows: Iterable[Mapping[str, Any]],
    *,
    same: tuple[str, ...],
) -> None:
    """Add rows to a CSV; an old row that agrees with a new one in the columns `same` gives way.

    Raises:
        ConfigError: if the file has other columns.
    """
    path = Path(path)
    new = [{c: str(row[c]) for c in columns} for row in rows]
    places = {tuple(row[c] for c in same): row for row in new}
    old = [row for _, row in read_rows(path, columns)] if path.is_file() else []
    kept = [places.pop(tuple(row[c] for c in same), row) for row in old]
    fields = ([row[c] for c in columns] for row in (*kept, *places.values()))
    write_text(path, csv_text([columns, *fields]))


def machine_name(hardware: Mapping[str, Any], *, gpus: int) -> str:
    """What a machine is called in records: the GPU, or processor and cores."""
    return str(hardware["gpu"] if gpus else f"{hardware['cores']} CPU cores ({hardware['cpu']})")


def at_objects(points: Iterable[tuple[int, float]], objects: float) -> float:
    """A quantity at a (mean) number of objects: on the line through the least and the most that are known.

    Args:
        points: (objects, quantity), at least one; of the same number the first counts.
        objects: wanted.
    """
    known: dict[int, float] = {}
    for count, value in points:
        known.setdefault(count, value)
    low, high = min(known), max(known)
    if low == high:
        return known[low]
    slope = (known[high] - known[low]) / (high - low)
    return max(known[low] + slope * (objects - low), 0.0)


def _known_kind(kind: str, known: tuple[str, ...], where: str) -> None:
    if kind not in known:
        raise ConfigError(f"{where}: kind '{kind}' must be one of {', '.join(known)}")
