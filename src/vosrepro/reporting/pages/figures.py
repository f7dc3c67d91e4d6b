"""Which charts the pages show, built from the table and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vosrepro.reporting.evidence.checks import is_last_of_chain
from vosrepro.reporting.evidence.evidence import Evidence, RunEvidence
from vosrepro.reporting.evidence.table import Table
from vosrepro.reporting.pages.charts import Axis, Mark, Series, line_chart, moving_average, scatter
from vosrepro.study.plan import Run


@dataclass(frozen=True)
class Figure:
    """A chart, what it shows, and its legend as (color class number, name)."""

    svg: Markup
    caption: str
    legend: tuple[tuple[int, str], ...] = ()


def speed_accuracy(table: Table, benchmark: str) -> Figure | None:
    """Headline score against frames (single images) per second, one point a row, with 95 % intervals."""
    colors = {name: i % 8 for i, name in enumerate(table.plan.methods)}
    marks = []
    for row in table.on(benchmark):
        rate, score = row.cells["FPS"].mean, row.headline.mean
        if not rate or score is None:
            continue
        interval = row.headline.over_sequences
        untrained = row.entries[0].entry.run.params.weights == "random"
        label = row.method if row.recipe == "none" else f"{row.recipe}/{row.variant}"
        marks.append(
            Mark(
                rate,
                score,
                label,
                colors[row.method],
                hollow=untrained,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
            )
        )
    if len(marks) < 2:
        return None
    params = table.plan.benchmarks[benchmark]
    title, unit = params.title, "images" if params.classifies else "frames"
    heights = [v for m in marks for v in (m.y, m.low, m.high) if v is not None]
    x = Axis.around([m.x for m in marks], f"{unit} per second (log scale)", log=True, pad=0.2)
    metric = table.on(benchmark)[0].headline.metric
    y = Axis.around(heights, {"J&F-Mean": "J&F", "Top1": "top-1, %"}.get(metric, "score"))
    present = dict.fromkeys(r.method for r in table.on(benchmark))
    svg = scatter(marks, title=f"Speed and accuracy on {title}", x=x, y=y)
    return Figure(svg, title, tuple((colors[m], m) for m in present))


def training_figures(table: Table, method: str) -> list[Figure]:
    """Loss and IoU along the whole chain of every finished recipe, one line a seed."""
    plan = table.plan
    chains: dict[str, list[Run]] = {}
    for run in plan.runs:
        if run.method == method and run.stages and is_last_of_chain(run, plan.runs):
            chains.setdefault(run.recipe, []).append(run)
    figures = []
    for recipe, runs in chains.items():
        for quantity, name in (("train/loss", "loss"), ("train/iou", "IoU")):
            figure = _chain_figure(table.evidence, recipe, runs, quantity, name)
            if figure:
                figures.append(figure)
    return figures


def accuracy_figures(table: Table, method: str) -> list[Figure]:
    """Top-1 and top-5 accuracy of every stage that validates a classifier, with the drops of its rate."""
    figures = []
    for stage in table.evidence.stages.values():
        top1, top5 = (stage.curves.get(name) for name in ("val/top1", "val/top5"))
        if stage.node.method != method or top1 is None or len(top1.steps) < 2:
            continue
        node, series = stage.node, [Series("top-1", top1.steps, top1.values, 0, dots=True)]
        if top5 is not None:
            series.append(Series("top-5", top5.steps, top5.values, 1, dots=True))
        factor = node.params.optimizer.lr_drop_factor
        svg = line_chart(
            series,
            title=f"validation accuracy while training {node.recipe}/{node.stage}",
            x=Axis(0, node.params.steps, "training step"),
            y=Axis(0, 100, "accuracy, %"),
            boundaries=[(s, f"rate x {factor:g}") for s in node.params.optimizer.lr_drop_steps],
        )
        caption = f"{node.recipe}/{node.stage}, seed {node.seed}: classification"
        figures.append(Figure(svg, caption, ((0, "top-1"), (1, "top-5"))))
    return figures


def selection_figure(evidence: RunEvidence, metric: str) -> Figure | None:
    """Score of every checkpoint on the held-out sequences; the chosen and the last one marked."""
    points = [(c.step, 100 * c.values[metric]) for c in evidence.candidates if metric in c.values]
    if len(points) < 2:
        return None
    xs, ys = zip(*points, strict=True)
    marks = []
    for candidate in evidence.candidates:
        value = 100 * candidate.values.get(metric, float("nan"))
        if candidate.selected:
            label = f"selected and last {value:.1f}" if candidate.last else f"selected {value:.1f}"
            marks.append(Mark(candidate.step, value, label, 1))
        elif candidate.last:
            marks.append(Mark(candidate.step, value, f"last {value:.1f}", 0, hollow=True))
    run = evidence.run
    svg = line_chart(
        [Series(run.key, xs, ys, dots=True)],
        title=f"Checkpoints of {run.key} on the selection split",
        x=Axis.around(xs, "step of the last stage", pad=0.04),
        y=Axis.around(ys, f"{metric} (held out)", pad=0.25),
        marks=marks,
    )
    return Figure(svg, f"{run.recipe}, seed {run.seed}")


def _chain_figure(evidence: Evidence, recipe: str, runs: Sequence[Run], quantity: str, name: str) -> Figure | None:
    series: list[Series] = []
    edges: list[tuple[float, str]] = []
    for number, run in enumerate(runs):
        offset = 0
        for stage in evidence.stages_of(run):
            if number == 0:
                edges.append((offset, stage.node.stage))
            curve = stage.curves.get(quantity)
            if curve:
                steps = [offset + s for s in curve.steps]
                color, seed = number % 8, f"seed {run.seed}"
                series.append(Series(seed, steps, curve.values, color, faint=True))
                span = max(1, len(steps) // 20)
                series.append(Series(seed, steps, moving_average(curve.values, span), color))
            offset += stage.node.params.steps
    if not series:
        return None
    length = sum(node.params.steps for node in runs[0].stages)
    values = sorted(v for s in series for v in s.y)
    ceiling = values[min(len(values) - 1, int(0.995 * len(values)))]
    x = Axis(0, length, "training step, all stages")
    y = Axis.around([values[0], ceiling], name, pad=0.05)
    svg = line_chart(series, title=f"{name} while training {recipe}", x=x, y=y, boundaries=edges)
    legend = tuple((i % 8, f"seed {r.seed}") for i, r in enumerate(runs)) if len(runs) > 1 else ()
    return Figure(svg, f"{recipe}: {name}", legend)
