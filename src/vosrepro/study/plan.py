"""From a study to its jobs: runs, stages, entries, their parameters, digests and files.

The Snakefile, the command line and the report all ask this module, so a digest is spelled in one place, as
paths are in `vosrepro.study.paths`. A stage that two recipes begin with (same parameters all the way up) is
trained once: it belongs to the first recipe that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError, pick
from vosrepro.study import paths
from vosrepro.study.digests import asked_stage
from vosrepro.study.params import (
    BenchmarkParams,
    MethodParams,
    MethodSize,
    Only,
    RecipeParams,
    StageParams,
    Study,
    load_benchmark,
    load_method,
    load_study,
)


@dataclass(frozen=True)
class StageNode:
    """One training job.

    Attributes:
        recipe: the recipe that owns the stage, see the module's docstring.
        model: resolved constructor arguments of the network in this stage.
        digest: changes whenever this stage or one before it must be trained anew.
        parent: the stage whose last checkpoint this one starts from.
        held_out: sequences that it must not train on, for checkpoints are selected on them.
    """

    study: str
    method: str
    recipe: str
    seed: int
    stage: str
    params: StageParams
    model: Mapping[str, Any]
    digest: str
    parent: StageNode | None
    held_out: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where declared outputs lie."""
        return paths.run_folder(self.study, self.method, self.recipe, self.seed) / self.stage

    @property
    def record(self) -> Path:
        """What the finished job says of itself; written last."""
        return self.folder / paths.STAGE_RECORD

    @property
    def metrics(self) -> Path:
        """The finished journal."""
        return self.folder / paths.STAGE_METRICS

    @property
    def last_weights(self) -> Path:
        """Weights after the last step."""
        return self.weights(self.params.steps)

    def weights(self, step: int) -> Path:
        """Weights after a step."""
        return paths.checkpoint(self.folder, step)

    @property
    def journal(self) -> Path:
        """The live journal (outside declared outputs, so that it survives a failed job)."""
        return paths.journal(self.study, self.method, self.recipe, self.seed, self.stage)


@dataclass(frozen=True)
class Run:
    """One method / recipe / seed: the parent run of the tracker."""

    study: str
    method: str
    recipe: str
    seed: int
    params: RecipeParams
    size: MethodSize
    stages: tuple[StageNode, ...]
    method_params: MethodParams

    @property
    def key(self) -> str:
        """Name of the run: method/recipe/seed<k>."""
        return f"{self.method}/{self.recipe}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where selection, masks and scores lie."""
        return paths.run_folder(self.study, self.method, self.recipe, self.seed)

    @property
    def selected_weights(self) -> Path | None:
        """What inference loads; None for a method without weights, and where masks are taken as they are."""
        return None if self.params.weights in ("none", "masks") else self.folder / paths.SELECTED_WEIGHTS

    @property
    def selection(self) -> Path:
        """Which checkpoint was selected, and why."""
        return self.folder / paths.SELECTION_RECORD

    @property
    def candidates(self) -> Path:
        """The scores of every checkpoint on the selection split."""
        return self.folder / paths.SELECTION_TABLE

    @property
    def inference(self) -> Path:
        """What inference made of every entry; written last."""
        return self.folder / paths.RUN_INFERENCE

    @property
    def scores(self) -> Path:
        """The scores of every entry; written last."""
        return self.folder / paths.RUN_SCORES

    @property
    def correspondences(self) -> Path:
        """Folder of the pairs of frames that the page of correspondences shows."""
        return self.folder / "correspondences"

    @property
    def pairs(self) -> Path:
        """Those pairs; written after their images."""
        return self.correspondences / paths.PAIRS_RECORD

    @property
    def parts_animation(self) -> Path:
        """Tracked parts of one video."""
        return self.folder / "parts.gif"

    @property
    def candidate_steps(self) -> tuple[int, ...]:
        """Steps of the last stage whose weights compete; one where the recipe takes the last, none without stages."""
        if not self.stages:
            return ()
        steps = self.stages[-1].params.checkpoint_steps()
        return steps if self.params.selection == "held-out" else steps[-1:]

    @property
    def default_variant_params(self) -> Mapping[str, Any]:
        """Inference settings with which checkpoints are selected."""
        return variant_settings(self.method_params, self.size, self.selection_variant)

    @property
    def selection_variant(self) -> str:
        """Name of the variant with which checkpoints are selected."""
        return self.params.selection_variant or self.method_params.default_variant

    @property
    def model(self) -> Mapping[str, Any]:
        """Constructor arguments of the network at inference."""
        return self.size.model_of(self.params)

    def journal(self, kind: str) -> Path:
        """Journal of a job of this run: "select", "infer" or "score"."""
        return paths.journal(self.study, self.method, self.recipe, self.seed, kind)


