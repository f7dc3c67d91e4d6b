"""Our code on key-seeded weights against recorded outputs of the original code: one table of rules a method.

`<method>.py` has the table `RULES`, and `<method>_plain.py` may have `PlainSegmenter`, the same mathematics without a
shortcut: the yardstick of tests and benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.types import ParityRow, Segmenter
from vosrepro.lab.parity.rules import ParityReport, Rule, compare_arrays
from vosrepro.methods import REGISTRY, get_method


def compared_methods() -> list[str]:
    """Methods that have an original to be compared with."""
    return [name for name in REGISTRY if find_spec(f"{__name__}.{name}")]


def compare_recording(method: str, arrays: Mapping[str, Any]) -> ParityReport:
    """Account for every array of a recording of the method's original.

    Raises:
        ConfigError: if there is no such method, or none to compare it with.
        DataError: if the recording is another method's, or holds nothing that can be compared.
    """
    rules = _rules(method)
    known = _known(rules, arrays)
    if known < len(arrays):
        others = {other: _known(_rules(other), arrays) for other in compared_methods()}
        best = max(others, key=lambda other: others[other])
        if others[best] > known:
            raise DataError(
                f"this is no recording of {method}, which knows {known} of its {len(arrays)} arrays, but one of "
                f"{best}, which knows {others[best]}: call `vosrepro parity {best}`"
            )
    report = compare_arrays(rules, arrays)
    if not report.rows:
        lacking = next(iter(report.lacking.items()), None)
        why = f" ('{lacking[0]}' lacks {lacking[1]})" if lacking else ""
        raise DataError(f"this file holds no array that {method} knows how to compare{why}: is it its recording?")
    return report


def get_parity(method: str) -> Callable[[Mapping[str, Any]], list[ParityRow]]:
    """`parity(arrays) -> rows` of a method; `arrays` as loaded from the .npz.

    Raises:
        ConfigError: if there is no such method, or none to compare it with.
    """
    rules = _rules(method)
    return lambda arrays: compare_arrays(rules, arrays).rows


def get_plain(method: str) -> Callable[..., Segmenter] | None:
    """The plain form of a method's segmenter, if it has one."""
    module = f"{__name__}.{method}_plain"
    return import_module(module).PlainSegmenter if find_spec(module) else None


def _rules(method: str) -> tuple[Rule, ...]:
    get_method(method)  # a misspelt name is explained there
    if method not in compared_methods():
        raise ConfigError(f"method '{method}' has no original to be compared with")
    return import_module(f"{__name__}.{method}").RULES


def _known(rules: tuple[Rule, ...], arrays: Mapping[str, Any]) -> int:
    return sum(any(rule.compiled.fullmatch(name) for rule in rules) for name in arrays)
