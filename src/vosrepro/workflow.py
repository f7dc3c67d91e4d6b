"""What the Snakefile needs to know: the plan, the parameters of each rule, and how to share few cores."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vosrepro.base.errors import pick
from vosrepro.base.files import file_digest, write_json
from vosrepro.base.machine import usable_cores
from vosrepro.costs.memory import training_mb
from vosrepro.study import paths
from vosrepro.study.digests import (
    asked_data,
    asked_import,
    asked_inference,
    asked_report,
    asked_scores,
    asked_selection,
    code_record,
    resized_copies,
)
from vosrepro.study.params import Study, parse
from vosrepro.study.plan import Plan, Run, StageNode, load_plan
from vosrepro.training.devices.launch import THREADS
from vosrepro.training.devices.requests import SOCKET
from vosrepro.weights.released import load_released, masks_file, released_file


class Jobs:
    """Rule parameters and inputs of one study; every value that must trigger a rerun passes through here.

    Args:
        config: Snakemake's merged configuration, i.e. the content of a params/studies/*.yaml.
        cores: Snakemake's --cores.
        sources: where the configuration comes from, for errors: files, or options such as --config.
        settings: gives Snakemake's dag_settings (--forcerun, --force, --forceall) once they are known.
        cluster: tells once it is known whether jobs run on other machines, so that these cores say nothing of theirs.
        allocated: cores that a cluster gave to this job of its own, in which more would be refused.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        cores: int | None,
        sources: Sequence[Path | str] = (),
        settings: Callable[[], Any] = lambda: None,
        *,
        cluster: Callable[[], bool] = lambda: False,
        allocated: str | None = None,
    ) -> None:
        named = " or ".join(os.path.relpath(path) for path in sources)
        study = parse(dict(config), Study, source=named or f"the study '{config.get('study', '?')}'")
        self.plan: Plan = load_plan(study)
        self.name = study.study
        self.file = paths.resolved_study(study.study)
        self._cores = cores
        self._cluster = cluster
        self._allocated = int(allocated) if allocated else None
        self._settings = settings
        self._started = int(time.time())
        _renew(self.file, study.model_dump(mode="json"))
        _renew(paths.code_record_path(self.name), code_record(self.plan))

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

    def recipes(self, *, taken: bool) -> str:
        """A regular expression of the recipes whose masks are taken as others published them, or of all others."""
        return _either(run.recipe for run in self.plan.runs if (run.params.weights == "masks") == taken)

    def runs(self) -> list[str]:
        """Folders of all runs."""
        return [str(run.folder) for run in self.plan.runs]

    def submissions(self) -> list[str]:
        """Zips for challenge servers: of entries that nothing else scores."""
        return [str(entry.submission) for entry in self.plan.entries if entry.benchmark_params.scoring is None]

    # ------------------------------------------------------------------------------- parameters

    def data(self) -> str:
        """Digest of what the data rule depends on."""
        return asked_data(self.plan.study.data)

    def train(self, wildcards: Any) -> str:
        """Digest of a stage's parameters (code is recorded by the job, a person raises `revision`)."""
        return self._stage(wildcards).digest

    def select(self, wildcards: Any) -> str:
        """Digest of what selection depends on."""
        return asked_selection(self._run(wildcards), self.plan.study.selection)

    def imported(self, wildcards: Any) -> str:
        """Digest of what an import depends on."""
        size = self.plan.methods[wildcards.method].sizes[self.plan.study.size]
        return asked_import(size.recipes[wildcards.recipe], size.model, wildcards.method)

    def infer(self, wildcards: Any) -> str:
        """Digest of what inference of one run depends on."""
        return asked_inference(self.plan.entries_of(self._run(wildcards)))

    def score(self, wildcards: Any) -> str:
        """Digest of what scoring of one run depends on."""
        return asked_scores(self.plan.entries_of(self._run(wildcards)))

    def report(self) -> str:
        """Digest of what the report depends on besides the results."""
        package = Path(__file__).parent
        pages = [*package.glob("reporting/pages/templates/**/*"), *package.glob("methods/*/README.md")]
        pages += [
            Path("params/published_sequences.csv"),
            Path("params/published_frames.csv"),
            Path(self.plan.study.expected or "-"),
        ]
        pages += [e.server_scores for e in self.plan.entries if e.benchmark_params.scoring is None]
        texts = {path.name: file_digest(path) for path in sorted(pages) if path.is_file()}
        return asked_report(self.plan, texts)

    def anew_training(self, wildcards: Any, attempt: int) -> int:
        """A number if a person forces a training, which then keeps nothing of earlier work; else 0."""
        return self._anew("train", self._stage(wildcards).record, attempt)

    def anew_inference(self, wildcards: Any, attempt: int) -> int:
        """A number if a person forces the inference of a run, which then keeps nothing of earlier work; else 0."""
        return self._anew("infer", self._run(wildcards).inference, attempt)

    def _anew(self, rule: str, output: Path, attempt: int) -> int:
        settings = self._settings()  # unknown while the Snakefile is read
        if settings is None or attempt > 1:  # a retry goes on
            return 0
        named = {rule, str(output)}
        forced = settings.forceall or named & set(settings.forcerun)
        return self._started if forced or (settings.forcetargets and named & set(settings.targets)) else 0

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

    def taken_masks(self, wildcards: Any) -> list[str]:
        """The published masks of a recipe, if they are there; the job says where they belong."""
        file = masks_file(self.plan.study.masks_root, load_released().masks(wildcards.method, wildcards.recipe))
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
        return [
            str(paths.resized_folder(resized_copies(params, data)) / paths.RESIZED_SIZES) for params in wanted.values()
        ]

    def resized_benchmark(self, wildcards: Any) -> str:
        """The benchmark of a folder of scaled copies."""
        data = self.plan.study.data
        known = {resized_copies(b, data): b for b in self.plan.benchmarks.values() if b.fit_px}
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

    def train_mem_mb(self, wildcards: Any) -> int:
        """Main memory of one training job."""
        return training_mb(self._stage(wildcards).params, max(1, self.plan.study.gpus_per_training))

    def train_threads(self, wildcards: Any) -> int:
        """Threads of one training job: on a cluster a core for each rank and each of its loader workers."""
        ranks = max(1, self.plan.study.gpus_per_training)
        return self._threads(1, ranks * (1 + self._stage(wildcards).params.loader_workers))

    def threads(self, real: int = 1, *, cluster: int | None = None) -> Callable[[Any], int]:
        """Threads of a rule; a function, for Snakemake knows its executor only after it has read the Snakefile.

        Args:
            real: cores that the job uses well where others wait for them.
            cluster: cores that it asks a cluster for; None: the same.
        """
        return lambda _wildcards: self._threads(real, cluster or real)

    def _threads(self, real: int, cluster: int) -> int:
        """Snakemake threads that stand for `real` cores when --cores exceeds the machine.

        `--cores 8` on two cores would start eight torch processes; each job then counts as four.
        """
        if self._cluster():
            return min(cluster, self._allocated or cluster)
        usable = usable_cores()
        cores = self._cores or usable
        return max(real, math.ceil(real * cores / usable)) if cores > usable else min(real, cores)

    def real_threads(self, wildcards: Any, threads: int) -> int:  # noqa: ARG002, Snakemake gives it
        """Cores behind a rule's Snakemake threads: what torch may really use."""
        if self._cluster():
            return threads
        usable = usable_cores()
        return max(1, threads * usable // max(usable, self._cores or usable))

    # ----------------------------------------------------------------------------------- helpers

    def _stage(self, wildcards: Any) -> StageNode:
        return self.plan.stage(wildcards.method, wildcards.recipe, wildcards.seed, wildcards.stage)

    def _run(self, wildcards: Any) -> Run:
        return self.plan.run(wildcards.method, wildcards.recipe, wildcards.seed)


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


def start_warm_process() -> None:
    """Start the process from which jobs of this machine are forked with torch loaded; never fails.

    VOSREPRO_WARM= (empty) in the environment prevents it.
    """
    if SOCKET in os.environ or not hasattr(os, "pidfd_open"):
        return
    try:
        socket = Path(tempfile.mkdtemp(prefix="vosrepro-")) / "warm"
        command = [sys.executable, "-m", "vosrepro.training.devices.warm", str(socket), str(os.getpid())]
        environment = os.environ | dict.fromkeys(THREADS, "1")
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        os.environ[SOCKET] = str(socket)
    except OSError as error:
        print(f"the warm process did not start ({error}); the study goes on", file=sys.stderr)


def _renew(path: Path, value: Any) -> None:
    """Write JSON, unless the file says the same already (its time of change counts)."""
    if not path.is_file() or parse_json(path) != value:
        write_json(path, value)


def parse_json(path: Path) -> Any:
    """JSON of a file that may be half written by an older version; None if it cannot be read."""
    from vosrepro.base.errors import DataError
    from vosrepro.base.files import read_json

    try:
        return read_json(path)
    except DataError:
        return None


def _either(names: Any) -> str:
    return "|".join(sorted({name.replace(".", r"\.") for name in names}, key=len, reverse=True)) or "-"
