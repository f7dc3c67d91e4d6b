"""Single sequences and paired differences."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.reporting import load_table
from vosrepro.reporting.evidence.intervals import paired, pooled
from vosrepro.reporting.pages.ablation import ablation_table
from vosrepro.reporting.pages.comparisons import compare_systems, primary_row, worst_sequences
from vosrepro.study.plan import Plan
from vosrepro.study.published import SEQUENCE_COLUMNS


def test_the_primary_row_is_the_longest_trained_recipe_with_the_default_variant(
    finished: Plan,
) -> None:
    row = primary_row(load_table(finished), "stm", "davis16-val")
    assert row is not None
    assert row.name == "stm/s02/top50"


def test_worst_sequences_come_first_and_average_to_the_score(finished: Plan) -> None:
    table = load_table(finished)
    row = primary_row(table, "copy", "davis16-val")
    assert row is not None
    scores = [s.headline for s in worst_sequences(table, row)]
    assert scores == sorted(scores)
    assert sum(scores) / len(scores) == pytest.approx(row.headline.mean)


def test_paired_differences_average_to_the_difference_of_scores(finished: Plan) -> None:
    table = load_table(finished)
    row = primary_row(table, "stm", "davis17-val")
    assert row is not None
    other = table.by_name["copy", "none", "default", "davis17-val"]
    result = next(c for c in compare_systems(table, row) if c.second == other.name).paired
    assert result.mean == pytest.approx(row.headline.mean - other.headline.mean)
    differences = [d for _, d in result.by_sequence]
    assert differences == sorted(differences)
    assert result.interval_95.low <= result.mean <= result.interval_95.high


def test_a_row_does_not_differ_from_itself(finished: Plan) -> None:
    table = load_table(finished)
    row = table.by_name["stm", "s02", "full", "davis16-val"]
    own = pooled(row.entries, "J&F-Mean")
    result = paired(own, own, table.plan.study.statistics)
    assert result is not None
    assert {d for _, d in result.by_sequence} == {0.0}
    assert result.mean == 0.0


def test_rows_without_common_sequences_are_not_compared(finished: Plan) -> None:
    table = load_table(finished)
    row = table.by_name["stm", "s02", "full", "davis16-val"]
    assert paired(pooled(row.entries, "J&F-Mean"), {}, table.plan.study.statistics) is None


def test_ablation_differences_are_to_the_marked_row(finished: Plan) -> None:
    result = ablation_table(load_table(finished), "stm")
    marked = next(line for line in result.lines if line.primary)
    assert (marked.recipe, marked.variant) == ("s02", "top50")
    assert [c.delta for c in marked.cells if c] == [0.0, 0.0]
    s0 = next(line for line in result.lines if line.recipe == "s0")
    assert s0.cells[1] is None


def test_the_permutation_test_is_exact_for_few_sequences(finished: Plan) -> None:
    table = load_table(finished)
    row = primary_row(table, "stm", "davis16-val")
    assert row is not None
    untrained = table.by_name["stm", "untrained", "top50", "davis16-val"]
    ours, theirs = (pooled(r.entries, "J&F-Mean") for r in (row, untrained))
    result = paired(ours, theirs, table.plan.study.statistics)
    assert result is not None
    assert all(d > 0 for _, d in result.by_sequence)
    assert result.p_value == pytest.approx(2 / 2**3)  # three sequences, all better


def test_published_masks_are_compared_on_the_sequences_that_both_have(own_copy: Plan) -> None:
    lines = [",".join(SEQUENCE_COLUMNS)]
    lines += [f"stm,original,full,davis16-val,{n},90,80,masks" for n in ("ants", "bees", "zebras")]
    Path("params/published_sequences.csv").write_text("\n".join(lines) + "\n")
    table = load_table(own_copy)
    row = primary_row(table, "stm", "davis16-val")
    assert row is not None
    result = next(c for c in compare_systems(table, row) if c.note == "masks").paired
    ours = pooled(row.entries, "J&F-Mean")
    assert sorted(name for name, _ in result.by_sequence) == ["ants", "bees"]
    assert result.mean == pytest.approx((ours["ants", 1] + ours["bees", 1]) / 2 - 85)
