"""Typed, frozen models of everything in params/, and the loader that explains a mistake in one sentence.

Numbers carry their unit in their name; batch sizes are global; a key that no model knows is an error
that names the file, the key and the nearest valid key.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vosrepro.base.errors import ConfigError, nearest
from vosrepro.base.files import read_text

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.]*(-[a-z0-9.]+)*$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Base of all parameter models: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------- training


class DataSource(Strict):
    """One training set of a stage and how often its list is repeated."""

    set: Name  # "static", "bl30k", "ytvos-train", "davis17-train", "davis16-train"
    repeat: Positive = 1
    min_labels: Positive | None = None  # labelled frames that a video must have; None: 3, or as many as a clip


class ClipParams(Strict):
    """What one training sample is."""

    kind: Name  # which sampler of vosrepro.training builds it: "static", "video", ...
    frames: Positive = 3
    objects: Positive = 2
    size_px: tuple[Positive, Positive] = (384, 384)  # height, width
    augment: Name = "full"  # a named preset of vosrepro.training.data.augment
    # "jump": in order, not far apart; "anywhere": distinct frames of the video in random order;
    # "visible-first": one object, a frame that shows it well first, then any others.
    pick: Literal["jump", "anywhere", "visible-first"] = "jump"
    # Largest distance of neighboring frames by share of the stage: [(0.0, 5), (0.1, 10), ...].
    max_jump: tuple[tuple[Share, Positive], ...] = ((0.0, 5),)
    options: dict[str, float | int | str | bool] = {}


class ParameterGroup(Strict):
    """Parameters that are updated otherwise than the rest."""

    prefixes: Annotated[tuple[str, ...], Field(min_length=1)]  # of names in named_parameters()
    lr_factor: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] | None = None  # None: the optimizer's
    updates_per_step: Positive = 1  # with the same gradient
    vectors: bool = False  # only biases and scales: tensors with fewer than two dimensions


class OptimizerParams(Strict):
    """The optimizer and its schedule; steps count within the stage."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: float = 0.9  # sgd only
    amsgrad: bool = False  # adam and adamw only
    groups: tuple[ParameterGroup, ...] = ()  # a parameter belongs to the first that names it
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 0
    lr_drop_steps: tuple[Positive, ...] = ()  # the rate is multiplied by lr_drop_factor at each
    lr_drop_factor: float = 0.1
    schedule: Literal["step", "cosine", "poly"] = "step"
    gradient_clip: float | None = None  # largest L2 norm


class StageParams(Strict):
    """A training set, a schedule, and what the next stage starts from (its last checkpoint)."""

    title: str
    data: tuple[DataSource, ...]
    clips: ClipParams
    model: dict[str, Any] = {}  # constructor arguments that differ in this stage
    loss: dict[str, Any] = {}  # arguments of the method's train_step
    batch_size: Positive  # global, over all processes
    # The most samples of one forward pass on a device, more are accumulated; None: the study's. It changes no result,
    # and so no digest; a network that normalizes by its batch refuses it.
    micro_batch: Positive | None = Field(default=None, exclude=True)
    steps: Positive
    epochs: Positive | None = None  # where the authors count epochs: steps is epochs x steps_per_epoch
    steps_per_epoch: Positive | None = None
    optimizer: OptimizerParams
    precision: Literal["fp32", "bf16"] = "fp32"
    # Checkpoints hold the moving average of the weights with this decay; None: the weights themselves.
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoint_every_steps: Positive
    state_every_steps: Positive | None = None  # resume state; None: at each checkpoint
    log_every_steps: Positive = 10
    loader_workers: Annotated[int, Field(ge=0)] = 0
    revision: int = 1  # raised by a person when retraining is wanted after a change of code

    @model_validator(mode="after")
    def _drops_inside(self) -> StageParams:
        late = [step for step in self.optimizer.lr_drop_steps if step >= self.steps]
        if late:
            raise ValueError(f"lr_drop_steps {late} lie beyond the {self.steps} steps of the stage")
        return self

    @model_validator(mode="after")
    def _epochs_make_steps(self) -> StageParams:
        if (self.epochs is None) != (self.steps_per_epoch is None):
            raise ValueError("epochs and steps_per_epoch come together")
        if self.epochs and self.steps_per_epoch and self.epochs * self.steps_per_epoch != self.steps:
            raise ValueError(f"{self.epochs} epochs of {self.steps_per_epoch} steps are not the {self.steps} of steps")
        return self

    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps after which weights are kept; always ends with the last step."""
        regular = range(self.checkpoint_every_steps, self.steps, self.checkpoint_every_steps)
        return (*regular, self.steps)


class RecipeParams(Strict):
    """A chain of stages that ends in one set of weights, or another source of weights."""

    title: str
    # "masks": nothing runs, masks that authors published are taken in place of inference.
    weights: Literal["trained", "random", "imported", "none", "masks"] = "trained"
    stages: tuple[Name, ...] = ()
    model: dict[str, Any] = {}  # without stages: constructor arguments that differ from the size's
    # Whether the last stage's checkpoints compete on the study's held-out sequences, which are then not trained on,
    # or the last one is taken and all videos of the sets are trained on.
    selection: Literal["held-out", "last"] = "held-out"
    selection_variant: Name | None = None  # with which its checkpoints compete; None: the method's default
    published_as: Name | None = None  # the recipe whose published numbers these weights should have

    @model_validator(mode="after")
    def _stages_iff_trained(self) -> RecipeParams:
        if (self.weights == "trained") != bool(self.stages):
            raise ValueError("a recipe has stages if and only if its weights are 'trained'")
        if self.model and self.stages:
            raise ValueError("a recipe with stages gets its network from their key 'model'")
        return self


class MethodSize(Strict):
    """A method at one size: network, stages, recipes, and inference settings that depend on the size."""

    model: dict[str, Any] = {}
    stages: dict[Name, StageParams] = {}
    recipes: dict[Name, RecipeParams]
    variants: dict[Name, dict[str, Any]] = {}  # merged over the method's variants
    input_short_side_px: Positive | None = None  # evaluation size; None: the size of the files
    crop_px: Positive | None = None  # side of the crop that gets a class; None: the benchmark's

    def model_of(self, recipe: RecipeParams) -> dict[str, Any]:
        """Constructor arguments of the network that a recipe ends with."""
        own = self.stages[recipe.stages[-1]].model if recipe.stages else recipe.model
        return {**self.model, **own}

    @model_validator(mode="after")
    def _stages_exist(self) -> MethodSize:
        for name, recipe in self.recipes.items():
            for stage in recipe.stages:
                if stage not in self.stages:
                    raise ValueError(f"recipe '{name}' names stage '{stage}', but the stages are {sorted(self.stages)}")
        return self


class MethodParams(Strict):
    """params/methods/<method>.yaml."""

    method: Name
    title: str
    variants: dict[Name, dict[str, Any]]
    default_variant: Name
    random_inference: bool = False  # whether repetitions with one set of weights differ; see the variants' seed
    sizes: dict[Name, MethodSize]


# ------------------------------------------------------------------------------- benchmarks, study


class ExtentParams(Strict):
    """How much there is of a benchmark, for `vosrepro plan` where the data are not at hand."""

    videos: Positive
    frames: Positive | None = None  # of all videos; None: nobody whom we can name has counted them
    objects: Positive  # of all videos
    source: str  # who counted


class TruthParams(Strict):
    """Another ground truth of the same videos, with which the same masks are scored beside the benchmark's own."""

    title: str
    dataset: Name
    split: Name
    scoring: Name


