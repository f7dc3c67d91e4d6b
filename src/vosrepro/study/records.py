"""What one job writes and another reads: a frozen model of every record, with its reader and its writer.

A record holds what its writer stated, under the keys that it always had, so records of older versions stay
readable: what they lack has a default, and what they have besides is kept. Scores and shares are in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vosrepro.base.errors import DataError
from vosrepro.base.files import read_json, write_json
from vosrepro.base.provenance import provenance


class RecordBlock(BaseModel):
    """A block of a record: immutable, and keys that it does not know are kept."""

    # Models are built when they are first used, which saves most programs most of the time of importing this.
    model_config = ConfigDict(
        extra="allow", frozen=True, populate_by_name=True, protected_namespaces=(), defer_build=True
    )

    def stated(self) -> dict[str, Any]:
        """The keys that were given, as plain values."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Record(RecordBlock):
    """A file of its own; `what` is what messages call it."""

    what: ClassVar[str]

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a record.

        Raises:
            DataError: if the file is missing or is not such a record, naming the key.
        """
        value = read_json(path)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            faults = "; ".join(dict.fromkeys(_explain(fault) for fault in error.errors(include_url=False)))
            raise DataError(f"{path} is no {cls.what} ({faults}): delete it and run again") from error

    def write(self, path: Path | str) -> None:
        """Write it atomically."""
        write_json(path, self.stated())


# ------------------------------------------------------------------------------------ blocks of records


class Git(RecordBlock):
    """The checkout that made something; nothing outside a checkout."""

    commit: str | None = None
    dirty: bool | None = None


class Hardware(RecordBlock):
    """The machine that made something."""

    cpu: str | None = None
    cores: int | None = None
    machine: str | None = None
    gpu: str | None = None
    gpu_count: int | None = None

    @property
    def name(self) -> str:
        """The accelerator, or the processor."""
        return self.gpu or self.cpu or ""


class Provenance(RecordBlock):
    """What `vosrepro.base.provenance` says of the process that wrote a record."""

    command: str = ""
    git: Git = Git()
    libraries: Mapping[str, str | None] = {}
    hardware: Hardware = Hardware()
    python: str = ""

    @classmethod
    def here(cls) -> Self:
        """Of this process."""
        return cls.model_validate(provenance())


class WeightsFile(RecordBlock):
    """A weights file and, where a step made it, that step."""

    path: str
    sha256: str | None
    step: int | None = None


class Made(RecordBlock):
    """What inference made, as a digest: masks of videos, or classes of single images."""

    masks_digest: str | None = None
    predictions_digest: str | None = None

    @property
    def digests(self) -> dict[str, str]:
        """Those that are stated, by their keys."""
        found = {"masks_digest": self.masks_digest, "predictions_digest": self.predictions_digest}
        return {name: digest for name, digest in found.items() if digest is not None}


class Timing(RecordBlock):
    """Speed by every convention in use; of single images the last three."""

    fps_amortised: float | None = None
    fps_steady: float | None = None
    fps_sequence_mean: float | None = None
    init_seconds_mean: float | None = None
    latency_median_ms: float | None = None
    latency_p95_ms: float | None = None
    frames: int | None = None
    sequences: int | None = None
    images_per_second: float | None = None
    images: int | None = None
    seconds: float | None = None


class PeakMemory(RecordBlock):
    """Peaks of the process in MB (10^6 bytes); None where there is no GPU."""

    peak_rss_mb: float | None = None
    peak_gpu_allocated_mb: float | None = None
    peak_gpu_reserved_mb: float | None = None

    @property
    def peak_mb(self) -> float:
        """Of the GPU, or else of the process; 0 if neither is known."""
        return self.peak_gpu_allocated_mb or self.peak_rss_mb or 0.0


# ---------------------------------------------------------------------------------------------- records


class DataManifest(Record):
    """What a study's data consists of; see `vosrepro.datasets.prepare.verification.verify`."""

    what: ClassVar[str] = "data manifest"

    digest: str
    study: str = ""
    root: str = ""
    generated: bool = False
    files: int = 0
    bytes: int = 0
    parts: Mapping[str, Mapping[str, Any]] = {}
    code: str = ""
    provenance: Provenance = Provenance()