@dataclass(frozen=True)
class Entry:
    """One cell of the report."""

    run: Run
    variant: str
    benchmark: str
    variant_params: Mapping[str, Any]
    benchmark_params: BenchmarkParams

    @property
    def key(self) -> str:
        """Name of the entry: method/recipe/seed<k>/variant/benchmark."""
        return f"{self.run.key}/{self.variant}/{self.benchmark}"

    @property
    def published_name(self) -> tuple[str, str, str, str]:
        """Method, recipe, variant and benchmark of the published numbers that this entry is compared with."""
        recipe = self.run.params.published_as or self.run.recipe
        return (self.run.method, recipe, self.variant, self.benchmark)

    @property
    def submission(self) -> Path:
        """The zip for the challenge server, for benchmarks that only a server scores."""
        run = self.run
        return paths.submission(run.study, run.method, run.recipe, run.seed, self.variant, self.benchmark)

    @property
    def server_scores(self) -> Path:
        """What the challenge server answered, as `vosrepro submit record` wrote it."""
        return self.submission.with_suffix(".scores.json")

    @property
    def margin_points(self) -> Mapping[str, float]:
        """Equivalence margins; those of weights from the middle of a training may be wider."""
        benchmark = self.benchmark_params
        on_the_way = benchmark.margin_points_on_the_way if "checkpoint" in self.variant_params else {}
        return {**benchmark.margin_points, **on_the_way}

    @property
    def input_short_side_px(self) -> int | None:
        """Short side at which the method runs; None: the size of the files."""
        return self.run.size.input_short_side_px

    @property
    def crop_px(self) -> int | None:
        """Side of the central crop of a benchmark of single images; None: videos."""
        if not self.benchmark_params.classifies:
            return None
        return self.run.size.crop_px or self.benchmark_params.crop_px

    @property
    def folder(self) -> Path:
        """Where masks, timing, counts and scores lie."""
        return self.run.folder / self.variant / self.benchmark

    @property
    def masks(self) -> Path:
        """A folder for each video."""
        return self.folder / "masks"

    @property
    def mask_digests(self) -> Path:
        """A digest of each mask; see `vosrepro.base.fingerprints`."""
        return self.folder / paths.ENTRY_MASK_DIGESTS

    @property
    def predictions(self) -> Path:
        """The classes of single images."""
        return self.folder / "predictions.csv"

    @property
    def inference(self) -> Path:
        """How the entry was inferred; written after masks or predictions."""
        return self.folder / paths.ENTRY_INFERENCE

    @property
    def score(self) -> Path:
        """What the entry scored; written after its tables."""
        return self.folder / paths.ENTRY_SCORE

    @property
    def score_table(self) -> Path:
        """The scores of each object, or of each class of single images."""
        return self.folder / paths.ENTRY_TABLE


@dataclass(frozen=True)
class Plan:
    """All jobs of a study."""

    study: Study
    methods: Mapping[str, MethodParams]
    benchmarks: Mapping[str, BenchmarkParams]
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]

    @property
    def results(self) -> Path:
        """results/<study>."""
        return paths.study_folder(self.study.study)

    @property
    def data_manifest(self) -> Path:
        """What the study's data consists of."""
        return paths.data_manifest(self.study.study)

    @cached_property
    def stages(self) -> tuple[StageNode, ...]:
        """Every stage to train, once each."""
        found = {node.folder: node for run in self.runs for node in run.stages}
        return tuple(found.values())

    def shown_benchmark(self, name: str) -> str:
        """A benchmark's name where it stands without its title, as in the names of metrics."""
        return f"generated-{name}" if self.study.data.generated else name

    def run(self, method: str, recipe: str, seed: int | str) -> Run:
        """The run of this name.

        Raises:
            ConfigError: if the study has no such run.
        """
        key = f"{method}/{recipe}/seed{seed}"
        return pick({r.key: r for r in self.runs}, key, what="run", where=self.study.study)

    def stage(self, method: str, recipe: str, seed: int | str, stage: str) -> StageNode:
        """The training job of this name, by its owning recipe."""
        nodes = {f"{n.method}/{n.recipe}/seed{n.seed}/{n.stage}": n for n in self.stages}
        key = f"{method}/{recipe}/seed{seed}/{stage}"
        return pick(nodes, key, what="training stage", where=self.study.study)

    def entries_of(self, run: Run) -> tuple[Entry, ...]:
        """The entries that one run's weights fill."""
        return tuple(e for e in self.entries if e.run.key == run.key)

    def video_entries_of(self, run: Run) -> tuple[Entry, ...]:
        """Those of them that segment videos."""
        return tuple(e for e in self.entries_of(run) if not e.benchmark_params.classifies)


