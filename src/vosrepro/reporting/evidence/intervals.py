"""From the tables of objects to `vosrepro.scoring.statistics`: points instead of shares, seeds averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vosrepro.reporting.evidence.evidence import EntryEvidence, ScoredObject
from vosrepro.scoring.classification import wilson
from vosrepro.scoring.statistics import Interval, Paired, cluster_bootstrap, paired_difference
from vosrepro.study.params import StatisticsParams

#: Value in points by (sequence, object id).
ObjectValues = Mapping[tuple[str, int], float]


def object_value(item: ScoredObject, metric: str) -> float | None:
    """One metric of one object in points; None when its table lacks it."""
    if metric == "J&F-Mean" and metric not in item.values:
        both = (item.values.get("J-Mean"), item.values.get("F-Mean"))
        return None if None in both else 50 * sum(v for v in both if v is not None)
    value = item.values.get(metric)
    return None if value is None else 100 * value


def pooled(items: Sequence[EntryEvidence], metric: str) -> ObjectValues:
    """Values of every object, averaged over the seeds that were scored; only objects that all of them have."""
    seeds = [_values(item, metric) for item in items if item.objects]
    if not seeds:
        return {}
    first, *others = seeds
    return {
        key: sum(seed[key] for seed in seeds) / len(seeds) for key in first if all(key in other for other in others)
    }


def over_sequences(items: Sequence[EntryEvidence], metric: str, settings: StatisticsParams) -> Interval | None:
    """95 % bootstrap interval of a score over sequences (with all their objects), seeds averaged."""
    values = pooled(items, metric)
    clusters = [sequence for sequence, _ in values]
    if len(set(clusters)) < 2:
        return None
    return cluster_bootstrap(list(values.values()), clusters, draws=settings.bootstrap_draws, seed=settings.seed)


def over_images(items: Sequence[EntryEvidence], metric: str) -> Interval | None:
    """95 % Wilson interval of an accuracy over single images, seeds averaged, in points."""
    scores = [item.score for item in items if item.score and item.score.hits]
    images = scores[0].images if scores else None
    if not images:
        return None
    found = wilson(sum(score.hits[metric] for score in scores) / len(scores), images)
    return Interval(100 * found.low, 100 * found.high, found.level)


def paired(ours: ObjectValues, theirs: ObjectValues, settings: StatisticsParams) -> Paired | None:
    """Ours minus theirs on the objects that both have; None without any."""
    if not ours.keys() & theirs.keys():
        return None
    return paired_difference(
        ours,
        theirs,
        draws=settings.bootstrap_draws,
        permutations=settings.permutation_draws,
        seed=settings.seed,
    )


def _values(item: EntryEvidence, metric: str) -> dict[tuple[str, int], float]:
    values = {(o.sequence, o.object): object_value(o, metric) for o in item.objects}
    return {key: value for key, value in values.items() if value is not None}
