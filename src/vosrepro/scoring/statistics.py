"""Intervals, tests and verdicts of a reproduction: what the seeds, and what the sequences, can tell.

Two kinds of uncertainty are kept apart. Seeds: would another training run of ours give the same number on
this fixed benchmark? Sequences: would other videos? Only the first enters verdicts. Units are whatever the
caller uses, but the same for values, paper, margin and rounding (the project uses points, 0..100).

Sources: Efron, Tibshirani: An Introduction to the Bootstrap (1993), ch. 13-14; Schuirmann (1987), two
one-sided tests; Holm (1979); Abramowitz, Stegun: Handbook of Mathematical Functions, 26.7.3-4.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from vosrepro.scoring.student import t_cdf, t_quantile

MIN_RUNS = 3  # fewer runs cannot carry a verdict
_EXACT_CLUSTERS = 16  # up to here all 2^n sign flips are tried


class Interval(NamedTuple):
    """A confidence interval and its level in 0..1."""

    low: float
    high: float
    level: float


# ------------------------------------------------------------------------------------- over sequences


def cluster_bootstrap(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable],
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Interval of the mean over objects when whole sequences are resampled.

    Args:
        values: one per object.
        clusters: the sequence of each object; all objects of a sequence are drawn together.
        draws: bootstrap resamples.
        seed: of the generator.
        level: confidence in 0..1.
        method: "percentile", or "bca" (bias-corrected and accelerated).
    """
    sums, counts = _cluster_sums(values, clusters)
    means = _bootstrap_means(sums, counts, draws, seed)
    tail = (1 - level) / 2
    shares = [tail, 1 - tail]
    if method == "bca":
        shares = _bca_shares(means, sums, counts, shares)
    low, high = np.quantile(means, shares)
    return Interval(float(low), float(high), level)


class Paired(NamedTuple):
    """Ours minus theirs, paired by object within sequences.

    Attributes:
        mean: over objects.
        sd: between the sequences' mean differences; NaN for one sequence.
        sequences: number of sequences.
        interval_90: cluster-bootstrap interval.
        interval_95: the same, wider.
        p_value: two-sided sign-flip permutation test of "no difference", flipping whole sequences.
        exact: whether all sign patterns were tried.
        by_sequence: mean difference per sequence, the worst for us first.
    """

    mean: float
    sd: float
    sequences: int
    interval_90: Interval
    interval_95: Interval
    p_value: float
    exact: bool
    by_sequence: tuple[tuple[str, float], ...]


def paired_difference(
    ours: Mapping[tuple[str, int], float],
    theirs: Mapping[tuple[str, int], float],
    *,
    draws: int = 10_000,
    permutations: int = 100_000,
    seed: int = 0,
) -> Paired:
    """Compare two scores on the objects that both have.

    Args:
        ours: (sequence, object id) -> value.
        theirs: the same.
        draws: bootstrap resamples.
        permutations: random sign patterns where there are too many to try all.
        seed: of the generators.

    Raises:
        ValueError: if no object is in both.
    """
    keys = [key for key in ours if key in theirs]
    if not keys:
        raise ValueError("the two scores have no object in common")
    differences = np.array([ours[key] - theirs[key] for key in keys], float)
    clusters = [sequence for sequence, _ in keys]
    sums, counts = _cluster_sums(differences, clusters)
    means = sums / counts
    names = list(dict.fromkeys(clusters))
    p_value, exact = sign_flip_test(sums, permutations=permutations, seed=seed)
    ranked = sorted(zip(names, means.tolist(), strict=True), key=lambda item: item[1])
    return Paired(
        float(differences.mean()),
        float(means.std(ddof=1)) if len(means) > 1 else math.nan,
        len(means),
        cluster_bootstrap(differences, clusters, draws=draws, seed=seed, level=0.90),
        cluster_bootstrap(differences, clusters, draws=draws, seed=seed, level=0.95),
        p_value,
        exact,
        tuple(ranked),
    )


def sign_flip_test(
    differences: Sequence[float] | np.ndarray, *, permutations: int = 100_000, seed: int = 0
) -> tuple[float, bool]:
    """Two-sided p-value of a zero mean, by flipping the signs of the differences.

    Returns:
        The p-value, and whether it is exact (few enough differences to try all patterns).
    """
    values = np.asarray(differences, float)
    observed = abs(values.sum())
    slack = 1e-12 * max(1.0, float(np.abs(values).sum()))
    n = len(values)
    if n <= _EXACT_CLUSTERS:
        patterns = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
        flipped = np.abs((1 - 2 * patterns) @ values)
        return float(np.mean(flipped >= observed - slack)), True
    generator = np.random.default_rng(seed)
    hits = 0
    for begin in range(0, permutations, 10_000):
        rows = min(10_000, permutations - begin)
        signs = generator.integers(0, 2, (rows, n)) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ values) >= observed - slack))
    return (hits + 1) / (permutations + 1), False


