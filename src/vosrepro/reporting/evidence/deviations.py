"""What differs from the papers, and whether it forbids a comparison.

A deviation that can move the score by more than the verdict's margin *blocks*: every published number it
touches is then "not comparable".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vosrepro.datasets.sets.catalog import benchmark_part, training_parts
from vosrepro.reporting.evidence.costs import training_cost, training_hours
from vosrepro.reporting.evidence.evidence import Evidence
from vosrepro.scoring.counting.protocols import PROTOCOLS
from vosrepro.scoring.statistics import MIN_RUNS
from vosrepro.study.digests import code_of, data_digest
from vosrepro.study.params import BenchmarkParams, Study
from vosrepro.study.plan import Plan, Run
from vosrepro.study.training_table import named_deviations

#: The size of params/methods/<method>.yaml whose networks and schedules are the papers'.
FULL_SIZE = "full"


@dataclass(frozen=True)
class Deviation:
    """One difference between this study and the papers.

    Attributes:
        scope: what it touches: "study", a benchmark, `videos_of` it, "method/recipe" or "method/recipe/seed<k>".
        text: one sentence.
        blocks: whether it forbids a verdict on what it touches.
    """

    scope: str
    text: str
    blocks: bool


def find_deviations(evidence: Evidence) -> tuple[Deviation, ...]:
    """All deviations that can be told from parameters and artifacts, blocking ones first."""
    found = [
        *_of_study(evidence.plan.study),
        *_of_seeds(evidence.plan),
        *(d for b in evidence.plan.benchmarks.values() for d in _of_benchmark(b)),
        *(d for b in evidence.plan.benchmarks.values() for d in _of_videos(evidence, b)),
        *_of_parameters(evidence.plan),
        *_of_training(evidence),
        *_of_commits(evidence),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda d: not d.blocks))


def blocking(deviations: Iterable[Deviation], *scopes: str) -> Deviation | None:
    """The first deviation that forbids a verdict in any of these scopes."""
    return next((d for d in deviations if d.blocks and d.scope in scopes), None)


def _of_study(study: Study) -> Iterable[Deviation]:
    if study.data.generated:
        yield Deviation(
            "study",
            "All videos and images are generated; the papers trained and scored on DAVIS, YouTube-VOS and ImageNet.",
            blocks=True,
        )
    if study.size != FULL_SIZE:
        yield Deviation(
            "study",
            f"Networks and schedules have the size '{study.size}', far below the papers'.",
            blocks=True,
        )


def _of_seeds(plan: Plan) -> Iterable[Deviation]:
    """Too few trainings for a verdict, said once for the study with what is lacking."""
    seeds = len(plan.study.seeds)
    if seeds >= MIN_RUNS or not plan.stages:
        return
    lacking = MIN_RUNS - seeds
    cost = training_cost(training_hours(plan), [n for n in plan.stages if n.seed == plan.study.seeds[0]])
    each = f"{cost} each" if cost else "at a cost that `vosrepro plan` lists"
    yield Deviation(
        "study",
        f"Every recipe was trained with {'one seed' if seeds == 1 else f'{seeds} seeds'}; certifying a number as "
        f"reproduced takes {MIN_RUNS}: {lacking} more of all, {each}.",
        blocks=False,
    )


def _of_benchmark(benchmark: BenchmarkParams) -> Iterable[Deviation]:
    rules = PROTOCOLS.get(benchmark.scoring or "")
    late = benchmark.scoring is None or (rules is not None and rules.objects == "starts")
    if benchmark.keep_given and late:
        yield Deviation(
            benchmark.benchmark,
            f"On frames of {benchmark.title} where an object begins, its given mask is the result as it was given; "
            "original code scales it to the network's size and back (`keep_given: false` does too).",
            blocks=False,
        )
    if benchmark.scoring is None:
        yield Deviation(
            benchmark.benchmark,
            f"{benchmark.title} is scored by the challenge server only; `vosrepro submit record` takes its answer.",
            blocks=False,
        )
    elif benchmark.scoring == "ytvos-local":
        yield Deviation(
            benchmark.benchmark,
            f"{benchmark.title} follows our reading of the YouTube-VOS rules, whose program is private.",
            blocks=True,
        )


def part_of(evidence: Evidence, benchmark: BenchmarkParams) -> tuple[int, int] | None:
    """How many of how many videos of a real benchmark are here; None if all are, or nobody knows."""
    facts = evidence.data.parts.get(benchmark_part(benchmark), {}) if evidence.data else {}
    here, official = facts.get("videos"), facts.get("official_videos")
    if evidence.plan.study.data.generated or here is None or official is None or here >= official:
        return None
    return here, official


def videos_of(benchmark: BenchmarkParams) -> str:
    """The scope of results that are means over a benchmark's videos."""
    return f"{benchmark.benchmark}/videos"