def load_plan(study: Path | str | Study, *, root: Path | str = "params") -> Plan:
    """Expand a study.

    Raises:
        ConfigError: if anything that the study names does not exist.
    """
    if not isinstance(study, Study):
        study = load_study(study)
    where = f"study '{study.study}'"
    methods: dict[str, MethodParams] = {}
    benchmarks: dict[str, BenchmarkParams] = {}
    runs: dict[str, Run] = {}
    entries: dict[str, Entry] = {}
    owners: dict[str, StageNode] = {}
    for group in study.entries:
        if group.method not in methods:
            methods[group.method] = load_method(group.method, root=root)
        method = methods[group.method]
        size = pick(method.sizes, study.size, what="size", where=f"method '{group.method}'")
        for recipe_name in group.recipes:
            recipe = pick(size.recipes, recipe_name, what="recipe", where=f"{where}, {group.method}")
            for seed in group.seeds or study.seeds:
                run = _run(study, method, recipe_name, recipe, size, seed, owners)
                run = runs.setdefault(run.key, run)
                for variant in group.variants:
                    settings = variant_settings(method, size, variant)
                    if recipe.weights == "imported" and method.random_inference:  # a seed is one more repetition
                        settings |= {"seed": settings.get("seed", 0) + seed} if seed else {}
                    for name in group.benchmarks:
                        if name not in benchmarks:
                            benchmarks[name] = _benchmark(study, name, root)
                        entry = Entry(run, variant, name, settings, benchmarks[name])
                        if entry.key in entries:
                            raise ConfigError(f"{where} lists the entry {entry.key} twice")
                        entries[entry.key] = entry
    # Filtered at the end, so that a part of a study keeps the folders of the whole.
    kept = [entry for entry in entries.values() if _wanted(entry, study.only)]
    if not kept:
        raise ConfigError(f"{where} has no entry left: key 'only' names nothing that it lists")
    return Plan(
        study,
        {name: m for name, m in methods.items() if any(e.run.method == name for e in kept)},
        {name: b for name, b in benchmarks.items() if any(e.benchmark == name for e in kept)},
        tuple(run for key, run in runs.items() if any(e.run.key == key for e in kept)),
        tuple(kept),
    )


def _benchmark(study: Study, name: str, root: Path | str) -> BenchmarkParams:
    """A benchmark by its name; on generated data its title says so, lest a score is quoted as one on the real."""
    benchmark = load_benchmark(name, root=root)
    if not study.data.generated:
        return benchmark
    what = "images" if benchmark.classifies else "videos"
    return benchmark.model_copy(update={"title": f"generated {what} in the layout of {benchmark.title}"})


def _wanted(entry: Entry, only: Only) -> bool:
    names = (
        (entry.run.method, only.methods),
        (entry.run.recipe, only.recipes),
        (entry.variant, only.variants),
        (entry.benchmark, only.benchmarks),
    )
    return all(wanted is None or name in wanted for name, wanted in names)


def _run(
    study: Study,
    params: MethodParams,
    recipe_name: str,
    recipe: RecipeParams,
    size: MethodSize,
    seed: int,
    owners: dict[str, StageNode],
) -> Run:
    method = params.method
    nodes: list[StageNode] = []
    for name in recipe.stages:
        stage = size.stages[name]
        parent = nodes[-1] if nodes else None
        model = {**size.model, **stage.model}
        held_out = _held_out(study, recipe, stage)
        asked = asked_stage((method, seed, name), stage, model, study.data, held_out, parent.digest if parent else None)
        node = StageNode(study.study, method, recipe_name, seed, name, stage, model, asked, parent, held_out)
        nodes.append(owners.setdefault(asked, node))
    return Run(study.study, method, recipe_name, seed, recipe, size, tuple(nodes), params)


def _held_out(study: Study, recipe: RecipeParams, stage: StageParams) -> tuple[str, ...]:
    """The sequences on which a recipe's checkpoints compete, as far as a stage could train on them."""
    sets = study.selection.held_out_of
    concerned = sets is None or any(source.set in sets for source in stage.data)
    return study.selection.sequences if recipe.selection == "held-out" and concerned else ()


def variant_settings(method: MethodParams, size: MethodSize, name: str) -> dict[str, Any]:
    """Inference settings of a variant at a size.

    Raises:
        ConfigError: if the method has no such variant.
    """
    base = pick(method.variants, name, what="variant", where=f"method '{method.method}'")
    return {**base, **size.variants.get(name, {})}
