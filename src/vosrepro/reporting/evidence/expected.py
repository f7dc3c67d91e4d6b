"""Our own reference results of a study, and which comparisons with them can tell anything.

A short training amplifies the last bit of a sum, so another seed or processor gives another score. A reference is
therefore an interval, made by one command from several seeds, and a comparison with it is a check only if a network
that learned nothing would fail it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import read_rows
from vosrepro.methods import FLOOR
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.scoring.student import t_quantile
from vosrepro.study.published import Key

#: Share of sound installations that each comparison should pass.
LEVEL = 0.99
#: Fewer runs than this tell too little of how results spread.
LEAST_RUNS = 8
#: An interval that reaches further than this many points to each side is too wide to compare with.
WIDEST_POINTS = 12.0
#: Half of the last digit of the file: how near results without chance have to be.
ROUNDING_POINTS = 0.0005

COLUMNS = ("method", "recipe", "variant", "benchmark", "metric", "value", "spread", "runs", "seeds", "processors")


@dataclass(frozen=True)
class ExpectedResult:
    """A reference result.

    Attributes:
        key: of which row.
        value: mean, in points.
        spread: standard deviation over the runs, in points.
        runs: their number.
        seeds: of the runs, for people.
        processors: on which they ran, for people.
    """

    key: Key
    value: float
    spread: float
    runs: int
    seeds: str = ""
    processors: str = ""

    @property
    def exact(self) -> bool:
        """Whether all of several runs gave the same."""
        return self.runs > 1 and self.spread == 0

    @property
    def allowance(self) -> float:
        """Half of Student's prediction interval for one more run; without chance, the rounding of the file."""
        if self.exact:
            return ROUNDING_POINTS
        if self.runs < 2:
            return math.inf
        return t_quantile(0.5 + LEVEL / 2, self.runs - 1) * self.spread * math.sqrt(1 + 1 / self.runs)


@dataclass(frozen=True)
class ReferenceComparison:
    """One result of this study beside its reference.

    Attributes:
        key: of which row.
        reference: what ours was.
        ours: points here; None if there is no result.
        border: how far the nearest border of the interval is from chance, in words.
        reason: why this is no check; empty if it is one.
    """

    key: Key
    reference: ExpectedResult
    ours: float | None
    border: str = ""
    reason: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the result lies in the interval; None if there is none, or it is no check."""
        if self.ours is None or self.reason:
            return None
        return abs(self.ours - self.reference.value) <= self.reference.allowance


def load_expected(path: Path | str) -> dict[Key, ExpectedResult] | None:
    """Read params/expected/<study>.csv; None when there is no such file.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path = Path(path)
    if not path.is_file():
        return None
    found: dict[Key, ExpectedResult] = {}
    for line, row in read_rows(path, COLUMNS):
        key = Key(*(row[name] for name in Key._fields))
        try:
            value, spread, runs = float(row["value"]), float(row["spread"]), int(row["runs"])
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {line}: not a reference result ({error}): make the file "
                "anew with `vosrepro report --write-expected`"
            ) from error
        found[key] = ExpectedResult(key, value, spread, runs, row["seeds"], row["processors"])
    return found


def expected_rows(table: Table) -> list[list[str]]:
    """This study's results in the format of params/expected/<study>.csv, header first."""
    lines: list[list[str]] = [list(COLUMNS)]
    for row in table.rows:
        scores = dict(sorted(row.headline.seeds.items()))
        if not scores:
            continue
        values = list(scores.values())
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)
        machines = {e.infer.provenance.hardware.cpu or "?" for e in row.entries if e.infer}
        numbers = [f"{mean:.3f}", f"{math.sqrt(variance):.3f}", str(len(values))]
        lines.append([*_key(row), *numbers, " ".join(map(str, scores)), "; ".join(sorted(map(str, machines)))])
    return lines


def compare_with_expected(table: Table, expected: Mapping[Key, ExpectedResult]) -> Iterator[ReferenceComparison]:
    """Every reference of a study beside what came out here."""
    rows = {Key(*_key(row)): row for row in table.rows}
    for key, reference in expected.items():
        row = rows.get(key)
        ours = row.headline.mean if row else None
        if row is None or ours is None:
            yield ReferenceComparison(key, reference, None)
            continue
        border, reason = _border(row, reference, expected)
        yield ReferenceComparison(key, reference, ours, border, reason)


def _key(row: Row) -> tuple[str, str, str, str, str]:
    return row.method, row.recipe, row.variant, row.benchmark.benchmark, row.headline.metric


def _border(row: Row, reference: ExpectedResult, expected: Mapping[Key, ExpectedResult]) -> tuple[str, str]:
    """How far the border of an interval is from chance, and why the comparison tells nothing, if so."""
    if reference.exact:
        return "exact: no chance in it", ""
    if reference.runs < LEAST_RUNS:
        return "", f"{reference.runs} of {LEAST_RUNS} reference runs"
    if reference.allowance > WIDEST_POINTS:
        return "", f"too variable to compare (± {reference.allowance:.1f})"
    untrained = row.entries[0].entry.run.params.weights == "random"
    name, chance = _learned(row, expected.values()) if untrained else _chance(row, expected.values())
    if untrained:
        margin = chance - (reference.value + reference.allowance)
    else:
        margin = reference.value - reference.allowance - chance
    side = f"{abs(margin):.1f} points {'from' if margin > 0 else 'beyond'} {name} ({chance:.1f})"
    return side, "" if margin > 0 else f"cannot fail: its border is {side}"


def _chance(row: Row, expected: Iterable[ExpectedResult]) -> tuple[str, float]:
    """What a network that learned nothing gives where a row is scored: the best of guessing, copy, and untrained."""
    found = [("nothing", 0.0)]
    if row.benchmark.classifies and row.counted[1]:
        found = [("guessing", 100 / row.counted[1])]
    for other in expected:
        if other.key[3:] == _key(row)[3:]:
            if other.key.method == FLOOR:
                found.append((FLOOR, other.value))
            elif other.key.method == row.method and other.key.recipe == "untrained":
                found.append(("untrained", other.value))
    return max(found, key=lambda each: each[1])


def _learned(row: Row, expected: Iterable[ExpectedResult]) -> tuple[str, float]:
    """The least that training gives where an untrained row is scored."""
    found = [
        (other.key.recipe, other.value)
        for other in expected
        if other.key[3:] == _key(row)[3:] and other.key.method == row.method and other.key.recipe != row.recipe
    ]
    return min(found, key=lambda each: each[1], default=("nothing", 0.0))