def _of_videos(evidence: Evidence, benchmark: BenchmarkParams) -> Iterable[Deviation]:
    part = part_of(evidence, benchmark)
    if part is not None:
        yield Deviation(
            videos_of(benchmark),
            f"Only {part[0]} of the {part[1]} videos of {benchmark.title} are here; means over them are compared with "
            "no published number of the whole.",
            blocks=True,
        )


def _of_parameters(plan: Plan) -> Iterable[Deviation]:
    """What parameters say against the table of published ones, once for each recipe."""
    if plan.study.size != FULL_SIZE:
        return
    for run in {(run.method, run.recipe): run for run in plan.runs}.values():
        for text, moves in named_deviations(plan.study, run):
            yield Deviation(f"{run.method}/{run.recipe}", text, blocks=moves)
        yield from _of_selection(plan, run)


def _of_selection(plan: Plan, run: Run) -> Iterable[Deviation]:
    """A recipe has one checkpoint, chosen with one variant; its other variants might have chosen another."""
    others = sorted({e.variant for e in plan.entries_of(run)} - {run.selection_variant})
    if len(run.candidate_steps) > 1 and others:
        name = f"{run.method}/{run.recipe}"
        yield Deviation(
            name,
            f"The checkpoint of {name} is chosen with its variant {run.selection_variant}, also for "
            f"{', '.join(others)}.",
            blocks=False,
        )


def _of_training(evidence: Evidence) -> Iterable[Deviation]:
    for stage in evidence.stages.values():
        node, run = stage.node, stage.run
        name = f"{node.method}/{node.recipe}/seed{node.seed}"
        if node.params.precision != "fp32":
            yield Deviation(
                name,
                f"{name}/{node.stage} was trained in {node.params.precision}; the papers used fp32.",
                blocks=False,
            )
        if run is None:
            continue
        asked = evidence.plan.study.gpus_per_training
        if run.world_size < asked:
            yield Deviation(
                name,
                f"{name}/{node.stage} was trained on {run.world_size} of the {asked} devices that the study names; its "
                "batch and statistics are the same, sums are taken in another order.",
                blocks=False,
            )
        if run.status != "FINISHED":
            yield Deviation(name, f"{name}/{node.stage} ended as {run.status}, not FINISHED.", blocks=True)
        read = {part for source in node.params.data for part in training_parts(source.set)}
        known = {evidence.data_digest, evidence.data and data_digest(evidence.data, read)}
        if run.data_digest and evidence.data_digest and run.data_digest not in known:
            yield Deviation(
                name,
                f"{name}/{node.stage} was trained on data that differ from today's manifest.",
                blocks=True,
            )
        yield from _of_code(name, f"{name}/{node.stage} was trained", run.source_digest, "train", node.method)
    for run in evidence.runs.values():
        if run.selected is not None:
            key = run.run.key
            yield from _of_code(key, f"The checkpoint of {key} was chosen", run.selected.scorer, "scorer")


def _of_code(scope: str, what: str, then: str | None, kind: str, method: str = "") -> Iterable[Deviation]:
    """What keeps the code with which it was made says so, once that has changed."""
    now = code_of(kind, method)
    if then and then != now:
        yield Deviation(scope, f"{what} by code of digest {then}; today's is {now}.", blocks=False)


def _of_commits(evidence: Evidence) -> Iterable[Deviation]:
    states = [facts.git for facts in evidence.provenances()]
    commits = {state.commit for state in states if state.commit}
    if len(commits) > 1:
        yield Deviation(
            "study",
            f"The artifacts come from {len(commits)} commits; each number's provenance names its own.",
            blocks=False,
        )
    if any(state.dirty for state in states):
        yield Deviation(
            "study",
            "Some artifacts were made with uncommitted changes; their provenance is marked 'dirty'.",
            blocks=False,
        )
