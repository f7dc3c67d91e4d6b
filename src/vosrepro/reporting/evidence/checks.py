"""The study's own checks: did training work, and does this installation give the numbers that ours did?

They need no paper, so they speak where every published number is "not comparable".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import read_rows
from vosrepro.methods import FLOOR
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.scoring.student import t_quantile
from vosrepro.study.plan import Run
from vosrepro.study.published import Key

#: A trained recipe must beat repeating the first mask by this many points of the headline metric.
BEATS_COPY_POINTS = 10.0
#: ... and its own untrained network by this many.
BEATS_UNTRAINED_POINTS = 20.0
#: A trained classifier must beat guessing by this many.
BEATS_CHANCE_POINTS = 20.0
#: Where the first two are asked for; elsewhere the numbers are in the tables.
CHECKED_BENCHMARK = "davis16-val"
#: Smallest allowance when results are compared with params/expected/<study>.csv, in points.
EXPECTED_FLOOR_POINTS = 1.0
#: Share of sound installations that each of these comparisons should pass.
EXPECTED_LEVEL = 0.99

EXPECTED_COLUMNS = (
    "method",
    "recipe",
    "variant",
    "benchmark",
    "metric",
    "value",
    "spread",
    "runs",
)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        group: heading under which it is listed.
        title: what is claimed.
        passed: None when it could not be made.
        measured: the numbers.
        required: the threshold, in words.
    """

    group: str
    title: str
    passed: bool | None
    measured: str
    required: str


@dataclass(frozen=True)
class Expected:
    """One of our reference results: points, their standard deviation over runs, number of runs.

    Runs differ in their seed and, where we had several, in the processor: short trainings amplify the last
    bit of a sum, so another processor is like another seed.
    """

    key: Key
    value: float
    spread: float
    runs: int

    @property
    def allowance(self) -> float:
        """Half of Student's prediction interval for one more run, at least `EXPECTED_FLOOR_POINTS`."""
        if self.runs < 2:
            return EXPECTED_FLOOR_POINTS
        reach = t_quantile(0.5 + EXPECTED_LEVEL / 2, self.runs - 1)
        return max(EXPECTED_FLOOR_POINTS, reach * self.spread * math.sqrt(1 + 1 / self.runs))


def make_checks(table: Table) -> tuple[Check, ...]:
    """All checks that the study's entries allow."""
    expected = table.plan.study.expected
    return (
        *_beats_floor(table),
        *_beats_untrained(table),
        *_beats_chance(table),
        *_stage_order(table),
        *_reproduces_ours(table, load_expected(expected) if expected else None, expected),
    )


def load_expected(path: Path | str) -> dict[Key, Expected] | None:
    """Read params/expected/<study>.csv; None when there is no such file.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path = Path(path)
    if not path.is_file():
        return None
    found: dict[Key, Expected] = {}
    for line, row in read_rows(path, EXPECTED_COLUMNS):
        try:
            key = Key(*(row[name] for name in Key._fields))
            found[key] = Expected(key, float(row["value"]), float(row["spread"] or 0), int(row["runs"] or 1))
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {line}: not a reference result ({error}): make the file "
                "anew with `vosrepro report --write-expected`"
            ) from error
    return found


def expected_rows(table: Table) -> list[list[str]]:
    """This study's results in the format of params/expected/<study>.csv, header first."""
    lines: list[list[str]] = [list(EXPECTED_COLUMNS)]
    for row in table.rows:
        values = list(row.headline.seeds.values())
        if not values:
            continue
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)
        key = (row.method, row.recipe, row.variant, row.benchmark.benchmark, row.headline.metric)
        lines.append([*key, f"{mean:.3f}", f"{math.sqrt(variance):.3f}", str(len(values))])
    return lines


def is_last_of_chain(run: Run, runs: Iterable[Run]) -> bool:
    """Whether no other recipe of the method continues this one."""
    own = [n.digest for n in run.stages]
    return not any(
        len(other.stages) > len(own) and [n.digest for n in other.stages][: len(own)] == own
        for other in runs
        if other.method == run.method and other.seed == run.seed
    )


def _trained(table: Table) -> list[Row]:
    """Rows of finished trained recipes on the checked benchmark."""
    runs = table.plan.runs
    return [
        row
        for row in table.on(CHECKED_BENCHMARK)
        if (run := row.entries[0].entry.run).stages and is_last_of_chain(run, runs)
    ]


