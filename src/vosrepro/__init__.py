"""A reproduction study of six semi-supervised video object segmentation systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vosrepro.reporting.results import Results

__version__ = "0.1.0"


def results(study: str | Path) -> Results:
    """The results of a study as data frames; see `vosrepro.reporting.results.read_results`, imported when called."""
    from importlib import import_module  # by name: what computes results does not depend on how they are read

    return import_module("vosrepro.reporting.results").read_results(study)
