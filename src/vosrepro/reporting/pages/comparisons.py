"""Single sequences: which are worst, and by how much two systems differ on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vosrepro.methods import FLOOR
from vosrepro.reporting.evidence.intervals import object_value, paired, pooled
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.charts import dot_strip
from vosrepro.scoring.statistics import Paired
from vosrepro.study.published import PublishedMasks


@dataclass(frozen=True)
class SystemComparison:
    """Two systems on the same sequences."""

    first: str
    second: str
    note: str
    paired: Paired
    svg: Markup

    @property
    def tally(self) -> str:
        """On how many sequences the first is better, and worse."""
        better = sum(d > 0 for _, d in self.paired.by_sequence)
        worse = sum(d < 0 for _, d in self.paired.by_sequence)
        return f"{better} better, {worse} worse"


@dataclass(frozen=True)
class SequenceScore:
    """One sequence of one row, in points; `floor` is what repeating the first mask scores."""

    name: str
    objects: int
    headline: float
    region: float
    contour: float
    floor: float | None
    worst_object: int
    worst_value: float


def primary_row(table: Table, method: str, benchmark: str) -> Row | None:
    """The row that stands for a method: default variant of its last recipe with learned weights."""
    rows = [r for r in table.on(benchmark) if r.method == method]
    default = table.plan.methods[method].default_variant
    ranked = sorted(
        enumerate(rows),
        key=lambda pair: (
            pair[1].scored,
            pair[1].entries[0].entry.run.params.weights in ("trained", "imported"),
            pair[1].variant == default,
            len(pair[1].entries[0].entry.run.stages),
            pair[0],
        ),
    )
    return ranked[-1][1] if ranked else None


def compare_systems(table: Table, primary: Row) -> tuple[SystemComparison, ...]:
    """A method's primary row against `copy`, its other recipes and its other variants."""
    metric = primary.headline.metric
    ours = pooled(primary.entries, metric)
    systems = [(o.name, "", pooled(o.entries, metric)) for o in _others(table, primary)]
    for masks in published_masks(table, primary):
        means = {(name, 1): (j + f) / 2 for name, (j, f) in masks.scores.items()}
        if metric == "J&F-Mean":
            systems.append((f"published {masks.recipe}/{masks.variant}", masks.source, means))
    found = []
    for name, note, values in systems:
        result = paired(ours, values, table.plan.study.statistics)
        if result is None:
            continue
        interval = result.interval_95 if result.sequences > 1 else None
        title = f"{primary.name} minus {name} on {primary.benchmark.benchmark}, by sequence"
        svg = dot_strip(
            result.by_sequence,
            title=title,
            interval=(interval.low, interval.high) if interval else None,
            mean=result.mean,
        )
        found.append(SystemComparison(primary.name, name, note, result, svg))
    return tuple(found)


def published_masks(table: Table, row: Row) -> tuple[PublishedMasks, ...]:
    """The published masks of a row's method on its benchmark."""
    key = (row.method, row.benchmark.benchmark)
    return tuple(m for m in table.masks if (m.method, m.benchmark) == key)


def worst_sequences(table: Table, primary: Row) -> tuple[SequenceScore, ...]:
    """Every sequence of a row, the worst first (first seed with a score)."""
    item = next((e for e in primary.entries if e.objects), None)
    if item is None:
        return ()
    floor_row = table.by_name.get((FLOOR, "none", "default", primary.benchmark.benchmark))
    floor = _means(floor_row) if floor_row else {}
    found = []
    for name in dict.fromkeys(o.sequence for o in item.objects):
        objects = [o for o in item.objects if o.sequence == name]
        scores = [(object_value(o, "J&F-Mean") or 0.0, o.object) for o in objects]
        low, which = min(scores)
        found.append(
            SequenceScore(
                name,
                len(objects),
                sum(s for s, _ in scores) / len(scores),
                _mean(object_value(o, "J-Mean") for o in objects),
                _mean(object_value(o, "F-Mean") for o in objects),
                floor.get(name),
                which,
                low,
            )
        )
    return tuple(sorted(found, key=lambda s: (s.headline, s.name)))


def _others(table: Table, primary: Row) -> Iterable[Row]:
    rows = table.on(primary.benchmark.benchmark)
    for row in rows:
        if row is primary or not row.scored:
            continue
        own = row.method == primary.method
        same = row.variant == primary.variant or row.recipe == primary.recipe
        if row.method == FLOOR or (own and same):
            yield row


def _means(row: Row) -> dict[str, float]:
    item = next((e for e in row.entries if e.objects), None)
    values: dict[str, list[float]] = {}
    for scored in item.objects if item else ():
        values.setdefault(scored.sequence, []).append(object_value(scored, "J&F-Mean") or 0.0)
    return {name: sum(v) / len(v) for name, v in values.items()}


def _mean(values: Iterable[float | None]) -> float:
    known: Sequence[float] = [v for v in values if v is not None]
    return sum(known) / len(known) if known else 0.0
