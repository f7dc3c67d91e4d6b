"""The registry of methods: an explicit table, imported lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vosrepro.base.errors import ConfigError, nearest

if TYPE_CHECKING:
    from vosrepro.base.types import Method

#: The floor that every trained method is compared with: the first mask, repeated.
FLOOR = "copy"

REGISTRY: dict[str, str] = {
    "copy": "vosrepro.methods.copy:METHOD",
    "flow": "vosrepro.methods.flow:METHOD",
    "pml": "vosrepro.methods.pml:METHOD",
    "stm": "vosrepro.methods.stm:METHOD",
    "frtm": "vosrepro.methods.frtm:METHOD",
    "mtmfi": "vosrepro.methods.mtmfi:METHOD",
    "gfrtm": "vosrepro.methods.gfrtm:METHOD",
    "parts": "vosrepro.methods.parts:METHOD",
}


def get_method(name: str) -> Method:
    """Import and return a method's card.

    Raises:
        ConfigError: if no method has this name.
    """
    if name not in REGISTRY:
        raise ConfigError(f"there is no method '{name}': {nearest(name, REGISTRY)}")
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(import_module(module), attribute)
