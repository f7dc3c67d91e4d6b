"""Our code on key-seeded weights against recorded outputs of the original code: one module a method.

`<method>.py` has `parity(arrays) -> rows`, and `<method>_plain.py` may have `PlainSegmenter`, the same mathematics
without a shortcut: the yardstick of tests and benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import ParityRow, Segmenter
from vosrepro.methods import REGISTRY, get_method


def compared() -> list[str]:
    """Methods that have an original to be compared with."""
    return [name for name in REGISTRY if find_spec(f"{__name__}.{name}")]


def get_parity(method: str) -> Callable[[Mapping[str, Any]], list[ParityRow]]:
    """`parity(arrays) -> rows` of a method; `arrays` as loaded from the .npz.

    Raises:
        ConfigError: if there is no such method, or none to compare it with.
    """
    get_method(method)  # a misspelt name is explained there
    if method not in compared():
        raise ConfigError(f"method '{method}' has no original to be compared with")
    return import_module(f"{__name__}.{method}").parity


def get_plain(method: str) -> Callable[..., Segmenter] | None:
    """The plain form of a method's segmenter, if it has one."""
    module = f"{__name__}.{method}_plain"
    return import_module(module).PlainSegmenter if find_spec(module) else None
