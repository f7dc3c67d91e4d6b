"""The published numbers that the study tries to reproduce, typed and checked.

params/published.csv holds one number a row; params/published_sequences.csv holds scores of single sequences
where the original masks were published, for paired comparisons; params/published_frames.csv what was published of
single frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import read_rows

#: How we know a number: printed in the authors' README, in an abstract, in a table of the paper that was
#: read, by a third party, by the benchmark's own site, computed by us from published masks, or only recalled
#: (never shown).
EvidenceKind = Literal["readme", "abstract", "paper", "third-party", "site", "masks", "recalled"]

COLUMNS = (
    "method",
    "recipe",
    "variant",
    "benchmark",
    "metric",
    "value",
    "source",
    "evidence",
    "note",
)
SEQUENCE_COLUMNS = (*COLUMNS[:4], "sequence", "J-Mean", "F-Mean", "source")
FRAME_COLUMNS = (*COLUMNS[:4], "sequence", "J", "F", "source")
METRICS = (
    "J&F-Mean",
    "J-Mean",
    "J-Recall",
    "J-Decay",
    "F-Mean",
    "F-Recall",
    "F-Decay",
    "G",
    "J_seen",
    "J_unseen",
    "F_seen",
    "F_unseen",
    "Top1",
    "FPS",
)
_NAME = re.compile(r"^[a-z0-9][a-z0-9.]*(-[a-z0-9.]+)*$")


class Key(NamedTuple):
    """What a published number is about; all but `metric` name an entry of a study (without its seed)."""

    method: str
    recipe: str
    variant: str
    benchmark: str
    metric: str


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        key: what it is about.
        value: points (0..100), or frames per second for the metric "FPS".
        decimals: digits after the point as printed; half a unit of the last is the rounding error.
        source: publication, README or repository.
        evidence: how we know it, see `EvidenceKind`.
        note: hardware, corrections and the like; may be empty.
    """

    key: Key
    value: float
    decimals: int
    source: str
    evidence: EvidenceKind
    note: str

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit, in the unit of `value`."""
        return 0.5 * 10.0**-self.decimals


def load_published(path: Path | str = "params/published.csv", *, recalled: bool = False) -> dict[Key, Published]:
    """Read the published numbers.

    Args:
        path: CSV with the columns of `COLUMNS`.
        recalled: also return numbers that were only quoted from memory. They must never be printed
            as published.

    Raises:
        ConfigError: naming file and line of a row that is malformed or given twice.
    """
    path = Path(path)
    found: dict[Key, Published] = {}
    for line, row in read_rows(path, COLUMNS):
        number = _parse(row, f"{path}, line {line}")
        if number.key in found:
            raise ConfigError(f"{path}, line {line}: {'/'.join(number.key)} is given twice: keep one row")
        found[number.key] = number
    if recalled:
        return found
    return {key: number for key, number in found.items() if number.evidence != "recalled"}


@dataclass(frozen=True)
class PublishedMasks:
    """Scores of the masks that the authors of a system published.

    Attributes:
        method: and `recipe`, `variant`, `benchmark`: as in `Key`.
        scores: points (J, F) by sequence.
        source: where the masks are.
    """

    method: str
    recipe: str
    variant: str
    benchmark: str
    scores: Mapping[str, tuple[float, float]]
    source: str


def load_published_masks(
    path: Path | str = "params/published_sequences.csv",
) -> tuple[PublishedMasks, ...]:
    """Read the scores of published masks, one entry per system and benchmark.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path = Path(path)
    scores: dict[tuple[str, ...], dict[str, tuple[float, float]]] = {}
    for line, row in read_rows(path, SEQUENCE_COLUMNS):
        key = (*(row[c] for c in COLUMNS[:4]), row["source"])
        try:
            values = (float(row["J-Mean"]), float(row["F-Mean"]))
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: {error}: scores are points (0 to 100)") from error
        if row["sequence"] in scores.setdefault(key, {}):
            raise ConfigError(f"{path}, line {line}: {row['sequence']} is given twice: keep one row")
        scores[key][row["sequence"]] = values
    return tuple(PublishedMasks(*key[:4], scores=values, source=key[4]) for key, values in scores.items())


@dataclass(frozen=True)
class PublishedFrames:
    """What was published of the scored frames of single sequences.

    Attributes:
        scores: J and F in points by sequence, in the order of its scored frames.
        rounding: half a unit of the last printed digit, in points.
        source: where they are printed.
    """

    scores: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    rounding: float
    source: str


def load_published_frames(
    path: Path | str = "params/published_frames.csv",
) -> dict[tuple[str, str, str, str], PublishedFrames]:
    """Read the published values of single frames, by method, recipe, variant and benchmark.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path = Path(path)
    scores: dict[tuple[str, str, str, str], dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {}
    facts: dict[tuple[str, str, str, str], tuple[float, str]] = {}
    for line, row in read_rows(path, FRAME_COLUMNS):
        where = f"{path}, line {line}"
        key = (row["method"], row["recipe"], row["variant"], row["benchmark"])
        texts = row["J"].split(), row["F"].split()
        if not all(re.fullmatch(r"[01]\.\d{3}", text) for of in texts for text in of) or len(texts[0]) != len(texts[1]):
            raise ConfigError(f"{where}: J and F are shares with three decimals, as many of J as of F")
        if row["sequence"] in scores.setdefault(key, {}):
            raise ConfigError(f"{where}: {row['sequence']} is given twice: keep one row")
        region, contour = (tuple(100 * float(text) for text in of) for of in texts)
        scores[key][row["sequence"]] = (region, contour)
        facts[key] = (0.05, row["source"])
    return {key: PublishedFrames(found, *facts[key]) for key, found in scores.items()}


def _parse(row: dict[str, str], where: str) -> Published:
    for column in ("method", "recipe", "variant", "benchmark"):
        if not _NAME.match(row[column]):
            raise ConfigError(
                f"{where}: {column} '{row[column]}' is not a name (lower-case letters, digits, dots, single hyphens)"
            )
    if row["metric"] not in METRICS:
        raise ConfigError(f"{where}: unknown metric '{row['metric']}': known are {', '.join(METRICS)}")
    if row["evidence"] not in get_args(EvidenceKind):
        raise ConfigError(
            f"{where}: unknown evidence '{row['evidence']}': known are {', '.join(get_args(EvidenceKind))}"
        )
    if not re.fullmatch(r"-?\d+(\.\d+)?", row["value"]):
        raise ConfigError(f"{where}: value '{row['value']}' must be a plain decimal number")
    value = float(row["value"])
    if row["metric"] != "FPS" and abs(value) > 100:
        raise ConfigError(f"{where}: value {row['value']} must be in points (0 to 100)")
    if not row["source"].strip():
        raise ConfigError(f"{where}: a published number needs a source")
    return Published(
        key=Key(row["method"], row["recipe"], row["variant"], row["benchmark"], row["metric"]),
        value=value,
        decimals=len(row["value"].partition(".")[2]),
        source=row["source"],
        evidence=row["evidence"],  # type: ignore[arg-type]  # checked above
        note=row["note"],
    )