class BenchmarkParams(Strict):
    """params/protocols/<benchmark>.yaml: a data split and how it is run and scored.

    The evaluation size is a method's, so it is no key here; another frame source, first mask or ground truth makes
    another benchmark, which the published rows that belong to it name.
    """

    benchmark: Name
    title: str
    version: Positive  # rises when scores would change
    dataset: Name  # a layout of vosrepro.datasets
    split: Name
    scoring: Name | None  # a protocol of vosrepro.scoring; None: scored by a server only
    frame_source: Literal["all", "annotated"] = "all"
    keep_given: bool = True  # show given masks where objects begin; False: what becomes of them, as upstream does
    beside: TruthParams | None = None  # scored too, where its data are at hand; carries no verdict
    fit_px: tuple[Positive, Positive] | None = None  # width, height: segment scaled copies that fit
    extent: ExtentParams | None = None
    crop_px: Positive | None = None  # single images: side of the central crop; None: videos
    primary_metrics: tuple[str, ...]  # names of the columns of scores.csv that carry a verdict
    margin_points: dict[str, float]  # equivalence margin of the verdict, in points (0..100)
    margin_points_on_the_way: dict[str, float] = {}  # of variants that name a checkpoint before the end

    @model_validator(mode="after")
    def _crop_iff_images(self) -> BenchmarkParams:
        if (self.crop_px is not None) != (self.scoring == "imagenet"):
            raise ValueError("a benchmark has crop_px if and only if its scoring is 'imagenet'")
        return self

    @property
    def classifies(self) -> bool:
        """Whether single images get a class; else videos get masks."""
        return self.crop_px is not None


class DataParams(Strict):
    """Where the data sets lie."""

    root: str
    generated: bool = False  # True: `vosrepro data generate` makes the root
    seed: int = 0  # of the generated data
    sets: dict[Name, str] = {}  # folders relative to root where they differ from the usual layout
    lists: dict[Name, str] = {}  # training set -> file below root with the names of the videos to keep


class SelectionParams(Strict):
    """How a checkpoint of the last stage is chosen: on held-out training sequences, never on a benchmark."""

    set: Name = "davis17-train"
    sequences: tuple[str, ...]
    held_out_of: tuple[Name, ...] | None = None  # training sets that hold these sequences; None: any may
    columns: tuple[Name, ...] = ()  # benchmarks on which every candidate is scored too; choosing never sees them
    scoring: Name = "davis2017"
    metric: str = "J&F-Mean"


class EntryParams(Strict):
    """Which cells of the report a method fills."""

    method: Name
    recipes: tuple[Name, ...]
    variants: tuple[Name, ...]
    benchmarks: tuple[Name, ...]
    seeds: tuple[int, ...] | None = None  # None: the study's


