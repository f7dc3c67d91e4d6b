"""The one table: verdicts, deviations, checks, expected results, CSV outlets."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.base.files import csv_text, read_json, write_json
from vosrepro.reporting import load_table
from vosrepro.reporting.evidence.checks import BEATS_COPY_POINTS, make_checks
from vosrepro.reporting.evidence.expected import (
    COLUMNS,
    LEAST_RUNS,
    WIDEST_POINTS,
    ExpectedResult,
    ReferenceComparison,
    compare_with_expected,
    expected_rows,
    load_expected,
)
from vosrepro.reporting.evidence.verdicts import Verdict, adjusted, judge_number, sum_up
from vosrepro.reporting.pages.outlets import score_rows, selection_rows, training_rows
from vosrepro.study.plan import Plan
from vosrepro.study.published import Key, Published

PAPER = Published(Key("m", "r", "v", "b", "J&F-Mean"), 80.0, 1, "a paper", "paper", "")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([80.1, 80.2, 80.0], "reproduced"),
        ([80.4], "within-noise"),
        ([79.2, 80.9, 81.6], "within-noise"),
        ([75.0], "inconclusive"),
        ([77.0, 80.0, 79.0], "inconclusive"),
        ([76.0, 76.1, 76.2], "not-reproduced"),
        ([84.0, 84.1, 84.2], "exceeds"),
        ([76.0, 76.1], "inconclusive"),
        ([], "not-run"),
    ],
)
def test_verdict_follows_the_equivalence_rule(values: list[float], kind: str) -> None:
    assert judge_number(values, PAPER, 1.0).kind == kind


def test_a_blocking_deviation_forbids_every_verdict() -> None:
    verdict = judge_number([80.0, 80.0, 80.0], PAPER, 1.0, blocker="Other data.")
    assert (verdict.kind, verdict.text) == ("not-comparable", "Other data.")


def test_not_reproduced_survives_only_the_adjustment_for_many_rows() -> None:
    weak = judge_number([77.9, 78.4, 78.6], PAPER, 1.0)
    assert weak.kind == "not-reproduced"
    assert adjusted([weak])[0].kind == "not-reproduced"
    many = adjusted([judge_number([77.9, 78.4, 78.6], PAPER, 1.0) for _ in range(20)])
    assert {v.kind for v in many} == {"inconclusive"}
    assert "20 rows" in many[0].text


def _failed(p_below: float) -> Verdict:
    return Verdict("not-reproduced", "Below.", p_below)


@pytest.mark.parametrize(
    ("p_values", "kinds"),
    [
        ([0.0499], ["not-reproduced"]),
        ([0.0501], ["inconclusive"]),
        # The smallest of two is multiplied by 2, the other by 1.
        ([0.0249, 0.0499], ["not-reproduced", "not-reproduced"]),
        ([0.0251, 0.0499], ["inconclusive", "inconclusive"]),
        ([0.0501, 0.0249], ["inconclusive", "not-reproduced"]),
        ([0.0166, 0.0249, 0.0501], ["not-reproduced", "not-reproduced", "inconclusive"]),
        ([0.0168, 0.0249, 0.0301], ["inconclusive", "inconclusive", "inconclusive"]),
    ],
)
def test_the_adjustment_for_many_rows_turns_at_five_percent(p_values: list[float], kinds: list[str]) -> None:
    assert [v.kind for v in adjusted([_failed(p) for p in p_values])] == kinds


def test_rows_without_a_p_value_are_not_counted_as_tested_and_others_keep_their_verdict() -> None:
    untested, good = Verdict("not-run", ""), Verdict("reproduced", "", 0.9)
    assert [v.kind for v in adjusted([_failed(0.0499), untested])] == ["not-reproduced", "not-run"]
    found = adjusted([_failed(0.0251), good, untested])
    assert [v.kind for v in found] == ["inconclusive", "reproduced", "not-run"]
    assert "p = 0.05 after adjusting for 2 rows (Holm)" in found[0].text


def test_a_row_is_reproduced_only_if_all_its_primary_metrics_are() -> None:
    good = judge_number([80.0, 80.1, 80.2], PAPER, 1.0)
    bad = judge_number([70.0, 70.1, 70.2], PAPER, 1.0)
    assert sum_up([good, good], measured=True).kind == "reproduced"
    assert sum_up([good, bad], measured=True).kind == "not-reproduced"
    assert sum_up([None, None], measured=True).kind == "unpublished"
    assert sum_up([None], measured=False).kind == "not-run"


def test_generated_videos_are_never_comparable(finished: Plan) -> None:
    table = load_table(finished)
    rows = [r for r in table.rows if r.headline.published]
    assert rows
    assert {r.verdict.kind for r in rows} == {"not-comparable"}


def test_published_numbers_without_an_entry_are_listed(finished: Plan) -> None:
    keys = {p.key for p in load_table(finished).unattempted}
    assert Key("stm", "s012", "top50", "davis16-val", "J-Mean") in keys
    assert Key("stm", "s02", "top50", "davis16-val", "J-Mean") not in keys


def test_seeds_are_pooled_and_give_an_interval(finished: Plan) -> None:
    row = load_table(finished).by_name["stm", "s02", "top50", "davis16-val"]
    assert sorted(row.headline.seeds) == [0, 1]
    assert row.headline.over_seeds is not None
    assert row.headline.over_seeds.low < row.headline.mean < row.headline.over_seeds.high
    sequences = row.headline.over_sequences
    assert sequences is not None
    assert sequences.low <= row.headline.mean <= sequences.high


def test_cost_counts_the_whole_chain(finished: Plan) -> None:
    table = load_table(finished)
    row = table.by_name["stm", "s02", "top50", "davis16-val"]
    seconds = [
        sum(read_json(node.folder / "run.json")["wall_seconds"] for node in finished.run("stm", "s02", seed).stages)
        for seed in (0, 1)
    ]
    assert row.cost.train_seconds == pytest.approx(sum(seconds) / 2)


def test_checks_hold_and_fail_by_their_thresholds(own_copy: Plan) -> None:
    checks = {c.title: c for c in make_checks(load_table(own_copy))}
    title = "stm/s02/top50 beats copy on generated videos in the layout of DAVIS 2016 val"
    order = "stm/s02/top50 is better than s0 on generated videos in the layout of DAVIS 2016 val"
    assert checks[order].passed is True
    for seed in (0, 1):
        path = own_copy.run("stm", "s02", seed).folder / "top50/davis16-val/score.json"
        score = read_json(path)
        score["global"]["J&F-Mean"] = 0.01
        write_json(path, score)
    checks = {c.title: c for c in make_checks(load_table(own_copy))}
    assert checks[title].passed is False
    assert checks[order].passed is False


@pytest.mark.parametrize(("beyond", "passed"), [(0.01, True), (-0.01, False)])
def test_a_check_turns_at_its_threshold(own_copy: Plan, beyond: float, passed: bool) -> None:
    copy = read_json(own_copy.run("copy", "none", 0).folder / "default/davis16-val/score.json")["global"]["J&F-Mean"]
    for seed in (0, 1):
        path = own_copy.run("stm", "s02", seed).folder / "top50/davis16-val/score.json"
        score = read_json(path)
        score["global"]["J&F-Mean"] = copy + (BEATS_COPY_POINTS + beyond) / 100
        write_json(path, score)
    checks = {c.title: c for c in make_checks(load_table(own_copy))}
    assert checks["stm/s02/top50 beats copy on generated videos in the layout of DAVIS 2016 val"].passed is passed


def test_checks_without_scores_are_not_run(unstarted: Plan) -> None:
    checks = make_checks(load_table(unstarted))
    assert checks
    assert {c.passed for c in checks} == {None}


TRAINED = Key("stm", "s02", "top50", "davis16-val", "J&F-Mean")
UNTRAINED = TRAINED._replace(recipe="untrained")
COPY = Key("copy", "none", "default", "davis16-val", "J&F-Mean")


def _compared(plan: Plan, *expected: ExpectedResult) -> ReferenceComparison:
    return next(iter(compare_with_expected(load_table(plan), {each.key: each for each in expected})))


def _ours(plan: Plan, key: Key) -> float:
    rows = load_table(plan).rows
    (row,) = [r for r in rows if (r.method, r.recipe, r.variant, r.benchmark.benchmark) == key[:4]]
    assert row.headline.mean is not None
    return row.headline.mean


def test_reference_results_written_by_a_study_are_those_of_its_rows(own_copy: Plan, tmp_path: Path) -> None:
    path = tmp_path / "expected.csv"
    path.write_text(csv_text(expected_rows(load_table(own_copy))))
    expected = load_expected(path)
    assert expected is not None
    assert expected[TRAINED].value == pytest.approx(_ours(own_copy, TRAINED), abs=5e-4)
    assert expected[TRAINED].seeds == "0 1"
    assert len(expected) == len(load_table(own_copy).rows)


@pytest.mark.parametrize(("beyond", "passed"), [(-0.01, True), (0.01, False)])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_result_outside_the_range_of_eight_runs_fails(own_copy: Plan, side: int, beyond: float, passed: bool) -> None:
    inside = ExpectedResult(TRAINED, 0.0, 1.0, LEAST_RUNS)
    value = _ours(own_copy, TRAINED) + side * (inside.allowance + beyond)
    assert _compared(own_copy, ExpectedResult(TRAINED, value, 1.0, LEAST_RUNS)).passed is passed


@pytest.mark.parametrize(("off", "passed"), [(0.0004, True), (0.001, False)])
def test_results_without_chance_are_compared_exactly(own_copy: Plan, off: float, passed: bool) -> None:
    assert _compared(own_copy, ExpectedResult(COPY, _ours(own_copy, COPY) + off, 0.0, 4)).passed is passed


def test_what_could_not_fail_is_no_check(own_copy: Plan) -> None:
    ours = _ours(own_copy, TRAINED)
    few = _compared(own_copy, ExpectedResult(TRAINED, ours, 1.0, LEAST_RUNS - 1))
    assert (few.passed, few.reason) == (None, "7 of 8 reference runs")
    wide = _compared(own_copy, ExpectedResult(TRAINED, ours, WIDEST_POINTS / 3.5, LEAST_RUNS))
    assert wide.reference.allowance > WIDEST_POINTS
    assert (wide.passed, "too variable" in wide.reason) == (None, True)
    steady = ExpectedResult(TRAINED, ours, 1.0, LEAST_RUNS)
    floor = ExpectedResult(COPY, ours - steady.allowance + 0.1, 0.0, 4)
    assert _compared(own_copy, steady, floor).reason.startswith("cannot fail")
    lower = ExpectedResult(COPY, floor.value - 0.2, 0.0, 4)
    assert _compared(own_copy, steady, lower).passed is True
    assert _compared(own_copy, steady, lower).border.startswith("0.1 points from copy")
    bare = ExpectedResult(UNTRAINED, lower.value + 0.2, 0.0, 4)
    assert _compared(own_copy, steady, lower, bare).reason.startswith("cannot fail")


def test_an_untrained_row_is_compared_if_a_trained_one_would_fail_it(own_copy: Plan) -> None:
    ours = _ours(own_copy, UNTRAINED)
    bare = ExpectedResult(UNTRAINED, ours, 1.0, LEAST_RUNS)
    near, far = (ExpectedResult(TRAINED, ours + bare.allowance + d, 1.0, LEAST_RUNS) for d in (-0.1, 0.1))
    assert _compared(own_copy, bare, near).reason.startswith("cannot fail")
    assert _compared(own_copy, bare, far).passed is True


def test_what_is_no_check_is_listed_apart_with_its_reason(own_copy: Plan, tmp_path: Path) -> None:
    path = tmp_path / "expected.csv"
    lines = [COLUMNS, [*TRAINED, "10.0", "1.0", "3", "0 1 2", ""], [*COPY, "10.0", "0.0", "4", "", ""]]
    path.write_text(csv_text(lines))
    study = own_copy.study.model_copy(update={"expected": str(path)})
    plan = Plan(study, own_copy.methods, own_copy.benchmarks, own_copy.runs, own_copy.entries)
    few, exact = make_checks(load_table(plan))[-2:]
    assert (few.group, few.passed, few.reason) == ("Not compared: no check", None, "3 of 8 reference runs")
    assert (exact.group.endswith("exactly"), exact.passed) == (True, False)


@pytest.mark.parametrize("bad", ["high,0,1,,", "1.0,,1,,", "1.0,0,some,,"])
def test_a_malformed_expected_row_names_its_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "expected.csv"
    path.write_text(f"{','.join(COLUMNS)}\nstm,s0,top50,b,J-Mean,{bad}\n")
    with pytest.raises(ConfigError, match="expected.csv, line 2"):
        load_expected(path)


def test_outlets_hold_what_the_pages_show(finished: Plan) -> None:
    table = load_table(finished)
    scores = score_rows(table)
    assert scores[0][:5] == ["method", "recipe", "variant", "benchmark", "metric"]
    line = next(r for r in scores if r[:5] == ["stm", "s02", "top50", "generated-davis16-val", "J-Mean"])
    assert line[6] == 87.8
    steps = [r[1] for r in training_rows(table) if r[0] == "stm/s0/seed0/s0"]
    assert steps == sorted(steps)
    assert steps
    chosen = [r for r in selection_rows(table)[1:] if r[0] == "stm/s02/seed0" and r[3]]
    assert len(chosen) == 1


@pytest.mark.parametrize(
    ("spread", "runs", "allowed"),
    # t(0.995) is 4.032 with 5 and 9.925 with 2 degrees of freedom
    [(2.0, 6, 4.032 * 2 * (7 / 6) ** 0.5), (2.0, 3, 9.925 * 2 * (4 / 3) ** 0.5), (0.0, 6, 0.0005)],
)
def test_a_reference_allows_what_one_more_run_may_differ(spread: float, runs: int, allowed: float) -> None:
    key = Key("stm", "s0", "top50", "b", "J-Mean")
    assert ExpectedResult(key, 50.0, spread, runs).allowance == pytest.approx(allowed, rel=1e-3)
