"""Released checkpoints: where people get them, where they put them, and under which licence.

params/released.yaml holds the facts; nothing is downloaded, since every file lies behind a web page of a
file-sharing site, and several have no licence that allows passing them on.
"""

from __future__ import annotations

from pathlib import Path

from vosrepro.study.params import Name, Strict, parse, read_yaml
from vosrepro.study.paths import released_weights

#: Endings under which a released file may lie at weights/<method>/<recipe>.
ENDINGS = (".pth", ".pt", ".pth.tar", ".bin")


class ReleasedFile(Strict):
    """One checkpoint that authors released.

    Attributes:
        file: its name as released.
        obtain: where a person gets it.
        licence: under which its repository stands; weights rarely state their own.
        sha256: if anyone has published it.
        note: what a user should know.
    """

    file: str
    obtain: str
    licence: str
    sha256: str | None = None
    note: str = ""


class Unavailable(Strict):
    """A published system whose weights cannot be imported."""

    unavailable: str


class Released(Strict):
    """params/released.yaml: method -> recipe -> file, or why there is none."""

    methods: dict[Name, dict[Name, ReleasedFile | Unavailable]]

    def file(self, method: str, recipe: str) -> ReleasedFile | None:
        """The released checkpoint of a recipe, if there is one."""
        found = self.methods.get(method, {}).get(recipe)
        return found if isinstance(found, ReleasedFile) else None


def load_released(path: Path | str = "params/released.yaml") -> Released:
    """Read the list of released checkpoints.

    Raises:
        ConfigError: if the file is missing or malformed.
    """
    return parse({"methods": read_yaml(path)}, Released, source=str(path))


def released_file(method: str, recipe: str) -> Path | None:
    """The released checkpoint that a person put beside it, or None."""
    found = (released_weights(method, recipe, ending) for ending in ENDINGS)
    return next((path for path in found if path.is_file()), None)


def how_to_get(method: str, recipe: str, released: Released) -> str:
    """A sentence on where to download a checkpoint and where to put it."""
    place = released_weights(method, recipe)
    file = released.file(method, recipe)
    if file is None:
        return f"put the released file at {place}"
    return f"download {file.file} ({file.obtain}; licence: {file.licence}) and put it at {place}"
