"""Where each number of the report comes from, for the blocks that open with one click."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosrepro.reporting.evidence.evidence import Evidence
from vosrepro.reporting.evidence.table import Row
from vosrepro.study.paths import run_log
from vosrepro.study.plan import Entry, Run


@dataclass(frozen=True)
class Trail:
    """The steps that made one number of one seed."""

    title: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Step:
    """One job and its facts as (name, value); `parameters` is JSON or empty."""

    title: str
    facts: tuple[tuple[str, str], ...]
    parameters: str = ""


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


def _stage(evidence: Evidence, stage: Any) -> Step:
    node, run = stage.node, stage.run or {}
    title = f"train {node.recipe}/{node.stage}: {node.params.title}"
    if not run:
        return Step(title, (("status", "not run"),))
    resumed = run.get("resumed_from") or []
    facts = [
        ("run id", _run_id(evidence, f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}/")),
        ("status", str(run.get("status", ""))),
        ("resumed", ", ".join(f"from step {s}" for s in resumed) or "never"),
        ("digest", f"{run.get('digest', node.digest)} (state {run.get('state_digest', '?')})"),
        ("data", str(run.get("data_digest") or "")),
        ("processes", f"{run.get('world_size', '?')} on {run.get('device', '?')}"),
        ("weights", _last_checkpoint(run)),
        *_common(run),
        *_log(node.study, node.method, node.recipe, node.seed, f"train-{node.stage}", node.journal),
    ]
    return Step(title, _clean(facts), _json(run.get("params")))


def _selection(evidence: Evidence, run: Run, selected: Mapping[str, Any]) -> Step:
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/select/")),
        ("rule", str(selected.get("rule", ""))),
        ("step", str(selected.get("step", ""))),
        ("weights sha256", str(selected.get("weights_sha256") or "")),
        *_common(selected),
        *_log(run.study, run.method, run.recipe, run.seed, "select", run.journal("select")),
    ]
    return Step("select", _clean(facts))


def _inference(evidence: Evidence, entry: Entry, infer: Mapping[str, Any] | None) -> Step:
    run = entry.run
    if infer is None:
        return Step("infer", (("status", "not run"),))
    weights = infer.get("weights") or {}
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/infer/")),
        (
            "weights",
            f"step {weights['step']}, sha256 {weights['sha256']}" if weights.get("sha256") else "",
        ),
        ("device", f"{infer.get('device', '?')}, {infer.get('precision', '?')}"),
        ("speed", _speed(infer.get("timing") or {})),
        ("data", str(infer.get("data_digest") or "")),
        ("masks digest", str(infer.get("masks_digest") or "")),
        ("predictions digest", str(infer.get("predictions_digest") or "")),
        *_common(infer),
        *_log(run.study, run.method, run.recipe, run.seed, "infer", run.journal("infer")),
        ("file", str(entry.inference)),
    ]
    return Step("infer", _clean(facts), _json(infer.get("params") or dict(entry.variant_params)))


def _scoring(evidence: Evidence, entry: Entry, score: Mapping[str, Any] | None) -> Step:
    run = entry.run
    if score is None:
        return Step("score", (("status", "not run"),))
    facts = [
        ("run id", _run_id(evidence, f"{run.key}/score/")),
        (
            "protocol",
            f"{score.get('protocol')} (benchmark version {entry.benchmark_params.version})",
        ),
        ("right images", _hits(score)),
        ("note", str(score.get("note") or "")),
        ("warnings", "; ".join(str(w) for w in score.get("warnings") or ())),
        *_common(score),
        *_log(run.study, run.method, run.recipe, run.seed, "score", run.journal("score")),
        ("file", str(entry.score)),
    ]
    return Step("score", _clean(facts))


def _hits(score: Mapping[str, Any]) -> str:
    """Integers behind an accuracy."""
    hits = score.get("hits") or {}
    return ", ".join(f"{name} {count} of {score.get('images')}" for name, count in hits.items())


def _speed(timing: Mapping[str, Any]) -> str:
    """Every convention of frames per second, so that any paper finds its own."""
    parts = [
        (f"{timing.get('fps_amortised') or 0:.2f} frames/s over all frames", "fps_amortised"),
        (f"{timing.get('fps_steady') or 0:.2f} without first frames", "fps_steady"),
        (f"{timing.get('fps_sequence_mean') or 0:.2f} as mean of sequences", "fps_sequence_mean"),
        (f"first frame {timing.get('init_seconds_mean') or 0:.3f} s", "init_seconds_mean"),
        (f"latency median {timing.get('latency_median_ms') or 0:.1f} ms", "latency_median_ms"),
        (f"{timing.get('images_per_second') or 0:.1f} images/s", "images_per_second"),
        (f"95th percentile {timing.get('latency_p95_ms') or 0:.1f} ms", "latency_p95_ms"),
    ]
    return ", ".join(text for text, key in parts if timing.get(key) is not None)


def _common(artifact: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = artifact.get("provenance") or {}
    git = facts.get("git") or {}
    commit = git.get("commit")
    dirty = " + uncommitted changes" if git.get("dirty") else ""
    hardware = facts.get("hardware") or {}
    return [
        ("command", str(facts.get("command") or "")),
        ("commit", f"{commit}{dirty}" if commit else ""),
        ("machine", str(hardware.get("gpu") or hardware.get("cpu") or "")),
    ]


def _log(study: str, method: str, recipe: str, seed: int, kind: str, journal: Path) -> list[tuple[str, str]]:
    logs = (run_log(study, method, recipe, seed, name) for name in (kind, kind.removeprefix("train-")))
    log = next((path for path in logs if path.is_file()), None)
    return [("log", str(log) if log else ""), ("journal", str(journal))]


def _run_id(evidence: Evidence, prefix: str) -> str:
    runs = (evidence.mlflow or {}).get("runs") or {}
    return next((str(v) for k, v in sorted(runs.items()) if k.startswith(prefix)), "")


def _last_checkpoint(run: Mapping[str, Any]) -> str:
    checkpoints = run.get("checkpoints") or []
    if not checkpoints:
        return ""
    last = checkpoints[-1]
    return f"step {last.get('step')}, sha256 {last.get('sha256')}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) if value else ""


def _clean(facts: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in facts if value)
