"""The registry of methods: an explicit table, imported lazily, and what other packages add to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vosrepro.base.errors import ConfigError, nearest
from vosrepro.base.extensions import foreign_methods

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
    place = REGISTRY.get(name) or foreign_methods().get(name)
    if place is None:
        raise ConfigError(f"there is no method '{name}': {nearest(name, {**REGISTRY, **foreign_methods()})}")
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
