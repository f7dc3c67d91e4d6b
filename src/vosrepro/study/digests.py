"""What a result depends on, as digests: one identity each for a stage, a selection, an entry, a score and a clip.

Rules of the workflow, states of jobs, records and `vosrepro segment` all take theirs from here; nowhere else is one
composed. Presentation (titles, margins, notes, how often is logged) is part of none. What is known before a job
runs is what a rule is asked for (`asked_*`); what the job finds (data, weights) is joined to it while it runs.
Training keeps the code with which it began: a person raises a stage's `revision` to train it anew. All others
hold the digest of the code that makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vosrepro.base.extensions import method_module
from vosrepro.base.files import value_digest
from vosrepro.study.code import code_digest

if TYPE_CHECKING:
    from vosrepro.study.params import BenchmarkParams, DataParams, MethodParams, SelectionParams, StageParams
    from vosrepro.study.plan import Entry, Plan, Run, StageNode
    from vosrepro.study.records import DataManifest

#: The modules that make a kind of result; a method's own are added where weights run.
MAKERS: Mapping[str, tuple[str, ...]] = {
    "data": ("vosrepro.datasets.prepare.verification", "vosrepro.datasets.generated"),
    "resize": ("vosrepro.datasets.sets.resized", "vosrepro.inference.persons"),
    "import": ("vosrepro.weights.importing",),
    "train": ("vosrepro.training.loop",),
    "select": ("vosrepro.inference.select",),
    "masks": ("vosrepro.inference.videos",),
    "taken": ("vosrepro.inference.taken",),
    "classes": ("vosrepro.inference.classify",),
    "scorer": ("vosrepro.scoring.scorer",),
    "score": ("vosrepro.scoring.entries",),
    "report": ("vosrepro.reporting.pages.pages",),
    "clip": ("vosrepro.inference.own.segment",),
}
#: Keys of a stage that change how it is watched, not what it learns.
_WATCHING = {"title", "log_every_steps", "loader_workers", "state_every_steps"}
#: Keys of a benchmark that say how results are scored and shown, not how they are made.
_JUDGING = {
    "title",
    "version",
    "scoring",
    "beside",
    "extent",
    "primary_metrics",
    "margin_points",
    "margin_points_on_the_way",
}


def code_of(kind: str, method: str = "") -> str:
    """Digest of the code that makes a kind of result with a method; see `vosrepro.study.code`."""
    return code_digest(*MAKERS[kind], *([method_module(method)] if method else []))


def data_digest(manifest: DataManifest, parts: Iterable[str]) -> str:
    """Digest of those parts of the data that a job reads.

    Args:
        manifest: results/<study>/data.json.
        parts: names of `vosrepro.datasets.prepare.verification.PARTS`; of one that the manifest lacks, all count.
    """
    known = manifest.parts
    names = sorted(set(parts))
    if not all(name in known for name in names):
        return manifest.digest
    return value_digest({name: known[name]["digest"] for name in names})


# ------------------------------------------------------------------------------------------ training


def asked_stage(
    key: tuple[str, int, str],
    params: StageParams,
    model: Mapping[str, Any],
    data: DataParams,
    held_out: Iterable[str],
    parent: str | None,
) -> str:
    """What a stage is asked to learn, with all stages before it.

    Args:
        key: method, seed and name of the stage.
        params: the stage.
        model: all arguments of its network.
        data: which sets keep a list of their videos, and the seed of generated ones.
        held_out: sequences that it leaves out.
        parent: this digest of the stage that it starts from.
    """
    used = {source.set for source in params.data}
    return value_digest(
        {
            "stage": key,
            "params": params.model_dump(mode="json", exclude=_WATCHING),
            "model": dict(model),
            "lists": {name: file for name, file in data.lists.items() if name in used},
            "generated": data.seed if data.generated else None,
            "held_out": sorted(held_out),
            "parent": parent,
        }
    )


def stage_identity(node: StageNode, data: str, parent: str | None) -> str:
    """What a stage's weights depend on: what is asked, the data that it reads, and the weights that it starts from.

    Args:
        node: the stage.
        data: of `data_digest`.
        parent: SHA-256 of the weights file that it starts from.
    """
    return value_digest([node.digest, data, parent])


# ---------------------------------------------------------------------------- selection and inference


def asked_selection(run: Run, selection: SelectionParams) -> str:
    """What the selection of a run's checkpoint depends on, apart from weights and data."""
    how = [dict(run.default_variant_params), run.size.input_short_side_px, dict(run.model)]
    how += [run.params.weights, run.params.selection, run.candidate_steps]
    return value_digest([selection.model_dump(mode="json"), how, run.seed, code_of("select", run.method)])


def selection_identity(run: Run, selection: SelectionParams, candidates: Iterable[str], data: str) -> str:
    """What a selection depends on.

    Args:
        run: the run.
        selection: of the study.
        candidates: SHA-256 of the weights to choose from, in order.
        data: of `data_digest`, of the held-out sequences' set.
    """
    return value_digest([asked_selection(run, selection), list(candidates), data])