class StageRecord(Record):
    """How a stage was trained.

    Attributes:
        digest: what was asked for, see `vosrepro.study.plan.StageNode`.
        state_digest: the same with data and start weights.
        parent: the weights that it started from.
        params: of the stage.
        model: arguments of the network.
        source_digest: of the code that trained.
        resumed_from: steps.
    """

    what: ClassVar[str] = "record of a training stage"

    stage: str
    digest: str
    status: str
    device: str
    world_size: int
    wall_seconds: float
    state_digest: str | None = None
    data_digest: str | None = None
    parent: WeightsFile | None = None
    params: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    checkpoints: tuple[WeightsFile, ...] = ()
    steps: int | None = None
    source_digest: str | None = None
    final_metrics: Mapping[str, float | None] = {}
    resumed_from: tuple[int, ...] = ()
    samples_per_second: float | None = None
    peak_memory_mb: float | None = None
    provenance: Provenance = Provenance()


class SelectionRecord(Record):
    """Which checkpoint was selected.

    Attributes:
        value: of the metric on the held-out sequences; None where there was nothing to choose.
        last_value: what the last checkpoint scored.
        training_digest: `state_digest` of the stage that made the checkpoints.
        identity: what the choice depended on, see `vosrepro.study.digests`.
        code: digest of the code that segmented and chose.
        scorer: digest of the scorer.
    """

    what: ClassVar[str] = "record of a selection"

    step: int
    metric: str
    value: float | None
    last_step: int
    last_value: float | None
    weights_sha256: str
    rule: str
    weights: str = ""
    sequences: tuple[str, ...] = ()
    training_digest: str | None = None
    identity: str | None = None
    code: str | None = None
    scorer: str | None = None
    wall_seconds: float | None = None
    provenance: Provenance = Provenance()


class TakenMasks(RecordBlock):
    """The masks of others that were taken in place of inference.

    Attributes:
        path: folder or zip.
        digest: of the zip, or of all masks of the folder, that were read.
        inside: folder in it that holds the sequences; empty if it does itself.
        expected: whether the zip is the one whose SHA-256 params/released.yaml names; None if there is none to compare.
        left: sequences that it holds and the benchmark does not.
        lacking: frames that it lacks, all of them such that are not scored.
        obtain, licence: of params/released.yaml.
    """

    path: str
    digest: str
    inside: str = ""
    expected: bool | None = None
    left: int = 0
    lacking: int = 0
    obtain: str = ""
    licence: str = ""


class InferenceRecord(Record, Made):
    """How an entry was inferred.

    Attributes:
        params: the variant's settings.
        benchmark: of params/protocols.
        counts: what the method wants to be known, e.g. reused frames.
        regime: how frames reached the method.
        undecodable: images.
        videos_reused: finished by an earlier call.
        identity: what the results depend on, see `vosrepro.study.digests`.
        code: digest of the code that made them.
        taken: the masks of others, where nothing was inferred.
    """

    what: ClassVar[str] = "record of an inference"

    entry: str
    device: str
    precision: str
    timing: Timing
    memory: PeakMemory = PeakMemory()
    params: Mapping[str, Any] = {}
    benchmark: Mapping[str, Any] = {}
    input_short_side_px: int | None = None
    counts: Mapping[str, int] = {}
    regime: str | None = None
    tf32: bool | None = None
    undecodable: tuple[str, ...] = ()
    wall_seconds: float | None = None
    videos_reused: int | None = None
    images_reused: int | None = None
    identity: str | None = None
    code: str | None = None
    weights: WeightsFile | None = None
    taken: TakenMasks | None = None
    data_digest: str | None = None
    provenance: Provenance = Provenance()


class InferredEntry(Made):
    """What inference made of an entry, and where its record lies."""

    infer: str


class RunInference(Record):
    """What inference made of all entries of a run, by their keys."""

    what: ClassVar[str] = "record of a run's inference"

    run: str
    entries: Mapping[str, InferredEntry]
    weights_sha256: str | None = None
    wall_seconds: float | None = None
    provenance: Provenance = Provenance()


