"""Where everything lies that jobs leave behind: no other module spells these folders and files.

All paths are relative to the working directory. Names may be Snakemake's wildcards ("{method}"): the patterns
of the rules are what these functions return then, which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

RESULTS = Path("results")  # declared outputs of the DAG's rules
STATE = Path("state")  # what lets a killed job go on; outside declared outputs
LOGS = Path("logs")
WEIGHTS = Path("weights")  # released checkpoints and what was made of them
REPORTS = Path("reports")
SUBMISSIONS = Path("submissions")
DAMAGED = STATE / "damaged"  # what jobs found damaged, at its path

#: Names inside the folder of a stage, a run or an entry.
STAGE_RECORD, STAGE_METRICS = "run.json", "metrics.jsonl"
SELECTION_RECORD, SELECTION_TABLE, SELECTED_WEIGHTS = "selected.json", "selection.csv", "selected.safetensors"
RUN_INFERENCE, RUN_SCORES = "inference.json", "scores.json"
ENTRY_INFERENCE, ENTRY_SCORE, ENTRY_TABLE = "infer.json", "score.json", "scores.csv"
ENTRY_MASK_DIGESTS = "masks.csv"
PAIRS_RECORD = "correspondences.json"
#: In a folder of scaled copies, the original sizes of its videos; written last.
RESIZED_SIZES = "sizes.json"

TRUTH_CACHE = STATE / "truth"
TRACKING = STATE / "tracking"
#: torchvision's maskrcnn_resnet50_fpn, trained on COCO.
PERSON_DETECTOR = WEIGHTS / "maskrcnn_resnet50_fpn.pth"


def study_folder(study: str) -> Path:
    """Results of a study."""
    return RESULTS / study


def resolved_study(study: str) -> Path:
    """The study as Snakemake's configuration gave it."""
    return STATE / "studies" / f"{study}.json"


def data_manifest(study: str) -> Path:
    """What the study's data consists of."""
    return study_folder(study) / "data.json"


def code_record_path(study: str) -> Path:
    """Digests of the code that the study's results depend on."""
    return study_folder(study) / "code.json"


def mlflow_outcome(study: str) -> Path:
    """How the study was mirrored into MLflow."""
    return study_folder(study) / "mlflow.json"


def study_metrics(study: str) -> Path:
    """The scores for DVC."""
    return study_folder(study) / "metrics.json"


def study_plot(study: str, name: str) -> Path:
    """A table for DVC's plots."""
    return study_folder(study) / "plots" / f"{name}.csv"


def run_folder(study: str, method: str, recipe: str, seed: int | str) -> Path:
    """Stages, selection, masks and scores of one run."""
    return study_folder(study) / method / recipe / f"seed{seed}"


def checkpoint(folder: Path, step: int) -> Path:
    """Weights after a step, in a stage's folder or in the private one of its job."""
    return folder / WEIGHTS.name / f"step-{step}.safetensors"


def runs_that_hold(file: Path) -> Iterator[tuple[Path, str, str, str, str]]:
    """Working directory, study, method, recipe and seed of each run in whose folder a file may lie."""
    parts = file.resolve().parts
    for place in (i for i, part in enumerate(parts) if part == RESULTS.name):
        names = parts[place + 1 : place + 5]
        seed = names[3].removeprefix("seed") if len(names) == 4 else ""
        if seed.isdecimal():
            yield Path(*parts[:place]), names[0], names[1], names[2], seed


def journals_folder(study: str) -> Path:
    """Journals of all jobs of a study."""
    return STATE / "journals" / study


def journal(study: str, method: str, recipe: str, seed: int | str, kind: str) -> Path:
    """The live journal of a job: a stage, "select", "infer" or "score"."""
    return journals_folder(study) / method / recipe / f"seed{seed}" / f"{kind}.jsonl"


def study_log(study: str, kind: str) -> Path:
    """What a process of the whole study printed, e.g. "follow"."""
    return LOGS / study / f"{kind}.log"


def run_log(study: str, method: str, recipe: str, seed: int | str, kind: str) -> Path:
    """What a rule of a run printed: "train-<stage>", "select", "infer", "score"."""
    return LOGS / study / method / recipe / f"seed{seed}" / f"{kind}.log"


def inference_state(digest: str) -> Path:
    """Finished videos or images of an entry of this identity."""
    return STATE / "infer" / digest


def resized_folder(name: str) -> Path:
    """Scaled copies of a benchmark's videos."""
    return STATE / "resized" / name


def submission(study: str, method: str, recipe: str, seed: int | str, variant: str, benchmark: str) -> Path:
    """The zip for a challenge server; its record lies beside it."""
    return SUBMISSIONS / study / f"{method}_{recipe}_seed{seed}_{variant}_{benchmark}.zip"


def imported_weights(method: str, recipe: str) -> Path:
    """The weights of an imported recipe; their record lies beside them."""
    return WEIGHTS / method / f"{recipe}.safetensors"


def released_weights(method: str, recipe: str, ending: str = ".pth") -> Path:
    """Where a person puts the released checkpoint of a recipe."""
    return WEIGHTS / method / f"{recipe}{ending}"


def released_masks(root: Path | str | None, file: str) -> tuple[Path, Path]:
    """Where a person puts masks that authors published: the folder, and the zip, of the released file's name."""
    folder = (Path(root) if root else WEIGHTS / "masks") / file.removesuffix(".zip")
    return folder, folder.with_name(f"{folder.name}.zip")


def prepared_set(name: str) -> Path:
    """The manifest of a data set that a rule prepared or converted; a listing may lie beside it."""
    return RESULTS / "sets" / f"{name}.json"