def asked_entry(entry: Entry) -> str:
    """What an entry's masks or classes depend on, apart from weights and data."""
    benchmark, run = entry.benchmark_params, entry.run
    how = [benchmark.model_dump(mode="json", exclude=_JUDGING), entry.input_short_side_px]
    if run.params.weights == "masks":
        code = code_of("taken")
    else:
        code = code_of("classes" if benchmark.classifies else "masks", run.method)
    return value_digest([entry.key, dict(entry.variant_params), dict(run.model), how, entry.crop_px, code])


def entry_identity(entry: Entry, weights: str | None, data: str) -> str:
    """What an entry's masks or classes depend on.

    Args:
        entry: the entry.
        weights: SHA-256 of the weights file, or digest of the masks that are taken; None for a method without either.
        data: of `data_digest`, of the benchmark's part.
    """
    return value_digest([asked_entry(entry), weights, data])


def asked_inference(entries: Iterable[Entry]) -> str:
    """What the inference of a run depends on, apart from weights and data: its entries."""
    return value_digest([asked_entry(entry) for entry in entries])


def asked_import(recipe: Any, model: Mapping[str, Any], method: str) -> str:
    """What the import of released weights depends on, apart from the file."""
    return value_digest([recipe.model_dump(mode="json", exclude={"title"}), dict(model), code_of("import", method)])


def clip_request(  # noqa: PLR0913, options by name
    *,
    frames: Any,
    masks: Mapping[str, str],
    method: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    short_side_px: int | None,
    weights: str | None,
    precision: str = "fp32",
) -> str:
    """What a person asks for when a clip of their own is segmented, whichever code does it.

    Args:
        frames: digest of the video file, or names and digests of the images.
        masks: frame -> digest of the given mask.
        method: its name.
        model: all arguments of the network.
        settings: arguments of the segmenter.
        short_side_px: the size at which it runs; None: the clip's.
        weights: SHA-256 of the weights file.
        precision: in which the masks are made, never "auto".
    """
    asked = [frames, dict(masks), method, dict(model), dict(settings), short_side_px, weights]
    return value_digest(asked if precision == "fp32" else [*asked, precision])


def clip_identity(request: str, method: str) -> str:
    """What the masks of a person's own clip depend on: what was asked for, and the code that does it."""
    return value_digest([request, code_of("clip", method)])


# -------------------------------------------------------------------------- data, scores and the report


def asked_data(data: DataParams) -> str:
    """What the data manifest depends on, apart from the files."""
    return value_digest([data.model_dump(mode="json"), code_of("data")])


def resized_copies(benchmark: BenchmarkParams, data: DataParams) -> str:
    """Name of the folder of a benchmark's scaled copies: what they depend on, apart from the files."""
    asked = [data.model_dump(mode="json"), benchmark.dataset, benchmark.split, benchmark.fit_px]
    return f"{benchmark.benchmark}-{value_digest([asked, code_of('resize')])}"


def asked_scores(entries: Iterable[Entry]) -> str:
    """What the scores of a run depend on, apart from masks and ground truth."""
    asked = [
        [e.key, b.dataset, b.split, b.scoring, b.version, b.beside and b.beside.model_dump(mode="json")]
        for e in entries
        for b in [e.benchmark_params]
    ]
    return value_digest([asked, code_of("score")])


def asked_report(plan: Plan, texts: Mapping[str, str]) -> str:
    """What the pages depend on, apart from the records.

    Args:
        plan: the study, with its titles.
        texts: digests of the templates, cards and tables that the pages show.
    """
    trained = {method: code_of("train", method) for method in sorted({node.method for node in plan.stages})}
    benchmarks = {name: b.model_dump(mode="json") for name, b in sorted(plan.benchmarks.items())}
    methods = {name: _shown(m) for name, m in sorted(plan.methods.items())}
    study = plan.study.model_dump(mode="json")
    return value_digest([study, benchmarks, methods, dict(texts), trained, code_of("report")])


def code_record(plan: Plan) -> dict[str, Any]:
    """The digests of all code that a study's results depend on: what DVC tracks instead of folders of source."""
    methods = sorted({run.method for run in plan.runs if run.params.weights != "masks"})
    runs = {kind: {m: code_of(kind, m) for m in methods} for kind in ("train", "select", "masks", "classes")}
    kinds = ["data", "resize", "score", "report"]
    kinds += ["taken"] if any(run.params.weights == "masks" for run in plan.runs) else []
    return {**runs, **{kind: code_of(kind) for kind in kinds}}


def _shown(method: MethodParams) -> dict[str, Any]:
    return {
        "title": method.title,
        "sizes": {name: {recipe: r.title for recipe, r in size.recipes.items()} for name, size in method.sizes.items()},
    }