def _cluster_sums(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster, clusters in order of appearance."""
    array = np.asarray(values, float)
    if len(array) != len(clusters) or not len(array):
        raise ValueError(f"{len(array)} values do not fit {len(clusters)} cluster names")
    index = {name: k for k, name in enumerate(dict.fromkeys(clusters))}
    which = np.array([index[name] for name in clusters])
    return np.bincount(which, array), np.bincount(which).astype(float)


def _bootstrap_means(sums: np.ndarray, counts: np.ndarray, draws: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    return sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def _bca_shares(means: np.ndarray, sums: np.ndarray, counts: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Percentiles corrected for median bias and for skewness (jackknife over clusters)."""
    normal = NormalDist()
    observed = sums.sum() / counts.sum()
    below = np.mean(means < observed) + np.mean(means == observed) / 2
    if not 0 < below < 1 or len(sums) < 3:
        return list(shares)
    bias = normal.inv_cdf(float(below))
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    deviation = left_out.mean() - left_out
    spread = float((deviation**2).sum())
    skew = float((deviation**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    corrected = []
    for share in shares:
        z = bias + normal.inv_cdf(share)
        corrected.append(normal.cdf(bias + z / (1 - skew * z)))
    return corrected


# ------------------------------------------------------------------------------------------ over seeds


class Runs(NamedTuple):
    """Several seeds of one training procedure on a fixed benchmark.

    Attributes:
        number: how many.
        mean: over runs.
        sd: with n - 1; NaN for one run.
        low: smallest.
        high: largest.
        interval: t interval of the mean; None for one run.
    """

    number: int
    mean: float
    sd: float
    low: float
    high: float
    interval: Interval | None


def summarize_runs(values: Sequence[float], *, level: float = 0.90) -> Runs:
    """Mean, spread and t interval over runs."""
    array = np.asarray(values, float)
    if not array.size:
        raise ValueError("there are no runs to summarize")
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Runs(1, mean, math.nan, mean, mean, None)
    sd = float(array.std(ddof=1))
    half = t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    interval = Interval(mean - half, mean + half, level)
    return Runs(n, mean, sd, float(array.min()), float(array.max()), interval)


VerdictName = Literal["reproduced", "exceeds", "below", "within tolerance", "inconclusive"]


class MeasuredVerdict(NamedTuple):
    """Whether a published number was reproduced.

    Attributes:
        name: "reproduced": equivalent within the margin; "exceeds" or "below": surely outside it;
            "within tolerance": the mean is inside but the interval is not (or is unknown);
            "inconclusive": the mean is outside but the interval touches the margin (or is unknown).
        difference: our mean minus the paper's number.
        interval: of the difference, widened by the rounding of the paper's number; None with one run.
        margin: what counts as equivalent, fixed before the run.
        runs: number of runs.
        p_below: one-sided p-value of "not below the margin"; small means not reproduced; None with one run.
        in_prediction: whether the paper's number could be one more run of ours (95 % prediction
            interval); not a claim of equivalence; None with one run.
        note: what a reader must know, such as "1 run".
    """

    name: VerdictName
    difference: float
    interval: Interval | None
    margin: float
    runs: int
    p_below: float | None
    in_prediction: bool | None
    note: str

    @property
    def reproduced(self) -> bool | None:
        """True, False, or None where the data cannot tell."""
        return {"reproduced": True, "exceeds": True, "below": False}.get(self.name)


def verdict(
    values: Sequence[float],
    paper: float,
    *,
    margin: float,
    rounding: float = 0.05,
    alpha: float = 0.05,
) -> MeasuredVerdict:
    """Two one-sided tests of our runs against one published number.

    Args:
        values: one per run, from the fixed checkpoint rule.
        paper: the published number.
        margin: equivalence margin, set before the run.
        rounding: half a unit of the paper's last digit (0.05 points for one decimal).
        alpha: level of each one-sided test; the interval has level 1 - 2 alpha.
    """
    if margin <= 0:
        raise ValueError(f"a margin must be positive, not {margin}")
    runs = summarize_runs(values, level=1 - 2 * alpha)
    difference = runs.mean - paper
    inside = abs(difference) <= margin
    if runs.interval is None:
        name: VerdictName = "within tolerance" if inside else "inconclusive"
        return MeasuredVerdict(name, difference, None, margin, 1, None, None, "1 run")
    low = runs.interval.low - paper - rounding
    high = runs.interval.high - paper + rounding
    if runs.number < MIN_RUNS:
        name = "within tolerance" if inside else "inconclusive"
    elif -margin <= low and high <= margin:
        name = "reproduced"
    elif low > margin:
        name = "exceeds"
    elif high < -margin:
        name = "below"
    else:
        name = "within tolerance" if inside else "inconclusive"
    return MeasuredVerdict(
        name,
        difference,
        Interval(low, high, 1 - 2 * alpha),
        margin,
        runs.number,
        _p_below(runs, paper - margin - rounding),
        in_prediction_interval(values, paper),
        f"{runs.number} runs" + (f", a verdict needs {MIN_RUNS}" if runs.number < MIN_RUNS else ""),
    )


def verdict_of_weights(
    values: Sequence[float],
    paper: float,
    *,
    margin: float,
    rounding: float = 0.05,
    random: bool = False,
    alpha: float = 0.05,
) -> MeasuredVerdict:
    """Results of one weights file against the number that its authors printed for it: nothing is trained.

    The number is that of the same weights, so it must come back up to its rounding and, where the method itself
    draws random numbers, up to what one more repetition may differ.

    Args:
        values: distinct results; equal masks of several seeds are one.
        paper: the published number.
        margin: equivalence margin, set before the run: nearer than this is "within tolerance".
        rounding: half a unit of the paper's last digit.
        random: whether repetitions differ.
        alpha: of the prediction interval of one more repetition.
    """
    if margin <= 0:
        raise ValueError(f"a margin must be positive, not {margin}")
    runs = summarize_runs(values)
    difference = runs.mean - paper
    inside = abs(difference) <= margin
    known = not random or runs.number >= MIN_RUNS
    if not known:
        name: VerdictName = "within tolerance" if inside else "inconclusive"
        note = f"{_count(runs.number, 'repetition')} of a method that draws at random, a verdict needs {MIN_RUNS}"
        return MeasuredVerdict(name, difference, None, margin, runs.number, None, None, note)
    reach = 0.0
    if runs.number > 1:
        reach = t_quantile(1 - alpha / 2, runs.number - 1) * runs.sd * math.sqrt(1 + 1 / runs.number)
    allowed = rounding + reach
    if abs(difference) <= allowed + 1e-9:
        name = "reproduced"
    elif abs(difference) <= max(margin, allowed):
        name = "within tolerance"
    else:
        name = "exceeds" if difference > 0 else "below"
    return MeasuredVerdict(
        name,
        difference,
        Interval(difference - allowed, difference + allowed, 1 - alpha),
        margin,
        runs.number,
        None,
        None,
        f"{_count(runs.number, 'result')} of one set of weights",
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_prediction_interval(values: Sequence[float], paper: float, *, level: float = 0.95) -> bool:
    """Whether one more run of ours could have given the paper's number.

    Raises:
        ValueError: with fewer than two runs.
    """
    runs = summarize_runs(values)
    if runs.number < 2:
        raise ValueError("a prediction interval needs at least 2 runs")
    half = t_quantile((1 + level) / 2, runs.number - 1) * runs.sd * math.sqrt(1 + 1 / runs.number)
    return abs(paper - runs.mean) <= half


def _p_below(runs: Runs, bound: float) -> float:
    """P-value of the hypothesis that our mean is at least `bound`."""
    if runs.sd == 0:
        return 1.0 if runs.mean >= bound else 0.0
    return t_cdf((runs.mean - bound) / (runs.sd / math.sqrt(runs.number)), runs.number - 1)


# --------------------------------------------------------------------------- several rows; checkpoints


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for testing several rows (family-wise, step-down)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * float(p_values[k])))
        adjusted[int(k)] = worst
    return adjusted


def expected_maximum(count: int) -> float:
    """Expected largest of `count` independent standard normal values."""
    if count < 1:
        raise ValueError(f"the largest of {count} values is not defined")
    x = np.linspace(-9, 9, 18_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (x[1] - x[0])
    return float(np.sum(x * count * density * below ** (count - 1)) * (x[1] - x[0]))


class SelectionColumns(NamedTuple):
    """What the choice of a checkpoint does to a score on the benchmark.

    Attributes:
        last: score of the last checkpoint; may enter a verdict.
        selected: score of the checkpoint that was best on held-out training data; may enter a verdict.
        selected_step: its step.
        best: score of the checkpoint that is best on the benchmark itself; never enters a verdict.
        best_step: its step.
        inflation: upper-end estimate of how much `best` owes to choosing: checkpoint sd times the
            expected maximum, as if checkpoints were independent.
    """

    last: float
    selected: float
    selected_step: int
    best: float
    best_step: int
    inflation: float


def selection_columns(held_out: Mapping[int, float], test: Mapping[int, float]) -> SelectionColumns:
    """The three columns of the report.

    Args:
        held_out: step -> score on held-out training data; ties go to the later step.
        test: step -> score on the benchmark, for the same steps.

    Raises:
        ValueError: if the steps differ or there are none.
    """
    if not test or set(held_out) != set(test):
        raise ValueError("held-out and test scores must be of the same steps, at least one")
    selected = max(held_out, key=lambda step: (held_out[step], step))
    best = max(test, key=lambda step: (test[step], step))
    spread = float(np.std(list(test.values()), ddof=1)) if len(test) > 1 else 0.0
    inflation = spread * expected_maximum(len(test))
    return SelectionColumns(test[max(test)], test[selected], selected, test[best], best, inflation)
