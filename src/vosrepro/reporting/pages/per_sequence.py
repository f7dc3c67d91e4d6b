"""Two looks at single sequences: beside the masks that authors published, and one change at a time.

params/ablations.csv says which rows of a method differ by one change; each line is shown where a study has
both of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vosrepro.base.files import read_rows
from vosrepro.reporting.evidence.intervals import paired, pooled
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.pages.charts import dot_strip
from vosrepro.reporting.pages.comparisons import primary_row, published_masks
from vosrepro.scoring.statistics import Paired
from vosrepro.study.published import PublishedMasks

COLUMNS = ("method", "change", "recipe", "variant", "from_recipe", "from_variant")
_ABLATIONS = Path("params/ablations.csv")


@dataclass(frozen=True)
class SequenceLine:
    """One sequence in points, region (J) and contour (F); published numbers beside ours."""

    name: str
    region: float
    contour: float
    published_region: float
    published_contour: float

    @property
    def difference(self) -> float:
        """J&F, ours minus published."""
        ours = self.region + self.contour
        return (ours - self.published_region - self.published_contour) / 2


@dataclass(frozen=True)
class BesidePublished:
    """A row and published masks on the sequences that both have.

    Attributes:
        row: the row of the same recipe and variant, or the method's primary row.
        same: whether it is the same recipe and variant.
        masks: what was published.
        lines: worst difference first.
        mean: over the lines.
    """

    row: Row
    same: bool
    masks: PublishedMasks
    lines: tuple[SequenceLine, ...]
    mean: SequenceLine


@dataclass(frozen=True)
class SingleChange:
    """What one change does, sequence by sequence."""

    text: str
    row: Row
    base: Row
    paired: Paired
    svg: Markup


def beside_published(table: Table, method: str) -> tuple[BesidePublished, ...]:
    """Every system whose authors published masks on a benchmark of the study, beside ours."""
    found = []
    for name in table.plan.benchmarks:
        primary = primary_row(table, method, name)
        if primary is None:
            continue
        for masks in published_masks(table, primary):
            same = table.by_name.get((method, masks.recipe, masks.variant, name))
            row = same if same is not None and same.scored else primary
            lines = _lines(row, masks)
            if lines:
                found.append(BesidePublished(row, row is same, masks, lines, _mean(lines)))
    return tuple(found)


def single_changes(table: Table, method: str, path: Path = _ABLATIONS) -> tuple[SingleChange, ...]:
    """The lines of params/ablations.csv of which the study has both rows.

    Raises:
        ConfigError: if the file has other columns.
    """
    found = []
    for _, line in read_rows(path, COLUMNS) if path.is_file() else ():
        if line["method"] != method:
            continue
        for name in table.plan.benchmarks:
            row = table.by_name.get((method, line["recipe"], line["variant"], name))
            base = table.by_name.get((method, line["from_recipe"], line["from_variant"], name))
            if row is not None and base is not None:
                found += _change(table, line["change"], row, base)
    return tuple(found)


def _lines(row: Row, masks: PublishedMasks) -> tuple[SequenceLine, ...]:
    values = [pooled(row.entries, metric) for metric in ("J-Mean", "F-Mean")]
    lines = []
    for name, published in masks.scores.items():
        ours = [[v for (sequence, _), v in of.items() if sequence == name] for of in values]
        if all(ours):
            region, contour = (sum(v) / len(v) for v in ours)
            lines.append(SequenceLine(name, region, contour, *published))
    return tuple(sorted(lines, key=lambda line: (line.difference, line.name)))


def _mean(lines: tuple[SequenceLine, ...]) -> SequenceLine:
    columns = zip(
        *((i.region, i.contour, i.published_region, i.published_contour) for i in lines),
        strict=True,
    )
    return SequenceLine("mean", *(sum(c) / len(lines) for c in columns))


def _change(table: Table, text: str, row: Row, base: Row) -> list[SingleChange]:
    metric = row.headline.metric
    values, others = (pooled(r.entries, metric) for r in (row, base))
    result = paired(values, others, table.plan.study.statistics)
    if result is None:
        return []
    interval = result.interval_95 if result.sequences > 1 else None
    svg = dot_strip(
        result.by_sequence,
        title=f"{row.name} minus {base.name}, by sequence",
        interval=(interval.low, interval.high) if interval else None,
        mean=result.mean,
    )
    return [SingleChange(text, row, base, result, svg)]
