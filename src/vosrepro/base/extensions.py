"""Methods that other installed packages bring, by entry points of the group `vosrepro.methods`.

A package declares `mine = "my_package:METHOD"` in that group; `methods/README.md` says what else belongs to a method.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec

GROUP = "vosrepro.methods"


def foreign_methods() -> dict[str, str]:
    """Name -> "package:attribute" of the card, of all methods that other packages bring."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def method_module(name: str) -> str:
    """The package that holds a method: ours if there is one, as in `vosrepro.methods`."""
    ours = f"{GROUP}.{name}"
    if find_spec(ours) is not None:
        return ours
    return foreign_methods().get(name, ours).partition(":")[0]
