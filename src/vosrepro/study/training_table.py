"""Published training beside ours, parameter by parameter: what is equal, what differs, and what nobody published.

params/published_training.csv holds one parameter of one or more stages a row. Its value is JSON, empty where
the authors published none; then ours is an assumption. A parameter is a path in the resolved stage ("steps",
"optimizer.lr", "data.min_labels", which lists that of each source), or one of `_OF_RUN`, which belong to the run
("selection", "input_short_side_px") or to the study ("devices"). Weights that were not trained here have no stages:
their rows name the recipe instead, and tell how it is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from vosrepro.base.errors import ConfigError
from vosrepro.study.params import Study, shipped
from vosrepro.study.plan import Run, StageNode
from vosrepro.study.published import read_rows

COLUMNS = ("method", "stages", "parameter", "value", "evidence", "source", "note", "moves")
#: How a value is known: read in the authors' code or README, following from both by counting, or not at all.
EVIDENCE = ("code", "readme", "derived", "none")
TABLE = Path("params/published_training.csv")
#: Stands for the stage of weights that were not trained here.
INFERENCE = "inference"

ValueVerdict = Literal["equal", "different", "assumed"]


@dataclass(frozen=True)
class PublishedValue:
    """One row of the table; `moves`: whether a difference may move a score by more than a verdict's margin."""

    method: str
    stages: tuple[str, ...]
    parameter: str
    value: Any
    evidence: str
    source: str
    note: str
    moves: bool


@dataclass(frozen=True)
class Compared:
    """One parameter of one stage of a run."""

    run: Run
    stage: str
    published: PublishedValue
    ours: Any
    verdict: ValueVerdict

    @property
    def published_shown(self) -> str:
        """The published value as a person reads it."""
        return "not published" if self.published.evidence == "none" else shown(self.published.value)

    @property
    def ours_shown(self) -> str:
        """Our value as a person reads it."""
        return shown(self.ours)

    @property
    def sentence(self) -> str:
        """The difference or assumption in words; empty where both are equal."""
        name = f"{self.run.method}/{self.run.recipe}, {self.stage}: {self.published.parameter}"
        note = f" ({self.published.note})" if self.published.note else ""
        if self.verdict == "different":
            return f"{name} is {shown(self.ours)}; published is {shown(self.published.value)}{note}."
        if self.verdict == "assumed":
            return f"{name} is {shown(self.ours)}, an assumption: nothing is published{note}."
        return ""


def compare_training(study: Study, run: Run, path: Path = TABLE) -> tuple[Compared, ...]:
    """Every row of the table that concerns a run, in the order of its stages.

    Raises:
        ConfigError: naming the line of a row that is malformed or whose parameter no stage has.
    """
    rows = [row for row in load_training(path) if row.method == run.method]
    found = []
    for node in run.stages:
        for row in rows:
            of_run = row.parameter in _OF_RUN and node is not run.stages[-1]
            if node.stage in row.stages and not of_run:
                found.append(_compared(study, run, node, row))
    if not run.stages:
        found.extend(_compared(study, run, None, row) for row in rows if run.recipe in row.stages)
    return tuple(found)


def load_training(path: Path = TABLE) -> tuple[PublishedValue, ...]:
    """Read the table; empty where there is none.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    return _loaded(shipped(path).absolute())  # the working directory may change


@lru_cache
def _loaded(path: Path) -> tuple[PublishedValue, ...]:
    if not path.is_file():
        return ()
    return tuple(_parse(row, f"{path}, line {line}") for line, row in read_rows(path, COLUMNS))


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return "[" + ", ".join("-" if v is None else shown(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parse(row: Mapping[str, str], where: str) -> PublishedValue:
    if row["evidence"] not in EVIDENCE:
        raise ConfigError(f"{where}: unknown evidence '{row['evidence']}': known are {', '.join(EVIDENCE)}")
    if row["moves"] not in ("yes", "no"):
        raise ConfigError(f"{where}: moves is '{row['moves']}': write yes or no")
    if (row["evidence"] == "none") != (row["value"] == ""):
        raise ConfigError(f"{where}: a value needs evidence, and 'none' is that of an empty value")
    try:
        value = json.loads(row["value"]) if row["value"] else None
    except ValueError as error:
        raise ConfigError(f"{where}: value {row['value']} is not JSON ({error}): quote names") from error
    return PublishedValue(
        row["method"],
        tuple(row["stages"].split()),
        row["parameter"],
        value,
        row["evidence"],
        row["source"],
        row["note"],
        row["moves"] == "yes",
    )


_OF_RUN: Mapping[str, Callable[[Study, Run], Any]] = {
    "selection": lambda _, run: run.params.selection,
    "devices": lambda study, _: study.gpus_per_training,
    "input_short_side_px": lambda _, run: run.size.input_short_side_px,
}


def _compared(study: Study, run: Run, node: StageNode | None, row: PublishedValue) -> Compared:
    if row.parameter in _OF_RUN:
        ours = _OF_RUN[row.parameter](study, run)
    elif node is None:
        raise ConfigError(f"{TABLE}: {run.method}/{run.recipe} has no stage with '{row.parameter}': correct the row")
    else:
        ours = _at(node, row.parameter)
    verdict: ValueVerdict = "assumed" if row.evidence == "none" else "equal" if ours == row.value else "different"
    return Compared(run, node.stage if node else INFERENCE, row, ours, verdict)


def _at(node: StageNode, parameter: str) -> Any:
    """The value at a path of a stage, in the types of JSON.

    Raises:
        ConfigError: if the stage has no such parameter.
    """
    values: dict[str, Any] = {**node.params.model_dump(mode="json"), "model": dict(node.model)}
    head, *rest = parameter.split(".")
    if head == "data" and rest:
        return [source[rest[0]] for source in values["data"]]
    found: Any = values
    for part in (head, *rest):
        if not isinstance(found, Mapping) or (part not in found and part not in _DEFAULTED):
            raise ConfigError(f"{TABLE}: {node.method}/{node.stage} has no parameter '{parameter}': correct the row")
        found = found.get(part)
    return json.loads(json.dumps(found))


#: Free-form arguments that a stage may leave to the default of their code, which the table then shows as none.
_DEFAULTED = ("interpolation", "bn", "bn_momentum", "bn_images")


def named_deviations(study: Study, run: Run, path: Path = TABLE) -> tuple[tuple[str, bool], ...]:
    """What differs from the published training of a run, in sentences, each with whether it may move a score.

    One more sentence names all that is assumed.
    """
    rows = compare_training(study, run, path)
    found = [(row.sentence, row.published.moves) for row in rows if row.verdict == "different"]
    assumed = dict.fromkeys(row.published.parameter for row in rows if row.verdict == "assumed")
    if assumed:
        of = f"{'the training of ' if run.stages else ''}{run.method}/{run.recipe}"
        found.append((f"Of {of} these were not published, ours are assumptions: {', '.join(assumed)}.", False))
    return tuple(dict.fromkeys(found))
