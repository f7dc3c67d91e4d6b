"""What a method can say of a recording: a table of array names, inputs, checks and tolerances, and its engine.

A rule names arrays by a pattern, whose groups are the facts in the name (the scene, the object, the variant); all
other facts come from the recording. Each array of a file then is compared, is an input of what was compared, cannot
be made (and the row says what it lacks), is informative only, or is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch

from vosrepro.base.errors import DataError
from vosrepro.base.types import ParityRow

T = TypeVar("T")
Groups = dict[str, str]
#: How an array of a file is accounted for.
ArrayKind = Literal["compared", "input", "cannot be made", "informative", "not known"]


class Lacks(Exception):
    """A comparison needs something that the recording does not have; the text names it."""


class Recording:
    """The arrays of one file, what was read of them, and what was computed from them so far."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}
        self.used: set[str] = set()
        self._made: dict[Any, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise Lacks(name)
        self.used.add(name)
        return self.arrays[name]

    def get(self, name: str) -> np.ndarray | None:
        """An array, or None."""
        if name not in self.arrays:
            return None
        return self[name]

    def tensor(self, name: str) -> torch.Tensor:
        """An array as a tensor of its own."""
        return torch.from_numpy(np.array(self[name]))

    def number(self, name: str, group: str = "") -> float:
        """A setting: the group's own (`group` + `name`) if it is recorded, else the one of all."""
        key = f"{group}{name}"
        return float(self[key if key in self else name])

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` returns, or what it raised, computed at most once per key."""
        if key not in self._made:
            try:
                self._made[key] = (make(), None)
            except Exception as error:  # kept: every row that needs it says the same
                self._made[key] = (None, error)
        value, error = self._made[key]
        if error is not None:
            raise error
        return value

    def matches(self, pattern: str) -> Iterator[re.Match[str]]:
        """The names that match a pattern wholly."""
        compiled = re.compile(pattern)
        return (found for name in self.arrays if (found := compiled.fullmatch(name)))


class ArrayPair(NamedTuple):
    """Ours and theirs, where what is compared is not the whole array."""

    ours: Any
    theirs: Any


@dataclass(frozen=True)
class Measure:
    """How two arrays are compared.

    Attributes:
        unit: what the error counts.
        error: (ours, theirs) -> the error.
        rounding: (theirs, half a unit in the last place of 1) -> what storing the reference may cost.
    """

    unit: str
    error: Callable[[np.ndarray, np.ndarray], float]
    rounding: Callable[[np.ndarray, float], float] = lambda _, __: 0.0


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a == b, 0.0, np.abs(a - b))  # equal infinities do not differ; NaN stays NaN


def _largest(a: np.ndarray) -> float:
    return float(np.abs(a).max()) if a.size else 0.0


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(_difference(a, b).max()) / (_largest(b) or 1.0)


def _scaled(a: np.ndarray, b: np.ndarray) -> float:
    return float((_difference(a, b) / (np.abs(b) + max(_largest(b), 1e-6))).max())


ABSOLUTE = Measure("max abs", lambda a, b: float(_difference(a, b).max()), lambda b, half: half * _largest(b))
RELATIVE = Measure("max abs / max", _relative, lambda _, half: half)
SCALED = Measure("max of abs / (abs + max)", _scaled, lambda _, half: half)
CELLS = Measure("cells differ", lambda a, b: float((a != b).sum()))
SHARE = Measure("share of cells", lambda a, b: float((a != b).mean()))
LEVELS = Measure("mean abs", lambda a, b: float(_difference(a, b).mean()))


@dataclass(frozen=True)
class Rule:
    """How the arrays of a pattern are accounted for.

    Attributes:
        pattern: of the whole name; its named groups are handed to `make`.
        make: (recording, groups) -> our value of the array, or a `ArrayPair`; None for inputs.
        tolerance: of the error, for a reference that was not rounded; or one for each number type, of which
            "dtype" in the groups then tells `make`.
        measure: see `Measure`.
        title: of the row; "{array}" is the array's name.
        needs: names of recorded arrays, with groups in braces; `make` may find out about others.
        series: the recording may stop earlier than ours along the first axis.
        kind: "compared", "input" or "informative".
        late: a whole run, in which small differences grow: its row comes after the sharp ones.
        fallback: only for arrays of which no rule before made a row.
    """

    pattern: str
    make: Callable[[Recording, Groups], Any] | None = None
    tolerance: float | Mapping[str, float] = 0.0
    measure: Measure = ABSOLUTE
    title: str = "{array}"
    needs: tuple[str, ...] = ()
    series: bool = False
    kind: ArrayKind = "compared"
    late: bool = False
    fallback: bool = False

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern."""
        return re.compile(self.pattern)


def inputs(*patterns: str) -> tuple[Rule, ...]:
    """Rules for what only goes in."""
    return tuple(Rule(pattern, kind="input") for pattern in patterns)


def informative(*patterns: str) -> tuple[Rule, ...]:
    """Rules for what is there to be read, not to be met."""
    return tuple(Rule(pattern, kind="informative") for pattern in patterns)


@dataclass
class ParityReport:
    """The rows of a recording, and how each of its arrays is accounted for."""

    rows: list[ParityRow] = field(default_factory=list)
    kinds: dict[str, ArrayKind] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)

    def names(self, kind: ArrayKind) -> list[str]:
        """The arrays of one kind."""
        return [name for name, found in self.kinds.items() if found == kind]

    @property
    def passed(self) -> bool:
        """Whether something was compared, all of it agrees, and every array is known."""
        return bool(self.rows) and all(row.passed for row in self.rows) and not self.names("not known")


def compare_arrays(rules: Iterable[Rule], arrays: Mapping[str, Any]) -> ParityReport:
    """Account for every array of a recording.

    Raises:
        DataError: if an array does not hold numbers or text.
    """
    recording, rules, report = Recording(arrays), tuple(rules), ParityReport()
    for name, value in recording.arrays.items():
        if value.dtype.hasobject:
            raise DataError(f"array '{name}' holds Python objects: record arrays of numbers")
    sharp: list[ParityRow] = []
    late: list[ParityRow] = []
    for rule in rules:
        for name in recording.arrays:
            found = rule.compiled.fullmatch(name)
            if found is None:
                continue
            if rule.kind != "compared":
                if report.lacking.pop(name, None) is not None:
                    del report.kinds[name]  # it cannot be met, but others are made from it
                report.kinds.setdefault(name, rule.kind)
            elif not (rule.fallback and report.kinds.get(name) == "compared"):
                groups = {key: value or "" for key, value in found.groupdict().items()}
                rows = _rows(rule, recording, name, groups, report)
                (late if rule.late else sharp).extend(rows)
    report.rows = [*sharp, *late]
    for name in recording.arrays:
        kind = report.kinds.setdefault(name, "not known")
        if kind == "input" and name not in recording.used:
            report.kinds[name] = "informative"
    report.kinds = {name: report.kinds[name] for name in recording.arrays}
    return report


def _rows(rule: Rule, recording: Recording, name: str, groups: Groups, report: ParityReport) -> list[ParityRow]:
    tolerances = rule.tolerance if isinstance(rule.tolerance, Mapping) else {"": rule.tolerance}
    rows = []
    for dtype, tolerance in tolerances.items():
        title = rule.title.format(array=name, **groups) + (f" [{dtype}]" if dtype else "")
        try:
            for needed in rule.needs:
                recording[needed.format(**groups)]
            row = _row(rule, recording, name, title, tolerance, {**groups, "dtype": dtype})
        except Lacks as lack:
            if report.kinds.get(name) != "compared":
                report.kinds[name], report.lacking[name] = "cannot be made", str(lack)
            continue
        except Exception as error:  # whatever our code says to such an array is what the row says
            row = ParityRow(title, float("nan"), tolerance, f"{type(error).__name__}: {_line(error)}")
        report.kinds[name] = "compared"
        report.lacking.pop(name, None)
        rows.append(row)
    return rows


def _row(rule: Rule, recording: Recording, name: str, title: str, tolerance: float, groups: Groups) -> ParityRow:
    assert rule.make is not None
    made = rule.make(recording, groups)
    theirs = recording.arrays[name]
    stored = theirs.dtype
    if isinstance(made, ArrayPair):
        made, theirs = made
    ours, theirs = _numbers(made), _numbers(theirs)
    if rule.series and 0 < theirs.shape[0] < ours.shape[0]:
        ours = ours[: theirs.shape[0]]
    if ours.shape != theirs.shape:
        return ParityRow(title, float("nan"), tolerance, f"shape {ours.shape}, not {theirs.shape}")
    if not theirs.size:
        return ParityRow(title, 0.0, tolerance, "both are empty")
    half = float(np.finfo(stored).eps) / 2 if stored.kind == "f" else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        error = rule.measure.error(ours, theirs)
        allowed = tolerance + rule.measure.rounding(theirs, half)
    return ParityRow(title, error, allowed, rule.measure.unit)


def hard(mask: np.ndarray) -> np.ndarray:
    """A mask of 0 and any one other number as 0 and 1; a third number is neither."""
    largest = mask.max() if mask.size else 0
    return mask / largest if largest > 0 else mask


def _numbers(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().double().cpu().numpy()
    value = np.asarray(value)
    return value if value.dtype.kind in "US" else value.astype(np.float64)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
