"""What the Snakefile needs to know: the plan, the parameters of each rule, and how to share few cores."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vosrepro.base.files import file_digest, value_digest, write_json
from vosrepro.base.machine import usable_cores
from vosrepro.base.provenance import source_digest
from vosrepro.study import paths
from vosrepro.study.params import Study, parse, pick
from vosrepro.study.plan import Entry, Plan, Run, StageNode, load_plan, resized_folder
from vosrepro.weights.released import released_file


class Jobs:
    """Rule parameters and inputs of one study; every value that must trigger a rerun passes through here.

    Args:
        config: Snakemake's merged configuration, i.e. the content of a params/studies/*.yaml.
        cores: Snakemake's --cores.
        sources: where the configuration comes from, for errors: files, or options such as --config.
    """

    def __init__(self, config: Mapping[str, Any], cores: int | None, sources: Sequence[Path | str] = ()) -> None:
        named = " or ".join(os.path.relpath(path) for path in sources)
        study = parse(dict(config), Study, source=named or f"the study '{config.get('study', '?')}'")
        self.plan: Plan = load_plan(study)
        self.name = study.study
        self.file = paths.resolved_study(study.study)
        self._cores = cores
        self._write_resolved(study)

    def _write_resolved(self, study: Study) -> None:
        resolved = study.model_dump(mode="json")
        if not self.file.is_file() or parse_json(self.file) != resolved:
            write_json(self.file, resolved)

    # ------------------------------------------------------------------ shapes of the wildcards

    @property
    def wildcards(self) -> dict[str, str]:
        """Regular expressions that admit only what the study names."""
        runs = self.plan.runs
        return {
            "study": self.name,
            "method": _either(run.method for run in runs),
            "recipe": _either(run.recipe for run in runs),
            "seed": r"\d+",
            "stage": _either(node.stage for node in self.plan.stages),
        }

    def runs(self) -> list[str]:
        """Folders of all runs."""
        return [str(run.folder) for run in self.plan.runs]

    def submissions(self) -> list[str]:
        """Zips for challenge servers: of entries that nothing else scores."""
        return [str(entry.submission) for entry in self.plan.entries if entry.benchmark_params.scoring is None]

    # ------------------------------------------------------------------------------- parameters

    def data(self) -> str:
        """Digest of what the data rule depends on."""
        return self._digest(self.plan.study.data.model_dump(mode="json"), "datasets")

    def train(self, wildcards: Any) -> str:
        """Digest of a stage's parameters (code is recorded by the job, a person raises `revision`)."""
        return self._stage(wildcards).digest

    def select(self, wildcards: Any) -> str:
        """Digest of what selection depends on."""
        run = self._run(wildcards)
        value = {
            "selection": self.plan.study.selection.model_dump(mode="json"),
            "variant": run.default_variant_params,
            "recipe": run.params.model_dump(mode="json"),
            "input_short_side_px": run.size.input_short_side_px,
        }
        return self._digest(value, "inference", "scoring", f"methods/{run.method}")

    def imported(self, wildcards: Any) -> str:
        """Digest of what an import depends on."""
        size = self.plan.methods[wildcards.method].sizes[self.plan.study.size]
        recipe = size.recipes[wildcards.recipe].model_dump(mode="json")
        return self._digest([recipe, dict(size.model)], f"methods/{wildcards.method}")

    def infer(self, wildcards: Any) -> str:
        """Digest of what inference of one run depends on."""
        run = self._run(wildcards)
        value = [[entry.key, entry.variant_params, _how_it_runs(entry)] for entry in self.plan.entries_of(run)]
        return self._digest(value, "inference", f"methods/{run.method}")

    def score(self, wildcards: Any) -> str:
        """Digest of what scoring of one run depends on."""
        run = self._run(wildcards)
        value = [
            [entry.key, entry.benchmark_params.scoring, entry.benchmark_params.version, *_beside(entry)]
            for entry in self.plan.entries_of(run)
        ]
        return self._digest(value, "scoring")

    def report(self) -> str:
        """Digest of what the report depends on besides the results."""
        package = Path(__file__).parent
        pages = [
            *package.glob("reporting/pages/templates/**/*"),
            *package.glob("methods/*/README.md"),
        ]
        pages += [Path("params/published_sequences.csv"), Path(self.plan.study.expected or "-")]
        pages += [e.server_scores for e in self.plan.entries if e.benchmark_params.scoring is None]
        texts = {path.name: file_digest(path) for path in sorted(pages) if path.is_file()}
        return self._digest([self.plan.study.model_dump(mode="json"), texts], "reporting")

    # ------------------------------------------------------------------------------------ inputs

    def stage_inputs(self, wildcards: Any) -> list[str]:
        """The record of the stage that this one starts from."""
        parent = self._stage(wildcards).parent
        return [str(parent.record)] if parent else []

    def run_inputs(self, wildcards: Any) -> list[str]:
        """The record of a recipe's last stage, or the imported weights."""
        run = self._run(wildcards)
        if run.params.weights == "imported":
            return [str(paths.imported_weights(run.method, run.recipe))]
        return [str(run.stages[-1].record)] if run.stages else []

    def released_file(self, wildcards: Any) -> list[str]:
        """The released checkpoint of an imported recipe, if it is there; the job says where it belongs."""
        file = released_file(wildcards.method, wildcards.recipe)
        return [] if file is None else [str(file)]

    def converted_set(self, wildcards: Any) -> list[str]:
        """The prepared set that a conversion reads; raw static images are put in place by hand."""
        from vosrepro.datasets.sets.folders import COPIES  # numpy comes with it: only where it is asked for

        return [str(paths.prepared_set(COPIES[wildcards.kind]))] if wildcards.kind in COPIES else []

    def resized(self, wildcards: Any) -> list[str]:
        """The scaled copies that a run's benchmarks need."""
        entries = self.plan.entries_of(self._run(wildcards))
        wanted = {e.benchmark: e.benchmark_params for e in entries if e.benchmark_params.fit_px}
        data = self.plan.study.data
        return [str(resized_folder(params, data) / paths.RESIZED_SIZES) for params in wanted.values()]

    def resized_benchmark(self, wildcards: Any) -> str:
        """The benchmark of a folder of scaled copies."""
        data = self.plan.study.data
        known = {resized_folder(b, data).name: b for b in self.plan.benchmarks.values() if b.fit_px}
        name = wildcards.resized
        return pick(known, name, what="scaled copies", where=self.name).benchmark

    def weights(self, wildcards: Any) -> list[str]:
        """The selected weights, for methods that have any."""
        run = self._run(wildcards)
        return [str(run.selected_weights)] if run.selected_weights else []

    # --------------------------------------------------------------------------------- resources

    def gpus(self, wildcards: Any) -> int:  # noqa: ARG002, Snakemake gives it
        """Devices of one training job."""
        return self.plan.study.gpus_per_training

    def threads(self, real: int = 1) -> int:
        """Snakemake threads that stand for `real` cores when --cores exceeds the machine.

        `--cores 8` on two cores would start eight torch processes; each job then counts as four.
        """
        usable = usable_cores()
        cores = self._cores or usable
        return max(real, math.ceil(real * cores / usable)) if cores > usable else min(real, cores)

    def real_threads(self, wildcards: Any, threads: int) -> int:  # noqa: ARG002, Snakemake gives it
        """Cores behind a rule's Snakemake threads: what torch may really use."""
        usable = usable_cores()
        return max(1, threads * usable // max(usable, self._cores or usable))

    # ----------------------------------------------------------------------------------- helpers

    def _stage(self, wildcards: Any) -> StageNode:
        return self.plan.stage(wildcards.method, wildcards.recipe, wildcards.seed, wildcards.stage)

    def _run(self, wildcards: Any) -> Run:
        return self.plan.run(wildcards.method, wildcards.recipe, wildcards.seed)

    @staticmethod
    def _digest(value: Any, *sources: str) -> str:
        return value_digest([value, source_digest(*sources)])


def start_follower(study_file: Path) -> None:
    """Start the process that mirrors journals into MLflow while the workflow runs; never fails."""
    log = paths.study_log(study_file.stem, "follow")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "vosrepro.cli", "track", "--study", str(study_file)]
        command += ["--follow", "--parent-pid", str(os.getpid())]
        with log.open("a") as file:
            subprocess.Popen(
                ["nice", "-n", "10", *command],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError as error:
        print(f"the MLflow follower did not start ({error}); the study goes on", file=sys.stderr)


def parse_json(path: Path) -> Any:
    """JSON of a file that may be half written by an older version; None if it cannot be read."""
    from vosrepro.base.errors import DataError
    from vosrepro.base.files import read_json

    try:
        return read_json(path)
    except DataError:
        return None


def _beside(entry: Entry) -> list[Any]:
    other = entry.benchmark_params.beside
    return [] if other is None else [other.dataset, other.split, other.scoring]


def _how_it_runs(entry: Entry) -> list[Any]:
    benchmark = entry.benchmark_params
    size = entry.input_short_side_px
    how = [benchmark.dataset, benchmark.split, benchmark.frame_source, size, benchmark.fit_px]
    return [*how, entry.crop_px] if benchmark.classifies else how


def _either(names: Any) -> str:
    return "|".join(sorted({name.replace(".", r"\.") for name in names}, key=len, reverse=True)) or "-"
