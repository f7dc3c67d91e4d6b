"""The figures of a paper, drawn by matplotlib from the data frames of `vosrepro.reporting.results`.

Each is a PDF, whose text stays text, and a PNG; equal results give equal bytes. Colors are never alone: methods
differ by their marker, lines by their dashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vosrepro.base.files import atomic
from vosrepro.reporting.results import DataFrame, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("plots.mplstyle")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", ":", "-.")
_SMOOTHING = 0.05  # share of a curve
#: (method, benchmark) -> (recipe, variant) of the row that stands for a method there.
Marked = Mapping[tuple[str, str], tuple[str, str]]


def draw_figures(results: Results, marked: Marked, folder: Path, *, note: str) -> list[Path]:
    """Write every figure that the results allow.

    Args:
        results: of one study.
        marked: the rows that are compared between methods.
        folder: for <figure>.pdf and <figure>.png.
        note: what each figure says of where its numbers come from, so that none is quoted without it.
    """
    save = partial(_save, note)
    scores = results.scores[results.scores["metric"] == "J&F-Mean"] if len(results.scores) else results.scores
    written: list[Path] = []
    for benchmark in scores["benchmark"].unique():
        own = {method: row for (method, name), row in marked.items() if name == benchmark}
        part = scores[scores["benchmark"] == benchmark]
        written += save(folder / f"speed-{benchmark}", speed, part, results.timing)
        written += save(folder / f"sequences-{benchmark}", differences, results.sequences, benchmark, own)
    for method in results.training["method"].unique():
        written += save(folder / f"training-{method}", curves, results.training, method)
    for method in results.selection["method"].unique():
        written += save(folder / f"selection-{method}", selection, results.selection, method)
    for method in scores["method"].unique():
        written += save(folder / f"ablation-{method}", ablation_bars, scores[scores["method"] == method])
    return written


def speed(axes: Axes, scores: DataFrame, timing: DataFrame) -> bool:
    """Accuracy against frames per second, one point a recipe and variant, the mean over seeds."""
    key = ["method", "recipe", "seed", "variant", "benchmark"]
    both = scores.merge(timing[[*key, "fps_amortised"]], on=key).dropna(subset=["fps_amortised"])
    if len(both) < 2:
        return False
    means = both.groupby(["method", "recipe", "variant"], sort=False)[["value", "fps_amortised"]].mean().reset_index()
    for number, (method, points) in enumerate(means.groupby("method", sort=False)):
        marker = _MARKERS[number % len(_MARKERS)]
        axes.scatter(points["fps_amortised"], points["value"], s=26, marker=marker, label=str(method), linewidths=0)
    axes.set(xscale="log", xlabel="frames per second (first frame included)", ylabel="J&F")
    axes.set_title(f"Speed and accuracy on {scores['benchmark'].iloc[0]}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return True


def differences(axes: Axes, sequences: DataFrame, benchmark: str, rows: Mapping[str, tuple[str, str]]) -> bool:
    """J&F of single videos, each method minus the mean of all of them on that video."""
    import pandas as pd

    found = {}
    for method, (recipe, variant) in rows.items():
        key = [method, recipe, variant, benchmark]
        own = sequences[(sequences[["method", "recipe", "variant", "benchmark"]] == key).all(axis=1)]
        values = own.groupby("sequence")["J&F-Mean"].mean()
        if len(values):
            found[method] = values
    if len(found) < 2:
        return False
    table = pd.DataFrame(found).dropna()
    table = table.sub(table.mean(axis=1), axis=0)
    for place, method in enumerate(table):
        axes.scatter(table[method], [place] * len(table), s=14, alpha=0.7, linewidths=0)
        axes.plot([table[method].mean()] * 2, [place - 0.3, place + 0.3], color="black")
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(table.columns)), labels=list(table.columns))
    axes.set(xlabel="J&F of a video, minus the mean of the methods on it", title=f"Single videos of {benchmark}")
    axes.invert_yaxis()
    return True


def curves(axes: Axes, training: DataFrame, method: str) -> bool:
    """Smoothed loss of every stage, the mean over seeds."""
    own = training[(training["method"] == method) & (training["quantity"] == "train/loss")]
    for number, ((recipe, stage), rows) in enumerate(own.groupby(["recipe", "stage"], sort=False)):
        line = rows.groupby("step")["value"].mean()
        line = line.ewm(span=max(1.0, len(line) * _SMOOTHING)).mean()
        axes.plot(line.index, line, _DASHES[number % len(_DASHES)], label=f"{recipe} / {stage}")
    axes.set(xlabel="step of the stage", ylabel="loss (smoothed)", title=f"Training of {method}")
    if own.size:
        axes.legend()
    return len(own) > 1


def selection(axes: Axes, table: DataFrame, method: str) -> bool:
    """Held-out score of every checkpoint; a ring marks the selected one."""
    own = table[table["method"] == method].dropna(subset=["J&F-Mean"])
    for number, ((recipe, seed), rows) in enumerate(own.groupby(["recipe", "seed"], sort=False)):
        rows = rows.sort_values("step")
        dashes = _DASHES[number % len(_DASHES)]
        (line,) = axes.plot(rows["step"], rows["J&F-Mean"], dashes, marker=".", label=f"{recipe}, seed {seed}")
        best = rows[rows["selected"]]
        axes.plot(best["step"], best["J&F-Mean"], "o", markersize=9, fillstyle="none", color=line.get_color())
    axes.set(xlabel="step of the last stage", ylabel="J&F on held-out videos", title=f"Checkpoints of {method}")
    if own.size:
        axes.legend()
    return len(own) > 1


def ablation_bars(axes: Axes, scores: DataFrame) -> bool:
    """Recipes and variants as bars, one group a benchmark; lines span the seeds."""
    table = scores.groupby(["recipe", "variant", "benchmark"], sort=False)["value"]
    names = list(dict.fromkeys(zip(scores["recipe"], scores["variant"], strict=True)))
    if len(names) < 2:
        return False
    benchmarks = list(scores["benchmark"].unique())
    means, low, high = (getattr(table, kind)() for kind in ("mean", "min", "max"))
    for number, benchmark in enumerate(benchmarks):
        keys = [(place, (*name, benchmark)) for place, name in enumerate(names) if (*name, benchmark) in means.index]
        at = [place + (number - (len(benchmarks) - 1) / 2) * 0.8 / len(benchmarks) for place, _ in keys]
        values = [means[key] for _, key in keys]
        reach = [[means[k] - low[k] for _, k in keys], [high[k] - means[k] for _, k in keys]]
        axes.barh(at, values, 0.8 / len(benchmarks), xerr=reach, label=benchmark, error_kw={"linewidth": 0.8})
    axes.set_yticks(range(len(names)), labels=[" / ".join(name) for name in names])
    axes.set(xlabel="J&F", title=f"Recipes and variants of {scores['method'].iloc[0]}")
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return True


def _save(note: str, stem: Path, plot: Callable[..., bool], *data: Any) -> list[Path]:
    """<stem>.pdf and <stem>.png of what a function draws; none if it says that there is nothing to see."""
    with _figure() as figure:
        axes = figure.subplots()
        if not plot(axes, *data):
            return []
        axes.set_title(note, loc="right", fontsize=6, color="0.35")
        written = []
        for ending, metadata in ((".pdf", {"CreationDate": None, "Producer": None}), (".png", {"Software": None})):
            path = stem.with_name(stem.name + ending)
            with atomic(path) as temporary:
                figure.savefig(temporary, format=ending[1:], metadata=metadata)
            written.append(path)
    return written


@contextmanager
def _figure() -> Iterator[Figure]:
    """A figure in our style that needs no display and leaves matplotlib's settings as they were."""
    import matplotlib
    from matplotlib.figure import Figure

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph
    with matplotlib.rc_context(fname=str(STYLE)):
        yield Figure()
