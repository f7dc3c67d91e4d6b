"""The study's own checks: did training work, and does this installation give the numbers that ours did?

They need no paper, so they speak where every published number is "not comparable".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vosrepro.methods import FLOOR
from vosrepro.reporting.evidence.expected import LEVEL, compare_with_expected, load_expected
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.study.plan import Run

#: A trained recipe must beat repeating the first mask by this many points of the headline metric.
BEATS_COPY_POINTS = 10.0
#: ... and its own untrained network by this many.
BEATS_UNTRAINED_POINTS = 20.0
#: A trained classifier must beat guessing by this many.
BEATS_CHANCE_POINTS = 20.0
#: Where the first two are asked for; elsewhere the numbers are in the tables.
CHECKED_BENCHMARK = "davis16-val"

_EXACT = "Your installation reproduces ours: results without chance, exactly"
_INTERVAL = "Your installation reproduces ours: within the range of our runs"
_NOT_COMPARED = "Not compared: no check"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        group: heading under which it is listed.
        title: what is claimed.
        passed: None when it could not be made.
        measured: the numbers.
        required: the threshold, in words.
        border: how far the threshold is from chance, in words.
        reason: why it is no check, or could not be made.
    """

    group: str
    title: str
    passed: bool | None
    measured: str
    required: str
    border: str = ""
    reason: str = ""


def make_checks(table: Table) -> tuple[Check, ...]:
    """All checks that the study's entries allow."""
    return (
        *_beats_floor(table),
        *_beats_untrained(table),
        *_beats_chance(table),
        *_stage_order(table),
        *_reproduces_ours(table, table.plan.study.expected),
    )


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
        border = f"{BEATS_CHANCE_POINTS:g} points from guessing"
        yield Check("Training works", title, gap >= BEATS_CHANCE_POINTS, measured, required, border)


def _gap(group: str, row: Row, other: Row | None, name: str, least: float) -> Check:
    title = f"{row.name} beats {name} on {row.benchmark.title}"
    required = f"by at least {least:g} points of {row.headline.metric}"
    ours, theirs = row.headline.mean, other.headline.mean if other else None
    if ours is None or theirs is None:
        return Check(group, title, None, "not run", required)
    gap = ours - theirs
    measured = f"{ours:.1f} − {theirs:.1f} = {gap:+.1f}"
    return Check(group, title, gap >= least, measured, required, f"{least:g} points from {name}")


def _stage_order(table: Table) -> Iterable[Check]:
    """Every recipe against the longest recipe that it continues, same variant and benchmark."""
    for row in table.rows:
        run = row.entries[0].entry.run
        before = _recipe_before(run, table.plan.runs)
        other = table.by_name.get((row.method, before.recipe if before else "", row.variant, row.benchmark.benchmark))
        if other is None:
            continue
        title = f"{row.name} is better than {other.recipe} on {row.benchmark.title}"
        required = "each stage better than the one before"
        ours, theirs = row.headline.mean, other.headline.mean
        if ours is None or theirs is None:
            yield Check("Each stage helps", title, None, "not run", required)
            continue
        measured = f"{ours:.1f} − {theirs:.1f} = {ours - theirs:+.1f}"
        yield Check("Each stage helps", title, ours > theirs, measured, required, "a stage without effect fails")


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


def _reproduces_ours(table: Table, path: str | None) -> Iterable[Check]:
    if not path:
        return
    expected = load_expected(path)
    if expected is None:
        yield Check(_EXACT, "reference results", None, f"{path} does not exist", "not made yet")
        return
    for each in compare_with_expected(table, expected):
        key, reference = each.key, each.reference
        title = f"{key.method}/{key.recipe}/{key.variant} on {key.benchmark}"
        required = f"{reference.value:.1f} {key.metric}"
        if not reference.exact and reference.runs > 1:
            required += f" ± {reference.allowance:.1f} ({LEVEL:.0%} range of {reference.runs} runs)"
        measured = "not run" if each.ours is None else f"{each.ours:.1f} ({each.ours - reference.value:+.1f})"
        group = _EXACT if reference.exact else _NOT_COMPARED if each.reason else _INTERVAL
        yield Check(group, title, each.passed, measured, required, each.border, each.reason)