class Only(Strict):
    """A part of a study: an entry is run if each list that is given holds its name."""

    methods: tuple[Name, ...] | None = None
    recipes: tuple[Name, ...] | None = None
    variants: tuple[Name, ...] | None = None
    benchmarks: tuple[Name, ...] | None = None


class StatisticsParams(Strict):
    """Settings of intervals and verdicts."""

    bootstrap_draws: Positive = 10_000
    permutation_draws: Positive = 100_000
    seed: int = 0


class Study(Strict):
    """params/studies/<study>.yaml."""

    study: Name
    title: str
    description: str = ""
    size: Name
    data: DataParams
    seeds: tuple[int, ...] = (0,)
    gpus_per_training: Positive = 1
    micro_batch: Positive | None = None  # see StageParams; where it would change statistics it is left out
    selection: SelectionParams
    entries: tuple[EntryParams, ...]
    only: Only = Only()  # --config 'only={methods: [stm]}'
    statistics: StatisticsParams = StatisticsParams()
    expected: str | None = None  # CSV with our own reference results and their seed spread
    viewer_sequences: Annotated[int, Field(ge=0)] = 4  # per benchmark, in the report's frame viewer
    masks_root: str | None = None  # folder of the masks that authors published; None: that of released files


# ------------------------------------------------------------------------------------------ loading

Model = TypeVar("Model", bound=Strict)
#: The checkout that this package is run from.
_CHECKOUT = Path(__file__).parents[3]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there


def load(path: Path | str, model: type[Model]) -> Model:
    """Read a YAML or JSON parameter file into a model.

    Raises:
        ConfigError: if the file is missing, is not YAML, or does not fit the model.
    """
    return parse(read_yaml(path), model, source=str(path))


def shipped(path: Path | str) -> Path:
    """A path below params/ of the working folder or, if that has no params/, of the checkout of this package."""
    path = Path(path)
    if path.is_absolute() or path.parts[:1] != ("params",) or Path("params").is_dir():
        return path
    return _CHECKOUT / path if (_CHECKOUT / path).exists() else path


def read_yaml(path: Path | str) -> Any:
    """The value of a YAML or JSON file.

    Raises:
        ConfigError: if the file is missing or is not YAML.
    """
    path = shipped(path)
    try:
        return yaml.load(read_text(path), Loader=_LOADER)
    except FileNotFoundError as error:
        names = sorted(p.name for p in path.parent.glob("*.yaml"))
        hint = f"; there are {', '.join(names)}" if names else ""
        raise ConfigError(f"there is no parameter file {path}{hint}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def parse(value: Any, model: type[Model], *, source: str) -> Model:
    """Validate a plain value; `source` is named in errors.

    Raises:
        ConfigError: in one sentence per mistake.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{source} must be a mapping of keys, not {type(value).__name__}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_explain(e, model) for e in error.errors(include_url=False)]
        raise ConfigError(f"{source}: " + "; ".join(dict.fromkeys(lines))) from error


def load_study(path: Path | str) -> Study:
    """Read params/studies/<study>.yaml (or its resolved JSON)."""
    return load(path, Study)


def load_method(name: str, *, root: Path | str = "params") -> MethodParams:
    """Read params/methods/<name>.yaml."""
    return _named(Path(root) / "methods", name, MethodParams, "method")


def load_benchmark(name: str, *, root: Path | str = "params") -> BenchmarkParams:
    """Read params/protocols/<name>.yaml."""
    return _named(Path(root) / "protocols", name, BenchmarkParams, "benchmark")


def _named(folder: Path, name: str, model: type[Model], what: str) -> Model:
    folder = shipped(folder)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in sorted(folder.glob("*.yaml"))]
        raise ConfigError(f"there is no {what} '{name}' in {folder}: {nearest(name, known)}")
    return load(path, model)


def _explain(error: Any, model: type[Strict]) -> str:
    location = [part for part in error["loc"] if part != "[key]"]
    dotted = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        fields = owner.model_fields if owner is not None else {}
        return f"unknown key '{dotted}': {nearest(str(location[-1]), fields)}"
    if error["type"] == "missing":
        return f"key '{dotted}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"key '{dotted}': {message}{shown}" if dotted else message


def _model_at(model: Any, location: list[Any]) -> type[Strict] | None:
    """The parameter model that owns the keys at a location such as ("sizes", "mini", "stages")."""
    current = model
    for part in location:
        current = _bare(current)
        if isinstance(current, type) and issubclass(current, Strict):
            field = current.model_fields.get(part)
            if field is None:
                return None
            current = field.annotation
        else:  # a key of a dictionary or an index of a tuple
            arguments = get_args(current)
            if not arguments:
                return None
            current = arguments[1] if get_origin(current) is dict else arguments[0]
    current = _bare(current)
    return current if isinstance(current, type) and issubclass(current, Strict) else None


def _bare(annotation: Any) -> Any:
    """An annotation without Annotated[...] and without "| None"."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        else:
            return annotation
