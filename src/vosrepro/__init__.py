"""A reproduction study of six semi-supervised video object segmentation systems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vosrepro.reporting.results import results as results

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`vosrepro.results("mini")`: the results of a study as data frames, without importing more than that takes."""
    if name != "results":
        raise AttributeError(f"module 'vosrepro' has no attribute '{name}'")
    from importlib import import_module  # by name: what computes results does not depend on how they are read

    return import_module("vosrepro.reporting.results").results
