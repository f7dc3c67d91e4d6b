"""The table as files for other tools: results/<study>/metrics.json and plots/*.csv (both read by DVC)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vosrepro.base.files import csv_text, json_text, write_text
from vosrepro.reporting.evidence.table import Table
from vosrepro.study.integrity import damaged
from vosrepro.study.paths import study_metrics, study_plot

_TRAINING_POINTS = 200


def metrics_tree(table: Table) -> dict[str, Any]:
    """{method: {recipe: {variant: {benchmark: {metric: value}}}}}: points, frames per second, seconds."""
    tree: dict[str, Any] = {}
    for row in table.rows:
        values = {name: round(cell.mean, 4) for name, cell in row.cells.items() if cell.mean is not None}
        if row.cost.train_seconds is not None:
            values["train_seconds"] = round(row.cost.train_seconds, 1)
        if not values:
            continue
        variants = tree.setdefault(row.method, {}).setdefault(row.recipe, {})
        variants.setdefault(row.variant, {})[table.plan.shown_benchmark(row.benchmark.benchmark)] = values
    return tree


def _outlets(table: Table) -> dict[Path, str]:
    """metrics.json and plots/{training,selection,scores}.csv of a study, and what is in them."""
    study = table.plan.study.study
    plots = {
        "training": training_rows(table),
        "selection": selection_rows(table),
        "scores": score_rows(table),
    }
    texts = {study_plot(study, name): csv_text(rows) for name, rows in plots.items()}
    return {study_metrics(study): json_text(metrics_tree(table)), **texts}


def write_outlets(table: Table) -> list[Path]:
    """Write the files of a study that other tools read."""
    texts = _outlets(table)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def check_outlets(table: Table) -> None:
    """Compare those files, where they are, with what the page is going to say.

    Raises:
        DamagedError: naming one that says something else.
    """
    for path, text in _outlets(table).items():
        if path.is_file() and path.read_bytes() != text.encode():
            raise damaged(path, "says something else than the results", made_with=study_metrics(table.plan.study.study))


def training_rows(table: Table) -> list[list[Any]]:
    """Loss and IoU of every training job, thinned out; header first."""
    rows: list[list[Any]] = [["run", "step", "loss", "iou"]]
    for stage in table.evidence.stages.values():
        loss, iou = stage.curves.get("train/loss"), stage.curves.get("train/iou")
        if loss is None:
            continue
        overlap = dict(zip(iou.steps, iou.values, strict=True)) if iou else {}
        node = stage.node
        name = f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}"
        stride = -(-len(loss.steps) // _TRAINING_POINTS)
        for step, value in list(zip(loss.steps, loss.values, strict=True))[::stride]:
            rows.append([name, step, f"{value:.5g}", _short(overlap.get(step))])
    return rows


def selection_rows(table: Table) -> list[list[Any]]:
    """Scores of every checkpoint on the selection split, in points; header first."""
    rows: list[list[Any]] = [["run", "step", "J&F-Mean", "selected", "last"]]
    for run in table.evidence.runs.values():
        for candidate in run.candidates:
            value = candidate.values.get("J&F-Mean")
            if value is not None:
                flags = (int(candidate.selected), int(candidate.last))
                rows.append([run.run.key, candidate.step, f"{100 * value:.3f}", *flags])
    return rows


def score_rows(table: Table) -> list[list[Any]]:
    """Ours and published, one row per metric that has a value; header first."""
    rows: list[list[Any]] = [["method", "recipe", "variant", "benchmark", "metric", "ours", "published", "verdict"]]
    for row in table.rows:
        for cell in row.cells.values():
            if cell.mean is None:
                continue
            paper = "" if cell.published is None else cell.published.value
            verdict = cell.verdict.kind if cell.verdict else ""
            name = table.plan.shown_benchmark(row.benchmark.benchmark)
            key = (row.method, row.recipe, row.variant, name, cell.metric)
            rows.append([*key, f"{cell.mean:.4f}", paper, verdict])
    return rows


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
