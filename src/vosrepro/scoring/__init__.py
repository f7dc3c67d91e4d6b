"""Exact, fast scoring of video object segmentation: counts, protocols, statistics, submissions.

Needs numpy only; Pillow for unusual PNGs, isal for speed, pyarrow for counts.parquet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vosrepro.scoring.score import Score
    from vosrepro.scoring.scorer import score_arrays, score_folder

__all__ = ["Score", "score_arrays", "score_folder"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `vosrepro score --help` does not wait for numpy."""
    if name == "Score":
        from vosrepro.scoring.score import Score

        return Score
    if name in __all__:
        from vosrepro.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
