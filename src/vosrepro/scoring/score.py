"""The outcome of scoring: counts, a table per object, the global numbers, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vosrepro.base.files import atomic, csv_text, write_text
from vosrepro.scoring.counting.counting import COUNTS
from vosrepro.scoring.counting.selection import ObjectCounts
from vosrepro.scoring.measures import contour_accuracy, region_similarity, statistics
from vosrepro.study.paths import ENTRY_SCORE, ENTRY_TABLE

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
GLOBAL = ("J&F-Mean", *MEASURES)


class ObjectScore(NamedTuple):
    """One row of the table: statistics of J and F over the object's scored frames.

    Attributes:
        sequence: its sequence.
        object_id: its id.
        frames: number of scored frames.
        values: in the order of `MEASURES`.
        group: "seen" or "unseen" where the protocol asks for categories, else "".
    """

    sequence: str
    object_id: int
    frames: int
    values: tuple[float, ...]
    group: str = ""


class Score:
    """Scores of one set of results by one protocol.

    Attributes:
        protocol: its name.
        parts: counts of each object's scored frames.
        rows: one `ObjectScore` per object, in the order of `parts`.
        global_: means over objects, values in 0..1 (decay in -1..1): "J&F-Mean" and `MEASURES`; with
            categories also "J_seen", "F_seen", "J_unseen", "F_unseen" where a group has objects, and "G",
            their mean, where both have.
        warnings: sentences that belong beside the numbers.
    """

    def __init__(
        self,
        protocol: str,
        parts: Sequence[ObjectCounts],
        *,
        groups: Mapping[tuple[str, int], str] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.protocol = protocol
        self.parts = tuple(parts)
        self.rows = tuple(
            _object_score(part, (groups or {}).get((part.sequence, part.object_id), "")) for part in self.parts
        )
        self.global_ = _global(self.rows)
        self.warnings = (*warnings, *_long_sequences(self.rows))

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the scored sequences."""
        return tuple(dict.fromkeys(row.sequence for row in self.rows))

    @property
    def frames(self) -> int:
        """Number of scored frames, each counted once per sequence."""
        return len({(part.sequence, frame) for part in self.parts for frame in part.frames})

    def per_frame(self, sequence: str, object_id: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Frame names, J and F (float64) of one object.

        Raises:
            KeyError: if it was not scored.
        """
        for part in self.parts:
            if (part.sequence, part.object_id) == (sequence, object_id):
                return part.frames, region_similarity(part.counts), contour_accuracy(part.counts)
        raise KeyError((sequence, object_id))

    def columns(self) -> dict[str, Any]:
        """The counts as columns, one row per sequence, object and frame."""
        lengths = [len(part.frames) for part in self.parts]
        counts = np.concatenate([part.counts for part in self.parts]).astype(np.int32)
        sizes = np.concatenate([part.sizes for part in self.parts]).astype(np.int32)
        return {
            "sequence": [p.sequence for p, n in zip(self.parts, lengths, strict=True) for _ in range(n)],
            "object": np.repeat([part.object_id for part in self.parts], lengths).astype(np.int32),
            "frame": [frame for part in self.parts for frame in part.frames],
            **{name: np.ascontiguousarray(counts[:, k]) for k, name in enumerate(COUNTS)},
            "H": np.ascontiguousarray(sizes[:, 0]),
            "W": np.ascontiguousarray(sizes[:, 1]),
        }

    @cached_property
    def counts(self) -> pd.DataFrame:
        """`columns` as a table."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row per object: sequence, object, frames, and the statistics of J and F."""
        import pandas as pd

        return pd.DataFrame(self.table(), columns=list(self.header()))

    def header(self) -> tuple[str, ...]:
        """Column names of `table`."""
        group = ("group",) if any(row.group for row in self.rows) else ()
        return ("sequence", "object", "frames", *MEASURES, *group)

    def table(self) -> list[tuple[Any, ...]]:
        """Rows of scores.csv."""
        grouped = "group" in self.header()
        return [(r.sequence, r.object_id, r.frames, *r.values, *((r.group,) if grouped else ())) for r in self.rows]

    def write(self, folder: Path | str, *, extra: Mapping[str, Any] | None = None, split: str = "val") -> None:
        """Write counts.parquet, scores.csv, the official tables, and score.json (last).

        Args:
            folder: created if need be.
            extra: further keys of score.json, such as provenance.
            split: part of the official file names: global_results-<split>.csv and
                per-sequence_results-<split>.csv.
        """
        from vosrepro.study.records import ScoreRecord

        folder = Path(folder)
        self._write_counts(folder)
        write_text(folder / ENTRY_TABLE, csv_text([self.header(), *self.table()]))
        write_text(folder / f"global_results-{split}.csv", self.official_global())
        write_text(folder / f"per-sequence_results-{split}.csv", self.official_objects())
        ScoreRecord.model_validate(self.summary() | dict(extra or {})).write(folder / ENTRY_SCORE)

    def summary(self) -> dict[str, Any]:
        """What score.json holds."""
        return {
            "protocol": self.protocol,
            "global": self.global_,
            "objects": len(self.rows),
            "sequences": len(self.sequences),
            "frames": self.frames,
            "warnings": list(self.warnings),
        }

    def official_global(self) -> str:
        """global_results-<split>.csv of the official tool."""
        return csv_text([GLOBAL, [f"{self.global_[name]:.3f}" for name in GLOBAL]])

    def official_objects(self) -> str:
        """per-sequence_results-<split>.csv of the official tool: one row per object."""
        rows = [(f"{r.sequence}_{r.object_id}", f"{r.values[0]:.3f}", f"{r.values[3]:.3f}") for r in self.rows]
        return csv_text([("Sequence", "J-Mean", "F-Mean"), *rows])

    def _write_counts(self, folder: Path) -> None:

        columns = self.columns()
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            import logging

            logging.getLogger(__name__).warning(
                "pyarrow is not installed: counts go to counts.csv instead of counts.parquet"
            )
            rows = zip(*columns.values(), strict=True)
            write_text(folder / "counts.csv", csv_text([tuple(columns), *rows]))
            return
        table = pa.table(
            {
                name: pa.array(map(_utf8, values)).dictionary_encode() if isinstance(values, list) else values
                for name, values in columns.items()
            }
        )
        with atomic(folder / "counts.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")


def _object_score(part: ObjectCounts, group: str) -> ObjectScore:
    values = (
        *statistics(region_similarity(part.counts)),
        *statistics(contour_accuracy(part.counts)),
    )
    return ObjectScore(part.sequence, part.object_id, len(part.frames), values, group)


def _global(rows: Sequence[ObjectScore]) -> dict[str, float]:
    """Unweighted means over objects."""
    values = np.array([row.values for row in rows])
    means = {name: float(np.mean(values[:, k])) for k, name in enumerate(MEASURES)}
    result = {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2.0, **means}
    for group in ("seen", "unseen"):
        members = np.array([row.group == group for row in rows])
        if members.any():
            result[f"J_{group}"] = float(np.mean(values[members, 0]))
            result[f"F_{group}"] = float(np.mean(values[members, 3]))
    parts = [f"{measure}_{group}" for group in ("seen", "unseen") for measure in "JF"]
    if all(part in result for part in parts):
        result["G"] = float(np.mean([result[part] for part in parts]))
    return result


def _long_sequences(rows: Sequence[ObjectScore]) -> list[str]:
    long = sorted({row.sequence for row in rows if row.frames > 255})
    if not long:
        return []
    return [
        f"{len(long)} sequence(s) have more than 255 scored frames ({', '.join(long[:3])}): the official "
        "tool's decay overflows there; ours uses wide integers"
    ]


def _utf8(name: Any) -> Any:
    """A name as Parquet takes it; of one that is not UTF-8 the foreign bytes become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(name, str) else name
