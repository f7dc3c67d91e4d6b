"""Rendering the pages: reports/all.html and one page per method."""

from __future__ import annotations

import logging
from functools import cache, partial
from pathlib import Path
from typing import Any

from vosrepro.base.files import write_json, write_text
from vosrepro.base.units import size
from vosrepro.reporting.compare import Difference, StudyComparison
from vosrepro.reporting.correspondences import load_pairs, load_parts
from vosrepro.reporting.evidence.candidates import choices
from vosrepro.reporting.evidence.checks import make_checks
from vosrepro.reporting.evidence.claims import claims, counted, statement
from vosrepro.reporting.evidence.deviations import FULL_SIZE
from vosrepro.reporting.evidence.evidence import collect
from vosrepro.reporting.evidence.spending import spending
from vosrepro.reporting.evidence.summary import environment, proved, published_sentence, study_verdict
from vosrepro.reporting.evidence.table import Row, Table, build_table, metrics_of
from vosrepro.reporting.evidence.verdicts import LABELS, MEANINGS
from vosrepro.reporting.pages import figures, formats
from vosrepro.reporting.pages.ablation import ablation_table
from vosrepro.reporting.pages.cards import load_card
from vosrepro.reporting.pages.charts import dot_strip
from vosrepro.reporting.pages.comparisons import compare_systems, primary_row, worst_sequences
from vosrepro.reporting.pages.filmstrip import filmstrip
from vosrepro.reporting.pages.outlets import check_outlets, metrics_tree, write_outlets
from vosrepro.reporting.pages.per_sequence import beside_published, single_changes
from vosrepro.reporting.pages.picture import legend, picture
from vosrepro.reporting.pages.provenance import command_of, summaries, trails
from vosrepro.reporting.pages.viewer import Viewer, ViewerMaker
from vosrepro.study.paths import REPORTS, study_metrics
from vosrepro.study.plan import Plan
from vosrepro.study.published import load_published, load_published_frames, load_published_masks
from vosrepro.study.training_table import Compared, compare_training

log = logging.getLogger(__name__)
_PUBLISHED = Path("params/published.csv")
_PUBLISHED_MASKS = Path("params/published_sequences.csv")
_PUBLISHED_FRAMES = Path("params/published_frames.csv")


def render_pages(
    plan: Plan,
    out: Path | str = REPORTS,
    *,
    partial: bool = False,
    outlets: bool = True,
) -> list[Path]:
    """Write all.html, the pages of the methods and their correspondences, metrics.json and plots/*.csv.

    What is missing becomes a row "not run"; equal artifacts give equal bytes.

    Args:
        plan: the study; its relative paths are taken from the working directory.
        out: folder of the pages.
        partial: write partial.html and <study>-partial/ instead, and no metrics: for a look while
            the workflow runs.
        outlets: whether to write metrics and plots too; else those that are there must say the same.

    Returns:
        The files written, all.html first.

    Raises:
        ConfigError: if params/published.csv or the expected results are malformed.
        DamagedError: if metrics or plots say something else than the results.
    """
    table = load_table(plan)
    if not (outlets or partial):
        check_outlets(table)
    out = Path(out)
    name = "partial" if partial else "all"
    study = plan.study.study
    folder = f"{study}-partial" if partial else study
    pages = {out / f"{name}.html": _overview(table, folder)}
    viewers = ViewerMaker(table)
    for method in plan.methods:
        pairs = load_pairs(next(filter(None, _primary_rows(table, method)), None))
        page = _method_page(table, method, viewers.make(method), pairs, back=f"../{name}.html")
        pages[out / folder / f"{method}.html"] = page
        if pairs:
            page = _template("correspondences.html").render(
                plan=plan, method=plan.methods[method], pairs=pairs, back=f"{method}.html"
            )
            pages[out / folder / f"{method}-correspondences.html"] = page
    for path, text in pages.items():
        write_text(path, text)
        log.info("%s: %s", path, size(len(text.encode())))
    return [*pages, *(write_outlets(table) if outlets and not partial else [])]


def comparison_page(found: StudyComparison) -> str:
    """Two results side by side, as a page."""

    def strip(row: Difference) -> Any:
        low, high = row.paired.interval_95.low, row.paired.interval_95.high
        title = f"{found.second} minus {found.first}, {row.name}, by video"
        return dot_strip(row.paired.by_sequence, title=title, interval=(low, high), mean=row.paired.mean)

    return _template("comparison.html").render(found=found, strip=strip)


def metrics(plan: Plan) -> dict[str, Any]:
    """{method: {recipe: {variant: {benchmark: {metric: value}}}}}, also written to metrics.json."""
    tree = metrics_tree(load_table(plan))
    write_json(study_metrics(plan.study.study), tree)
    return tree


