"""Where each number of the report comes from, for the blocks that open with one click."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosrepro.reporting.evidence.evidence import Evidence, StageEvidence
from vosrepro.reporting.evidence.table import Row
from vosrepro.study.paths import run_log
from vosrepro.study.plan import Entry, Plan, Run
from vosrepro.study.records import (
    InferenceRecord,
    Provenance,
    ScoreRecord,
    SelectionRecord,
    TakenMasks,
    Timing,
    WeightsFile,
)


@dataclass(frozen=True)
class Trail:
    """The steps that made one number of one seed."""

    title: str
    steps: tuple[JobStep, ...]


@dataclass(frozen=True)
class JobStep:
    """One job and its facts as (name, value); `parameters` is JSON or empty."""

    title: str
    facts: tuple[tuple[str, str], ...]
    parameters: str = ""


#: Facts of a step that the first page shows; the pages of the methods show all.
_SHORT = ("status", "run id", "digest", "code", "data", "step", "weights", "weights sha256", "masks digest", "command")
_SHORT += ("commit", "parameters", "protocol", "log")


def summaries(evidence: Evidence, row: Row) -> tuple[Trail, ...]:
    """The trails of a row as the first page shows them: what identifies each step, and short parameters."""
    return tuple(Trail(trail.title, tuple(map(_shortened, trail.steps))) for trail in trails(evidence, row))


def command_of(plan: Plan, row: Row) -> str:
    """The one command that makes a row again."""
    names = zip(
        ("methods", "recipes", "variants", "benchmarks"),
        (row.method, row.recipe, row.variant, row.benchmark.benchmark),
        strict=True,
    )
    only = ", ".join(f"{kind}: [{name}]" for kind, name in names)
    study = f"params/studies/{plan.study.study}.yaml"
    return f"snakemake --cores 2 --configfile {study} --config 'only={{{only}}}' -- reports/all.html"


def trails(evidence: Evidence, row: Row) -> tuple[Trail, ...]:
    """One trail per seed of a row: training stages, selection, inference, scoring."""
    found = []
    for item in row.entries:
        run = item.entry.run
        steps = [_stage(evidence, s) for s in evidence.stages_of(run)]
        selected = evidence.runs[run.key].selected
        if selected is not None:
            steps.append(_selection(evidence, run, selected))
        steps.append(_inference(evidence, item.entry, item.infer))
        steps.append(_scoring(evidence, item.entry, item.score))
        value = item.scores.get(row.headline.metric)
        shown = "not scored" if value is None else f"{row.headline.metric} {100 * value:.2f}"
        found.append(Trail(f"seed {run.seed}: {shown}", tuple(steps)))
    return tuple(found)


def _shortened(step: JobStep) -> JobStep:
    facts = [*step.facts]
    if step.title == "infer" and step.parameters:
        facts.append(("parameters", " ".join(step.parameters.split())))
    return JobStep(step.title, tuple((name, value) for name, value in facts if name in _SHORT))


def _stage(evidence: Evidence, stage: StageEvidence) -> JobStep:
    node, run = stage.node, stage.run
    title = f"train {node.recipe}/{node.stage}: {node.params.title}"
    if run is None:
        return JobStep(title, (("status", "not run"),))
    facts = [
        ("run id", _run_id(evidence, f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}/")),
        ("status", run.status),
        ("resumed", ", ".join(f"from step {s}" for s in run.resumed_from) or "never"),
        ("digest", f"{run.digest} (state {run.state_digest or '?'})"),
        ("code", run.source_digest or ""),
        ("data", run.data_digest or ""),
        ("processes", f"{run.world_size} on {run.device}"),
        ("weights", _written(run.checkpoints[-1] if run.checkpoints else None)),
        *_common(run.provenance),
        *_log(node.study, node.method, node.recipe, node.seed, f"train-{node.stage}", node.journal),
    ]
    return JobStep(title, _clean(facts), _json(run.params))


def _selection(evidence: Evidence, run: Run, selected: SelectionRecord) -> JobStep:
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/select/")),
        ("rule", selected.rule),
        ("step", str(selected.step)),
        ("code", selected.code or ""),
        ("weights sha256", selected.weights_sha256),
        *_common(selected.provenance),
        *_log(run.study, run.method, run.recipe, run.seed, "select", run.journal("select")),
    ]
    return JobStep("select", _clean(facts))


def _inference(evidence: Evidence, entry: Entry, infer: InferenceRecord | None) -> JobStep:
    run = entry.run
    if infer is None:
        return JobStep("infer", (("status", "not run"),))
    if infer.taken is not None:
        return _taken(evidence, entry, infer, infer.taken)
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/infer/")),
        ("weights", _written(infer.weights)),
        ("device", f"{infer.device}, {infer.precision}"),
        ("speed", _speed(infer.timing)),
        ("code", infer.code or ""),
        ("data", infer.data_digest or ""),
        ("masks digest", infer.masks_digest or ""),
        ("predictions digest", infer.predictions_digest or ""),
        *_common(infer.provenance),
        *_log(run.study, run.method, run.recipe, run.seed, "infer", run.journal("infer")),
        ("file", str(entry.inference)),
    ]
    return JobStep("infer", _clean(facts), _json(infer.params or dict(entry.variant_params)))


def _taken(evidence: Evidence, entry: Entry, infer: InferenceRecord, taken: TakenMasks) -> JobStep:
    run = entry.run
    known = {None: "", True: ", the file that params/released.yaml names", False: ", another file than we looked at"}
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/infer/")),
        ("masks", f"{taken.path}{f', folder {taken.inside}' if taken.inside else ''}"),
        ("digest", f"{taken.digest}{known[taken.expected]}"),
        ("from", taken.obtain),
        ("licence", taken.licence),
        ("left aside", f"{taken.left} sequences that the benchmark here does not have" if taken.left else ""),
        ("lacking", f"{taken.lacking} frames, none of which is scored" if taken.lacking else ""),
        ("data", infer.data_digest or ""),
        ("masks digest", infer.masks_digest or ""),
        *_common(infer.provenance),
        *_log(run.study, run.method, run.recipe, run.seed, "infer", run.journal("infer")),
        ("file", str(entry.inference)),
    ]
    return JobStep("take the published masks", _clean(facts))


def _scoring(evidence: Evidence, entry: Entry, score: ScoreRecord | None) -> JobStep:
    run = entry.run
    if score is None:
        return JobStep("score", (("status", "not run"),))
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/score/")),
        ("protocol", f"{score.protocol} (benchmark version {entry.benchmark_params.version})"),
        ("right images", _hits(score)),
        ("note", score.note),
        ("warnings", "; ".join(score.warnings)),
        *_common(score.provenance),
        *_log(run.study, run.method, run.recipe, run.seed, "score", run.journal("score")),
        ("file", str(entry.score)),
    ]
    return JobStep("score", _clean(facts))


def _hits(score: ScoreRecord) -> str:
    """Integers behind an accuracy."""
    return ", ".join(f"{name} {count} of {score.images}" for name, count in score.hits.items())


def _speed(timing: Timing) -> str:
    """Every convention of frames per second, so that any paper finds its own."""
    parts = [
        ("{:.2f} frames/s over all frames", timing.fps_amortised),
        ("{:.2f} without first frames", timing.fps_steady),
        ("{:.2f} as mean of sequences", timing.fps_sequence_mean),
        ("first frame {:.3f} s", timing.init_seconds_mean),
        ("latency median {:.1f} ms", timing.latency_median_ms),
        ("{:.1f} images/s", timing.images_per_second),
        ("95th percentile {:.1f} ms", timing.latency_p95_ms),
    ]
    return ", ".join(text.format(value) for text, value in parts if value is not None)


def _common(facts: Provenance) -> list[tuple[str, str]]:
    dirty = " + uncommitted changes" if facts.git.dirty else ""
    return [
        ("command", facts.command),
        ("commit", f"{facts.git.commit}{dirty}" if facts.git.commit else ""),
        ("machine", facts.hardware.name),
    ]


def _log(study: str, method: str, recipe: str, seed: int, kind: str, journal: Path) -> list[tuple[str, str]]:
    logs = (run_log(study, method, recipe, seed, name) for name in (kind, kind.removeprefix("train-")))
    log = next((path for path in logs if path.is_file()), None)
    return [("log", str(log) if log else ""), ("journal", str(journal))]


def _run_id(evidence: Evidence, prefix: str) -> str:
    runs = evidence.mlflow.runs if evidence.mlflow else {}
    return next((name for key, name in sorted(runs.items()) if key.startswith(prefix)), "")


def _written(weights: WeightsFile | None) -> str:
    return f"step {weights.step}, sha256 {weights.sha256}" if weights and weights.sha256 else ""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) if value else ""


def _clean(facts: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in facts if value)
