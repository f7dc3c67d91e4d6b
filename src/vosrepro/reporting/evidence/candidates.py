"""What choosing a checkpoint does to a score: last, selected and best on the benchmark, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from vosrepro.reporting.evidence.evidence import RunEvidence
from vosrepro.scoring.statistics import SelectionColumns, selection_columns


@dataclass(frozen=True)
class Choice:
    """The candidates of one run on one benchmark, in points of one metric."""

    run: RunEvidence
    benchmark: str
    metric: str
    columns: SelectionColumns


def choices(run: RunEvidence, metric: str) -> tuple[Choice, ...]:
    """One line for each benchmark on which all candidates of a run were scored."""
    names = {name.rpartition("/")[0] for c in run.candidates for name in c.values if "/" in name}
    found = []
    for benchmark in sorted(names):
        held_out = {c.step: 100 * c.values[metric] for c in run.candidates if metric in c.values}
        test = {c.step: 100 * c.values[f"{benchmark}/{metric}"] for c in run.candidates if metric in c.values}
        if held_out:
            found.append(Choice(run, benchmark, metric, selection_columns(held_out, test)))
    return tuple(found)
