"""Intervals, tests and verdicts against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from vosrepro.scoring.statistics import (
    cluster_bootstrap,
    expected_maximum,
    holm,
    in_prediction_interval,
    paired_difference,
    selection_columns,
    sign_flip_test,
    summarize_runs,
    verdict,
)
from vosrepro.scoring.student import t_cdf, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 29, 30])
def test_t_distribution_equals_scipy(freedom):
    for t in (-40.0, -2.5, -0.3, 0.0, 0.7, 4.2):
        assert t_cdf(t, freedom) == pytest.approx(scipy_stats.t.cdf(t, freedom), abs=1e-13)
    for p in (0.01, 0.05, 0.5, 0.9, 0.95, 0.975, 0.999):
        assert t_quantile(p, freedom) == pytest.approx(scipy_stats.t.ppf(p, freedom), rel=1e-9)


def test_seed_interval_has_the_half_widths_of_the_t_table():
    for count, factor in ((2, 4.464), (3, 1.686), (5, 0.953)):
        values = np.arange(count) / np.std(np.arange(count), ddof=1)  # sd 1
        runs = summarize_runs(values)
        assert runs.sd == pytest.approx(1)
        assert (runs.interval.high - runs.interval.low) / 2 == pytest.approx(factor, abs=1e-3)


def test_one_run_has_no_interval():
    runs = summarize_runs([80.0])
    assert runs.interval is None
    assert math.isnan(runs.sd)


def test_bootstrap_of_one_object_per_sequence_agrees_with_scipy():
    values = np.random.default_rng(3).normal(70, 12, 20)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        ours = cluster_bootstrap(values, range(20), draws=20_000, method=method)
        theirs = scipy_stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method=name, rng=np.random.default_rng(1)
        ).confidence_interval
        assert ours.low == pytest.approx(theirs.low, abs=0.25)
        assert ours.high == pytest.approx(theirs.high, abs=0.25)


def test_bootstrap_resamples_sequences_not_objects():
    values = np.repeat(np.random.default_rng(0).normal(70, 10, 10), 25)
    clusters = np.repeat(np.arange(10), 25).tolist()
    whole = cluster_bootstrap(values, clusters)
    naive = cluster_bootstrap(values, range(250))
    assert whole.high - whole.low > 3 * (naive.high - naive.low)


def test_bootstrap_weights_sequences_by_their_objects():
    interval = cluster_bootstrap([0, 0, 0, 1], ["a", "a", "a", "b"], draws=4_000)
    assert interval.low == 0
    assert interval.high == 1
    constant = cluster_bootstrap([5.0, 5.0, 5.0], ["a", "b", "b"])
    assert (constant.low, constant.high) == (5, 5)


def test_bootstrap_depends_on_the_seed_only():
    values = [math.sqrt(k) for k in range(10)]
    first = cluster_bootstrap(values, values, seed=4)
    assert first == cluster_bootstrap(values, values, seed=4)
    assert first != cluster_bootstrap(values, values, seed=5)


def test_sign_flip_test_equals_scipy_where_exact():
    values = np.random.default_rng(7).normal(0.8, 1.5, 9)
    p_value, exact = sign_flip_test(values)
    theirs = scipy_stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exact
    assert p_value == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flip_test_of_equal_differences_is_the_closed_form():
    assert sign_flip_test([1.0] * 6) == (2 / 64, True)
    assert sign_flip_test([0.0] * 5) == (1.0, True)


def test_random_sign_flips_agree_with_the_exact_ones():
    values = np.random.default_rng(2).normal(0.4, 1, 16)
    exact, _ = sign_flip_test(values)
    padded, is_exact = sign_flip_test([*values, 0.0], permutations=40_000)
    assert not is_exact
    assert padded == pytest.approx(exact, abs=0.01)


def test_paired_difference_is_tighter_than_the_spread_between_sequences():
    generator = np.random.default_rng(0)
    hard = generator.normal(70, 14, 20)
    ours = {(f"s{k:02}", 1): hard[k] + 1.5 + generator.normal(0, 0.8) for k in range(20)}
    theirs = {(f"s{k:02}", 1): hard[k] for k in range(20)}
    paired = paired_difference(ours, theirs)
    assert paired.mean == pytest.approx(1.5, abs=0.6)
    assert 0 < paired.interval_95.low < paired.interval_90.low < paired.mean
    assert paired.p_value < 0.001
    assert paired.sequences == 20
    assert [d for _, d in paired.by_sequence] == sorted(d for _, d in paired.by_sequence)


def test_paired_difference_uses_common_objects_only():
    paired = paired_difference({("a", 1): 2.0, ("b", 1): 5.0}, {("a", 1): 1.0, ("c", 1): 9.0})
    assert paired.mean == 1.0
    with pytest.raises(ValueError, match="no object in common"):
        paired_difference({("a", 1): 1.0}, {("b", 1): 1.0})


@pytest.mark.parametrize(
    ("values", "paper", "name", "reproduced"),
    [
        ((80.0, 80.1, 79.9), 80.0, "reproduced", True),
        ((85.0, 85.1, 84.9), 80.0, "exceeds", True),
        ((75.0, 75.1, 74.9), 80.0, "below", False),
        ((80.0, 81.2, 79.0), 80.0, "within tolerance", None),
        ((81.0, 82.4, 80.6), 80.0, "inconclusive", None),
        ((80.4,), 80.0, "within tolerance", None),
        ((70.0,), 80.0, "inconclusive", None),
        ((80.0, 80.0), 80.0, "within tolerance", None),
        ((70.0, 70.0), 80.0, "inconclusive", None),
    ],
)
def test_verdict(values, paper, name, reproduced):
    found = verdict(values, paper, margin=1.0)
    assert found.name == name
    assert found.reproduced is reproduced


def _at(low: float | None = None, high: float | None = None) -> list[float]:
    """Three runs, sd 0.5, whose 90 % interval against 80 ends exactly there (in points of difference)."""
    half = scipy_stats.t.ppf(0.95, 2) * 0.5 / math.sqrt(3)
    middle = 80 + (low + half if low is not None else high - half)
    return [middle - 0.5, middle, middle + 0.5]


@pytest.mark.parametrize(
    ("values", "margin", "name"),
    [
        # The whole interval beyond the margin, or by a hair not.
        (_at(high=-1.001), 1.0, "below"),
        (_at(high=-0.999), 1.0, "inconclusive"),
        (_at(low=1.001), 1.0, "exceeds"),
        (_at(low=0.999), 1.0, "inconclusive"),
        # Both ends within the margin, or by a hair not.
        (_at(high=0.999), 1.0, "reproduced"),
        (_at(high=1.001), 1.0, "within tolerance"),
        (_at(low=-0.999), 1.0, "reproduced"),
        (_at(low=-1.001), 1.0, "within tolerance"),
        # The mean at the margin, with an interval that crosses it.
        ([78.501, 79.001, 79.501], 1.0, "within tolerance"),
        ([78.499, 78.999, 79.499], 1.0, "inconclusive"),
        ([80.499, 80.999, 81.499], 1.0, "within tolerance"),
        ([80.501, 81.001, 81.501], 1.0, "inconclusive"),
    ],
)
def test_a_verdict_changes_at_its_borders_and_nowhere_else(values, margin, name):
    assert verdict(values, 80.0, margin=margin, rounding=0.0).name == name


def test_rounding_moves_the_borders_outwards():
    surely, hardly = _at(high=-1.051), _at(high=-1.049)
    assert verdict(surely, 80.0, margin=1.0, rounding=0.05).name == "below"
    assert verdict(hardly, 80.0, margin=1.0, rounding=0.05).name == "inconclusive"
    assert verdict(_at(high=0.949), 80.0, margin=1.0, rounding=0.05).name == "reproduced"
    assert verdict(_at(high=0.951), 80.0, margin=1.0, rounding=0.05).name == "within tolerance"


@pytest.mark.parametrize(("runs", "name"), [(2, "within tolerance"), (3, "reproduced")])
def test_a_verdict_takes_three_runs(runs, name):
    assert verdict([80.0, 80.01, 80.02][:runs], 80.0, margin=1.0).name == name


def test_verdict_is_two_one_sided_t_tests():
    values, paper, margin = [80.3, 80.9, 80.1, 80.6], 80.0, 1.0
    above = scipy_stats.ttest_1samp(values, paper - margin, alternative="greater").pvalue
    below = scipy_stats.ttest_1samp(values, paper + margin, alternative="less").pvalue
    found = verdict(values, paper, margin=margin, rounding=0.0)
    assert (found.name == "reproduced") == (max(above, below) <= 0.05)
    assert found.p_below == pytest.approx(1 - above)
    border = verdict(values, paper, margin=found.interval.high, rounding=0.0)
    assert border.name == "reproduced"
    assert verdict(values, paper, margin=found.interval.high - 1e-9, rounding=0.0).name != "reproduced"


def test_rounding_of_the_paper_widens_the_interval():
    values = [80.0, 80.1, 79.9]
    exact = verdict(values, 80.0, margin=1.0, rounding=0.0).interval
    rounded = verdict(values, 80.0, margin=1.0, rounding=0.5).interval
    assert rounded.low == pytest.approx(exact.low - 0.5)
    assert rounded.high == pytest.approx(exact.high + 0.5)


def test_prediction_interval_is_wider_than_that_of_the_mean():
    values = [80.0, 81.0, 79.0]
    half = scipy_stats.t.ppf(0.975, 2) * math.sqrt(4 / 3)
    assert in_prediction_interval(values, 80 + half - 1e-9)
    assert not in_prediction_interval(values, 80 + half + 1e-9)


def test_holm_equals_the_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_holm_multiplies_by_the_rows_that_are_left_never_falls_and_stops_at_one():
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm([0.01, 0.5, 0.9]) == pytest.approx([0.03, 1.0, 1.0])


def test_expected_maximum_equals_closed_forms_and_tables():
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-6)
    assert expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-6)
    for count, value in ((5, 1.16), (10, 1.54), (20, 1.87)):
        assert expected_maximum(count) == pytest.approx(value, abs=0.005)


def test_selection_columns_keep_the_test_best_apart():
    columns = selection_columns({10: 70, 20: 75, 30: 74}, {10: 60, 20: 65, 30: 68})
    assert (columns.last, columns.selected, columns.best) == (68, 65, 68)
    assert (columns.selected_step, columns.best_step) == (20, 30)
    assert columns.inflation == pytest.approx(np.std([60, 65, 68], ddof=1) * 0.8463, abs=1e-3)
    with pytest.raises(ValueError, match="same steps"):
        selection_columns({1: 1.0}, {2: 1.0})