def load_table(plan: Plan) -> Table:
    """Read all artifacts of a study and build the table that everything is rendered from."""
    published = load_published(_PUBLISHED) if _PUBLISHED.is_file() else {}
    masks = load_published_masks(_PUBLISHED_MASKS) if _PUBLISHED_MASKS.is_file() else ()
    frames = load_published_frames(_PUBLISHED_FRAMES) if _PUBLISHED_FRAMES.is_file() else {}
    return build_table(collect(plan), published, masks, frames)


def _overview(table: Table, folder: str) -> str:
    plan = table.plan
    checks = make_checks(table)
    groups = {g: [c for c in checks if c.group == g] for g in dict.fromkeys(c.group for c in checks)}
    charts = {name: figures.speed_accuracy(table, name) for name in plan.benchmarks}
    found = claims(table)
    return _template("all.html").render(
        plan=plan,
        study=plan.study,
        table=table,
        folder=folder,
        statement=statement(table),
        published=found,
        counts=counted(found),
        marked=picture(table),
        every=picture(table, every=True),
        film=filmstrip(table),
        bill=spending(table.evidence),
        trails={row.key: summaries(table.evidence, row) for row in table.rows},
        command=partial(command_of, plan),
        verdict=study_verdict(table, checks),
        check_groups=groups,
        failed_checks=[c for c in checks if c.passed is False],
        environment=environment(table.evidence),
        metrics_of=metrics_of,
        charts={k: v for k, v in charts.items() if v},
        problems=_problems(table),
        warnings=_warnings(table),
    )


def _primary_rows(table: Table, method: str) -> list[Row | None]:
    return [primary_row(table, method, benchmark) for benchmark in table.plan.benchmarks]


def _method_page(table: Table, method: str, viewer: Viewer | None, pairs: dict[str, Any] | None, *, back: str) -> str:
    plan = table.plan
    rows = table.of(method)
    metric = plan.study.selection.metric
    runs = [r for r in table.evidence.runs.values() if r.run.method == method and r.run.selected_weights]
    return _template("method.html").render(
        plan=plan,
        study=plan.study,
        table=table,
        method=plan.methods[method],
        back=back,
        rows=rows,
        card=load_card(method),
        verdict=" ".join(filter(None, (published_sentence(rows), proved(rows)))),
        ablation=ablation_table(table, method),
        viewer=viewer,
        pairs=pairs,
        tracked=load_parts(next(filter(None, _primary_rows(table, method)), None)),
        shown=_shown_in_viewer(viewer),
        details=_details(table, method),
        changes=single_changes(table, method),
        beside=beside_published(table, method),
        training=[
            *figures.accuracy_figures(table, method),
            *figures.training_figures(table, method),
        ],
        published_training=_published_training(plan, method),
        choices=[choice for r in runs for choice in choices(r, metric)],
        selection=[(r, figures.selection_figure(r, metric)) for r in runs],
        trails={row.anchor: trails(table.evidence, row) for row in rows},
        environment=environment(table.evidence),
        metrics_of=metrics_of,
    )


def _published_training(plan: Plan, method: str) -> dict[str, tuple[Compared, ...]]:
    """Of each recipe of a full-size study, its parameters beside the published ones."""
    if plan.study.size != FULL_SIZE:
        return {}
    runs = {run.recipe: run for run in plan.runs if run.method == method}
    found = {recipe: compare_training(plan.study, run) for recipe, run in runs.items()}
    return {recipe: lines for recipe, lines in found.items() if lines}


def _details(table: Table, method: str) -> list[dict[str, Any]]:
    """Per benchmark: the method's primary row, its paired comparisons, its sequences."""
    found = []
    for benchmark in table.plan.benchmarks:
        row = primary_row(table, method, benchmark)
        sequences = worst_sequences(table, row) if row else ()
        if row and sequences:
            found.append({"row": row, "comparisons": compare_systems(table, row), "sequences": sequences})
    return found


def _shown_in_viewer(viewer: Viewer | None) -> dict[tuple[str, str], str]:
    """(benchmark, sequence) -> the viewer's name for it."""
    benchmarks = viewer.data.get("benchmarks", []) if viewer else []
    return {(b["id"], s["name"]): f"{i}/{j}" for i, b in enumerate(benchmarks) for j, s in enumerate(b["sequences"])}


def _problems(table: Table) -> list[str]:
    evidence = table.evidence
    parts = [
        evidence,
        *evidence.entries.values(),
        *evidence.stages.values(),
        *evidence.runs.values(),
    ]
    return [p for part in parts for p in part.problems]


def _warnings(table: Table) -> list[str]:
    """What the scorer warned of, once each with the entries it concerns."""
    found: dict[str, list[str]] = {}
    for key, item in table.evidence.entries.items():
        for text in item.warnings:
            found.setdefault(text, []).append(key)
    return [f"{text} ({', '.join(keys)})" for text, keys in found.items()]


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formats.FILTERS)
    environment.globals.update(LABELS=LABELS, MEANINGS=MEANINGS, legend=legend)
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
