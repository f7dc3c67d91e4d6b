"""Every published number of the study's systems, with what became of it, and what the study is in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vosrepro.reporting.evidence.summary import in_words, setting
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.evidence.verdicts import LABELS, MEANINGS, VerdictKind
from vosrepro.study.published import Published

#: What the first screen counts even where there is none.
ALWAYS_COUNTED: tuple[VerdictKind, ...] = ("reproduced", "within-noise", "not-reproduced", "not-comparable", "waiting")

#: The first sentence names no more benchmarks than these, but counts them.
MOST_NAMED = 4


@dataclass(frozen=True)
class Claim:
    """One published number beside ours.

    Attributes:
        published: the number and its source row.
        kind: what became of it.
        text: why.
        row: our row on it, None where the study has none.
    """

    published: Published
    kind: VerdictKind
    text: str
    row: Row | None = None

    @property
    def ours(self) -> float | None:
        """Our mean of the same metric, in points."""
        return self.row.cells[self.published.key.metric].mean if self.row else None


def claims(table: Table) -> tuple[Claim, ...]:
    """All published scores of the study's methods, in the order of the verdicts (speeds carry none)."""
    found = [
        Claim(cell.published, cell.verdict.kind, cell.verdict.text, row)
        for row in table.rows
        for cell in row.cells.values()
        if cell.published and cell.verdict
    ]
    found += [Claim(p, "not-run", MEANINGS["not-run"]) for p in table.unattempted if p.key.metric != "FPS"]
    order = list(LABELS)
    return tuple(sorted(found, key=lambda c: order.index(c.kind)))


def counted(found: Iterable[Claim]) -> Mapping[VerdictKind, int]:
    """How many published numbers have each verdict; some are named even if there is none."""
    counts = Counter(claim.kind for claim in found)
    return {kind: counts[kind] for kind in LABELS if counts[kind] or kind in ALWAYS_COUNTED}


def statement(table: Table) -> str:
    """What was run on what: one sentence that holds its own reservations."""
    plan = table.plan
    named = [setting(table, name) for name in plan.benchmarks]
    where = in_words(named) if len(named) <= MOST_NAMED else f"{len(named)} benchmarks from {named[0]} on"
    where = "generated videos" if plan.study.data.generated else where
    scored = sum(row.scored for row in table.rows)
    if not scored:
        return f"Nothing has a score yet; planned on {where}: {_systems(table)}."
    lacking = "" if scored == len(table.rows) else f" ({scored} of {len(table.rows)} rows have a score so far)"
    blockers = [d for d in table.deviations if d.blocks and d.scope == "study"]
    if plan.study.data.generated:
        end = "no score here is one on DAVIS, YouTube-VOS or ImageNet, and none compares with a paper's"
    elif blockers:
        end = "none of these scores compares with a paper's"
    else:
        end = "what compares with a paper is judged below, number by number"
    return f"On {where}, {_systems(table)}{lacking}: {end}."


def _systems(table: Table) -> str:
    plan = table.plan
    origins: dict[str, list[str]] = {}
    for method, params in plan.methods.items():
        kinds = {run.params.weights for run in plan.runs if run.method == method}
        origin = next(kind for kind in ("trained", "imported", "masks", "random", "none") if kind in kinds)
        origins.setdefault(origin, []).append(params.title)
    seeds = len(plan.study.seeds)
    parts = {
        "trained": f"{{}}, trained at the size “{plan.study.size}” with {_number(seeds, 'seed')}",
        "imported": "{}, with the weights that their authors released",
        "masks": "{}, by the masks that their authors published",
        "random": "{}, with untrained networks",
        "none": "the floors {}, which nobody trains",
    }
    words = [parts[origin].format(in_words(origins[origin])) for origin in parts if origin in origins]
    return in_words(words, last=", and ")


def _number(count: int, what: str) -> str:
    return f"one {what}" if count == 1 else f"{count} {what}s"
