"""Our code on key-seeded weights against recorded outputs of the original code: one module a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import ParityRow
from vosrepro.methods import get_method

#: Methods that have an original, and the module that compares them with its recordings.
COMPARED = {name: f"vosrepro.lab.parity.{name}" for name in ("stm", "pml", "frtm", "mtmfi", "gfrtm", "parts")}


def get_parity(method: str) -> Callable[[Mapping[str, Any]], list[ParityRow]]:
    """`parity(arrays) -> rows` of a method; `arrays` as loaded from the .npz.

    Raises:
        ConfigError: if there is no such method, or none to compare it with.
    """
    get_method(method)  # a misspelt name is explained there
    if method not in COMPARED:
        raise ConfigError(f"method '{method}' has no original to be compared with")
    return import_module(COMPARED[method]).parity
