"""Released checkpoints and result masks: where people get them, where they put them, and under which licence.

params/released.yaml holds the facts; nothing is downloaded, since every file lies behind a web page of a
file-sharing site, and several have no licence that allows passing them on.
"""

from __future__ import annotations

from pathlib import Path

from vosrepro.base.errors import ConfigError
from vosrepro.study.params import Name, Strict, parse, read_yaml
from vosrepro.study.paths import released_masks, released_weights

#: Endings under which a released file may lie at weights/<method>/<recipe>.
ENDINGS = (".pth", ".pt", ".pth.tar", ".bin")


class Obtained(Strict):
    """Something that authors released and a person downloads.

    Attributes:
        file: its name as released.
        obtain: where a person gets it.
        licence: under which its repository stands; weights and masks rarely state their own.
        sha256: if anyone has published it, or of the masks that we looked at.
        note: what a user should know.
    """

    file: str
    obtain: str
    licence: str
    sha256: str | None = None
    note: str = ""


class ReleasedFile(Obtained):
    """One checkpoint."""


class MaskSet(Obtained):
    """Result masks on one benchmark: a zip, or the folder that it holds.

    Attributes:
        masks: the benchmark.
    """

    masks: Name


class Unavailable(Strict):
    """A published system whose weights cannot be imported."""

    unavailable: str


class Released(Strict):
    """params/released.yaml: method -> recipe -> file, or why there is none."""

    methods: dict[Name, dict[Name, MaskSet | ReleasedFile | Unavailable]]

    def file(self, method: str, recipe: str) -> ReleasedFile | None:
        """The released checkpoint of a recipe, if there is one."""
        found = self.methods.get(method, {}).get(recipe)
        return found if isinstance(found, ReleasedFile) else None

    def masks(self, method: str, recipe: str) -> MaskSet:
        """The masks of a recipe that takes masks.

        Raises:
            ConfigError: if the list does not name them.
        """
        found = self.methods.get(method, {}).get(recipe)
        if not isinstance(found, MaskSet):
            raise ConfigError(
                f"params/released.yaml names no masks of {method}/{recipe}, whose weights are 'masks': add an entry "
                "with file, obtain, licence and masks (the benchmark)"
            )
        return found


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


def how_to_get_checkpoint(method: str, recipe: str, released: Released) -> str:
    """A sentence on where to download a checkpoint and where to put it."""
    place = released_weights(method, recipe)
    file = released.file(method, recipe)
    if file is None:
        return f"put the released file at {place}"
    return f"download {file.file} ({file.obtain}; licence: {file.licence}) and put it at {place}"


def masks_file(root: Path | str | None, masks: MaskSet) -> Path | None:
    """The folder or zip that a person put into the folder of masks, or None."""
    return next((path for path in released_masks(root, masks.file) if path.exists()), None)


def how_to_get_masks(root: Path | str | None, masks: MaskSet) -> str:
    """A sentence on where to download masks and where to put them."""
    folder, archive = released_masks(root, masks.file)
    where = f"{masks.obtain}; licence: {masks.licence}"
    return f"download {masks.file} ({where}) and put it at {archive}, or extract it to {folder}"