def _beats_floor(table: Table) -> Iterable[Check]:
    floor = table.by_name.get((FLOOR, "none", "default", CHECKED_BENCHMARK))
    for row in _trained(table) if floor else []:
        yield _gap("Training works", row, floor, FLOOR, BEATS_COPY_POINTS)


def _beats_untrained(table: Table) -> Iterable[Check]:
    for row in _trained(table):
        bare = next(
            (
                r
                for r in table.on(CHECKED_BENCHMARK)
                if r.method == row.method
                and r.entries[0].entry.run.params.weights == "random"
                and r.variant == row.variant
            ),
            None,
        )
        if bare:
            name = "its untrained network"
            yield _gap("Training works", row, bare, name, BEATS_UNTRAINED_POINTS)


def _beats_chance(table: Table) -> Iterable[Check]:
    """The classifiers at the end of their recipes."""
    for row in table.rows:
        run = row.entries[0].entry.run
        default = table.plan.methods[row.method].default_variant
        if not row.benchmark.classifies or not run.stages or row.variant != default:
            continue
        title = f"{row.name} beats guessing on {row.benchmark.title}"
        required = f"by at least {BEATS_CHANCE_POINTS:g} points of {row.headline.metric}"
        ours, (_, classes) = row.headline.mean, row.counted
        if ours is None or not classes:
            yield Check("Training works", title, None, "not run", required)
            continue
        gap = ours - 100 / classes
        measured = f"{ours:.1f} − {100 / classes:.1f} = {gap:+.1f}"
        yield Check("Training works", title, gap >= BEATS_CHANCE_POINTS, measured, required)


def _gap(group: str, row: Row, other: Row | None, name: str, least: float) -> Check:
    title = f"{row.name} beats {name} on {row.benchmark.title}"
    required = f"by at least {least:g} points of {row.headline.metric}"
    ours, theirs = row.headline.mean, other.headline.mean if other else None
    if ours is None or theirs is None:
        return Check(group, title, None, "not run", required)
    gap = ours - theirs
    return Check(group, title, gap >= least, f"{ours:.1f} − {theirs:.1f} = {gap:+.1f}", required)


def _stage_order(table: Table) -> Iterable[Check]:
    """Every recipe against the longest recipe that it continues, same variant and benchmark."""
    for row in table.rows:
        run = row.entries[0].entry.run
        before = _recipe_before(run, table.plan.runs)
        other = table.by_name.get((row.method, before.recipe if before else "", row.variant, row.benchmark.benchmark))
        if other is None:
            continue
        title = f"{row.name} is no worse than {other.recipe} on {row.benchmark.title}"
        required = "each stage at least as good as the one before"
        ours, theirs = row.headline.mean, other.headline.mean
        if ours is None or theirs is None:
            yield Check("Each stage helps", title, None, "not run", required)
            continue
        measured = f"{ours:.1f} − {theirs:.1f} = {ours - theirs:+.1f}"
        yield Check("Each stage helps", title, ours >= theirs, measured, required)


def _recipe_before(run: Run, runs: Iterable[Run]) -> Run | None:
    own = [n.digest for n in run.stages]
    begun = [
        other
        for other in runs
        if other.method == run.method
        and other.seed == run.seed
        and 0 < len(other.stages) < len(own)
        and [n.digest for n in other.stages] == own[: len(other.stages)]
    ]
    return max(begun, key=lambda r: len(r.stages), default=None)


def _reproduces_ours(table: Table, expected: dict[Key, Expected] | None, path: str | None) -> Iterable[Check]:
    group = "Your installation reproduces ours"
    if path and expected is None:
        yield Check(group, "reference results", None, f"{path} does not exist", "not made yet")
        return
    rows = {Key(r.method, r.recipe, r.variant, r.benchmark.benchmark, r.headline.metric): r for r in table.rows}
    for key, reference in (expected or {}).items():
        required = (
            f"{reference.value:.1f} ± {reference.allowance:.1f} {key.metric} "
            f"({EXPECTED_LEVEL:.0%} range of {reference.runs} runs)"
        )
        title = f"{key.method}/{key.recipe}/{key.variant} on {key.benchmark}"
        row = rows.get(key)
        ours = row.headline.mean if row else None
        if ours is None:
            yield Check(group, title, None, "not run", required)
            continue
        difference = ours - reference.value
        measured = f"{ours:.1f} ({difference:+.1f})"
        yield Check(group, title, abs(difference) <= reference.allowance, measured, required)