class BesideScore(RecordBlock):
    """The same masks scored against another ground truth; see `BenchmarkParams.beside`."""

    title: str
    protocol: str
    global_: Mapping[str, float] | None = Field(validation_alias="global", serialization_alias="global")
    note: str = ""


class ScoreRecord(Record, Made):
    """What masks or predictions scored.

    Attributes:
        protocol: None where only a challenge server scores; `note` says so then.
        global_: mean of each metric over objects or images ("global" in the file).
        objects, sequences, frames: how many were scored of videos.
        images, classes: the same of single images.
        hits: right images by metric.
        warnings: sentences that belong beside the numbers.
    """

    what: ClassVar[str] = "record of a score"

    protocol: str | None
    global_: Mapping[str, float] | None = Field(validation_alias="global", serialization_alias="global")
    objects: int | None = None
    sequences: int | None = None
    frames: int | None = None
    images: int | None = None
    classes: int | None = None
    hits: Mapping[str, int] = {}
    warnings: tuple[str, ...] = ()
    note: str = ""
    beside: BesideScore | None = None
    entry: str = ""
    benchmark: str = ""
    benchmark_version: int | None = None
    provenance: Provenance = Provenance()


class ServerAnswer(Record):
    """What a challenge server answered to the masks of an entry.

    Attributes:
        global_: its values by our names of metrics ("global" in the file).
        answer: name of the server's file.
        masks_digest: of the masks at that time.
    """

    what: ClassVar[str] = "record of a server's answer"

    entry: str
    protocol: str
    global_: Mapping[str, float] = Field(validation_alias="global", serialization_alias="global")
    masks_digest: str | None
    answer: str = ""
    answer_sha256: str = ""
    submission_sha256: str | None = None
    benchmark: str = ""
    provenance: Provenance = Provenance()


class RunScores(Record):
    """Values of all entries of a run by their keys; None for those that only a server scores."""

    what: ClassVar[str] = "record of a run's scores"

    run: str
    entries: Mapping[str, Mapping[str, float] | None]
    wall_seconds: float | None = None
    provenance: Provenance = Provenance()


class MlflowOutcome(Record):
    """How a study was mirrored into MLflow.

    Attributes:
        status: "complete", "followed", "off" or "broken".
        tracking_uri: the store, without a password.
        runs: key of a parent or a job -> MLflow run id.
        note: why it is off or broken.
    """

    what: ClassVar[str] = "record of the tracker"

    status: str
    tracking_uri: str
    experiment_id: str | None = None
    runs: Mapping[str, str] = {}
    note: str = ""


class ReleasedSource(RecordBlock):
    """The released checkpoint that was imported."""

    name: str
    bytes: int
    sha256: str
    obtain: str
    licence: str
    note: str = ""


class ImportedTensors(RecordBlock):
    """How many tensors of the released file were used, left out, and added from elsewhere; the first names of each."""

    used: int
    left_out: int
    left_out_names: tuple[str, ...] = ()
    from_elsewhere: int
    from_elsewhere_names: tuple[str, ...] = ()


class ImportRecord(Record):
    """Where imported weights come from."""

    what: ClassVar[str] = "record of imported weights"

    method: str
    recipe: str
    size: str
    model: Mapping[str, Any]
    weights: str
    weights_sha256: str
    source: ReleasedSource
    entries: ImportedTensors
    foreign_classes: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


class FramePair(RecordBlock):
    """Two frames of a video; weights of source cells in the target are an image beside the record.

    Attributes:
        source, target: files of the frames.
        size: height and width at which the network saw them.
        grid: rows and columns of cells.
        top, left: padding in pixels.
        begin: row and column of the cell that is shown first.
        peaks: largest weight of each source cell.
    """

    video: str
    source: str
    target: str
    size: tuple[int, int]
    grid: tuple[int, int]
    cell_px: int
    top: int
    left: int
    begin: tuple[int, int]
    peaks: tuple[float, ...]


class PairsRecord(Record):
    """Pairs of frames whose correspondences a page shows."""

    what: ClassVar[str] = "record of correspondences"

    pairs: tuple[FramePair, ...]
    benchmark: str = ""


def _explain(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    if fault["type"] == "missing":
        return f"key '{place}' is missing"
    return f"key '{place}': {fault['msg']}"
