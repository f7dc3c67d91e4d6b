"""The results of a study as tidy pandas data frames, from the files of its folder alone.

One row is one observation, and its first columns say of which entry: method, recipe, seed, and where they apply
variant and benchmark. Scores are points (0 to 100), times seconds, memory MB. What is missing gives no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError, nearest
from vosrepro.scoring.counting.counting import COUNTS
from vosrepro.scoring.measures import contour_accuracy, region_similarity
from vosrepro.study import paths
from vosrepro.study.records import InferenceRecord, ScoreRecord
from vosrepro.tracking.journal import read_events

#: A pandas.DataFrame; its own annotations tell a checker of unions that never occur.
DataFrame = Any
RUN = ("method", "recipe", "seed")
STAGE = (*RUN, "stage")
ENTRY = (*RUN, "variant", "benchmark")
#: The frames of a study, by the names of their properties.
FRAMES = ("scores", "sequences", "frames", "training", "selection", "timing")


def read_results(study: str | Path) -> Results:
    """The results of a study.

    Args:
        study: its name, whose folder in results/ of the working directory is read; or the folder itself, e.g. of
            another checkout.

    Raises:
        DataError: if there is no such folder.
    """
    folder = Path(study) if Path(study).is_dir() else paths.study_folder(str(study))
    if not folder.is_dir():
        known = sorted(p.name for p in paths.RESULTS.glob("*") if p.is_dir())
        raise DataError(f"there are no results of '{study}' ({folder}): {nearest(str(study), known)}")
    return Results(folder)


class Results:
    """Data frames of one study, each read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def study(self) -> str:
        """Its name."""
        return self.folder.resolve().name

    @cached_property
    def scores(self) -> DataFrame:
        """One row per entry and metric: `value`."""
        rows = [
            {**key, "metric": metric, "value": 100 * value}
            for key, path in self._entries(paths.ENTRY_SCORE)
            for metric, value in (ScoreRecord.read(path).global_ or {}).items()
        ]
        return _frame(rows, (*ENTRY, "metric", "value"))

    @cached_property
    def sequences(self) -> DataFrame:
        """One row per entry, sequence and object: frames, J, F and J&F, recalls and decays."""
        return self._tables(paths.ENTRY_TABLE, ENTRY, ("sequence", "object", "frames"))

    @cached_property
    def frames(self) -> DataFrame:
        """One row per entry, sequence, object and frame: J and F."""
        import pandas as pd

        parts = []
        for key, path in self._entries("counts.parquet"):
            counts = pd.read_parquet(path)
            integers = counts.loc[:, list(COUNTS)].to_numpy()
            part = counts.loc[:, ["sequence", "object", "frame"]]
            part = part.assign(J=100 * region_similarity(integers), F=100 * contour_accuracy(integers))
            parts.append(_keyed(part, key))
        return _joined(parts, (*ENTRY, "sequence", "object", "frame", "J", "F"))

    @cached_property
    def training(self) -> DataFrame:
        """One row per stage, step and logged quantity: `value`."""
        rows = [
            {**key, "step": int(event["step"]), "quantity": name, "value": value}
            for key, path in self.files(paths.STAGE_METRICS, STAGE)
            for event in read_events(path)
            if event.get("event") == "metrics"
            for name, value in event.get("metrics", {}).items()
        ]
        return _frame(rows, (*STAGE, "step", "quantity", "value"))

    @cached_property
    def selection(self) -> DataFrame:
        """One row per checkpoint that competed: its scores on held-out videos, whether selected, whether the last."""
        return self._tables(paths.SELECTION_TABLE, RUN, ("step", "selected", "last"))

    @cached_property
    def timing(self) -> DataFrame:
        """One row per entry: frames per second by every convention, seconds, memory, device."""
        rows = []
        for key, path in self._entries(paths.ENTRY_INFERENCE):
            record = InferenceRecord.read(path)
            memory, seconds = record.memory.peak_mb or None, record.wall_seconds
            speed = record.timing.model_dump()
            rows.append({**key, **speed, "wall_seconds": seconds, "memory_mb": memory, "device": record.device})
        return _frame(rows, (*ENTRY, "fps_amortised", "wall_seconds", "memory_mb", "device"))

    def _entries(self, name: str) -> Iterator[tuple[dict[str, Any], Path]]:
        yield from self.files(name, ENTRY)

    def files(self, name: str, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], Path]]:
        """Key columns and path of every file of a name that lies as deep as its key."""
        for path in sorted(self.folder.glob("/".join(["*"] * len(columns)) + f"/{name}")):
            key: dict[str, Any] = dict(zip(columns, path.relative_to(self.folder).parts, strict=False))
            seed = key["seed"].removeprefix("seed")
            if seed.isdecimal():
                yield {**key, "seed": int(seed)}, path

    def _tables(self, name: str, columns: tuple[str, ...], named: tuple[str, ...]) -> DataFrame:
        """CSV files below each other, what is no name in points; those without the names are of other things."""
        import pandas as pd

        parts = []
        for key, path in self.files(name, columns):
            try:
                table = pd.read_csv(path)
            except (ValueError, OSError) as error:
                raise DataError(f"{path} cannot be read ({error}): make it again") from error
            if set(named) <= set(table):
                values = 100 * table.drop(columns=list(named))
                if {"J-Mean", "F-Mean"} <= set(values) and "J&F-Mean" not in values:
                    values.insert(0, "J&F-Mean", (values["J-Mean"] + values["F-Mean"]) / 2)
                parts.append(_keyed(pd.concat([table[list(named)], values], axis=1), key))
        return _joined(parts, (*columns, *named))


def _keyed(table: DataFrame, key: dict[str, Any]) -> DataFrame:
    for place, (name, value) in enumerate(key.items()):
        table.insert(place, name, value)
    return table


def _joined(parts: list[DataFrame], columns: tuple[str, ...]) -> DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> DataFrame:
    """Rows as a frame that has at least some columns, and those first."""
    import pandas as pd

    if not rows:
        return pd.DataFrame(columns=list(columns))
    found = pd.DataFrame(rows)
    return found[[*columns, *(name for name in found if name not in columns)]]
