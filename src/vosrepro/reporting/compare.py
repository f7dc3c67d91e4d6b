"""Two result folders side by side: what changed in parameters, code, data and machine, and in the scores.

Scores are compared on the videos that both have, object by object, so that the spread between videos is out of the
way. That speaks of other videos with these weights; another training may differ by more, which only seeds show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError
from vosrepro.reporting.evidence.summary import in_words
from vosrepro.reporting.results import ENTRY, STAGE, Results
from vosrepro.scoring.statistics import Paired, holm, paired_difference
from vosrepro.study import paths
from vosrepro.study.records import InferenceRecord, Provenance, StageRecord

LEVEL = 0.05
#: J&F by (sequence, object).
Values = Mapping[tuple[str, int], float]
#: Of one job: (kind, fact) -> value.
JobFacts = Mapping[tuple[str, str], str]
#: Settings that change no result.
_QUIET = {"title"}


@dataclass(frozen=True)
class ChangedFact:
    """One fact that differs; `places` are the jobs where it does."""

    kind: str
    what: str
    before: str
    after: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One row on the videos that both folders have, B minus A, in points.

    Attributes:
        name: method / recipe / variant / benchmark.
        before: mean J&F of A on them, over seeds and objects.
        after: of B.
        paired: the differences by video.
        adjusted: p-value after Holm's adjustment for all rows.
    """

    name: str
    before: float
    after: float
    paired: Paired
    adjusted: float = 1.0

    @property
    def finding(self) -> str:
        """In words, whether they differ."""
        if not any(value for _, value in self.paired.by_sequence):
            return "equal"
        word = "better" if self.paired.mean > 0 else "worse"
        if self.adjusted < LEVEL:
            return f"{word}, significant"
        return f"{word}, p < {LEVEL:g} alone only" if self.paired.p_value < LEVEL else "not significant"


@dataclass(frozen=True)
class StudyComparison:
    """Two result folders."""

    first: str
    second: str
    changes: tuple[ChangedFact, ...]
    differences: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One sentence."""
        kinds = dict.fromkeys(change.kind for change in self.changes)
        changed = f"{in_words(kinds)} differ" if kinds else "nothing that the records state differs"
        found = [d.finding for d in self.differences]
        counts = {word: found.count(word) for word in dict.fromkeys(found)}
        rows = ", ".join(f"{count} {word}" for word, count in counts.items())
        return f"{changed}; of {len(found)} rows that both have, {self.second} against {self.first}: {rows or 'none'}."


def compare_results(first: Results, second: Results, seeds: tuple[int, int] | None = None) -> StudyComparison:
    """B against A.

    Args:
        first: A.
        second: B.
        seeds: one of each, e.g. to compare two trainings of one study; None: all, averaged.

    Raises:
        DataError: if a folder has no scores of videos (of that seed).
    """
    own, other = seeds or (None, None)
    names = [r.study if seed is None else f"{r.study} seed {seed}" for r, seed in ((first, own), (second, other))]
    if names[0] == names[1]:
        names = [f"{name} ({letter})" for name, letter in zip(names, "AB", strict=True)]
    ours, theirs = _objects(first, own), _objects(second, other)
    rows = [_difference(name, ours[name], theirs[name]) for name in ours if name in theirs]
    found = [row for row in rows if row is not None]
    adjusted = holm([row.paired.p_value for row in found])
    return StudyComparison(
        *names,
        changes=_changes(_facts(first, own), _facts(second, other)),
        differences=tuple(replace(row, adjusted=p) for row, p in zip(found, adjusted, strict=True)),
        only_first=tuple(name for name in ours if name not in theirs),
        only_second=tuple(name for name in theirs if name not in ours),
    )


def _objects(results: Results, seed: int | None) -> dict[str, Values]:
    """J&F by row and (sequence, object), the mean over seeds."""
    table = results.sequences
    if seed is not None:
        table = table[table["seed"] == seed]
    if not len(table):
        raise DataError(
            f"{results.folder} has no scores of videos{'' if seed is None else f' of seed {seed}'}: run the study first"
        )
    key = [name for name in ENTRY if name != "seed"]
    means = table.groupby([*key, "sequence", "object"], sort=False)["J&F-Mean"].mean()
    found: dict[str, dict[tuple[str, int], float]] = {}
    for (*name, sequence, number), value in means.items():  # type: ignore[misc]  # the index is a tuple
        found.setdefault("/".join(name), {})[sequence, number] = value
    return dict(found)


def _difference(name: str, ours: Values, theirs: Values) -> Difference | None:
    common = [key for key in ours if key in theirs]
    if not common:
        return None
    before, after = (sum(values[key] for key in common) / len(common) for values in (ours, theirs))
    return Difference(name, before, after, paired_difference(theirs, ours))


def _facts(results: Results, seed: int | None) -> dict[str, JobFacts]:
    """Of every job, by its name without the seed: (kind, fact) -> value."""
    found: dict[str, JobFacts] = {}
    for columns, name in ((STAGE, paths.STAGE_RECORD), (ENTRY, paths.ENTRY_INFERENCE)):
        for key, path in results.files(name, columns):
            own = key.pop("seed")
            if seed in (None, own):
                found.setdefault("/".join(key.values()), dict(_stated(path)))
    return found


def _stated(path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    record: StageRecord | InferenceRecord
    if path.name == paths.STAGE_RECORD:
        record = StageRecord.read(path)
        parameters, code = {**record.params, "model": record.model}, record.source_digest
    else:
        record = InferenceRecord.read(path)
        parameters, code = {**record.params, "benchmark": record.benchmark}, record.code
    yield from ((("parameters", name), value) for name, value in _flat(parameters))
    yield ("code", "digest"), code or ""
    yield ("data", "digest"), record.data_digest or ""
    yield from _made(record.provenance)


def _made(facts: Provenance) -> Iterator[tuple[tuple[str, str], str]]:
    yield ("code", "commit"), (facts.git.commit or "") + (" + uncommitted changes" if facts.git.dirty else "")
    yield ("machine", "name"), facts.hardware.name
    yield ("machine", "Python"), facts.python
    yield from ((("machine", library), version or "") for library, version in facts.libraries.items())


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if name in _QUIET or item is None:  # a setting that is not made is none, whether or not its name is written
            continue
        if isinstance(item, Mapping):
            yield from _flat(item, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(_made_settings(item))


def _made_settings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _made_settings(item) for name, item in value.items() if item is not None}
    return [_made_settings(item) for item in value] if isinstance(value, list | tuple) else value


def _changes(first: Mapping[str, JobFacts], second: Mapping[str, JobFacts]) -> tuple[ChangedFact, ...]:
    """What differs between jobs of one name, equal changes together."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for job in (name for name in first if name in second):
        ours, theirs = first[job], second[job]
        for fact in {**ours, **theirs}:
            before, after = ours.get(fact, "–"), theirs.get(fact, "–")
            if before != after:
                places.setdefault((*fact, before, after), []).append(job)
    order = ("parameters", "code", "data", "machine")
    found = [ChangedFact(*key, places=tuple(jobs)) for key, jobs in places.items()]
    return tuple(sorted(found, key=lambda change: order.index(change.kind)))
