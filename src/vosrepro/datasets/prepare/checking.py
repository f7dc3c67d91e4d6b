"""Looking at every file of a part, video by video, so that memory does not grow with the set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError
from vosrepro.base.labels import read_labels
from vosrepro.datasets.prepare.inventory import Inventory, Pair, take_inventory
from vosrepro.datasets.prepare.listing import FileLine, Listing
from vosrepro.datasets.sets.boxes import read_boxes
from vosrepro.datasets.sets.image_files import Defect, image_size
from vosrepro.datasets.sets.video import object_labels
from vosrepro.study.params import DataParams

#: Parts up to this size are read whole; of larger ones sizes are noted and some files are read.
READ_WHOLE_BYTES = 512 * 2**20
_SAMPLES = 200  # image and mask pairs, at least, that are read of a part too large to be read whole


def check_part(part: str, data: DataParams, listing: Listing, *, full: bool) -> tuple[dict[str, Any], list[str]]:
    """Check a part of the data and add its folders to a listing.

    Args:
        part: a key of `vosrepro.datasets.prepare.inventory.PARTS`.
        data: where the sets lie.
        listing: gets the folders.
        full: read every file, however large the part is.

    Returns:
        What `vosrepro.datasets.prepare.verification.verify` says of a part, and a sentence per defect.

    Raises:
        DataError: if the part's folder or list is missing.
    """
    look = _Look(part, content=full)
    look.over(data)
    if full:
        pass
    elif look.bytes <= READ_WHOLE_BYTES:
        look = _Look(part, content=True)
        look.over(data)
    else:
        look.read_samples()
    listing.update(look.listing)
    return look.facts(), look.defects


@dataclass
class _Look:
    """One pass over a part: by sizes alone, or with every file read."""

    part: str
    content: bool
    listing: Listing = field(default_factory=Listing)
    defects: list[str] = field(default_factory=list)
    folder: Path | None = None
    videos: int = 0
    frames: int = 0
    masks: int = 0
    files: int = 0
    bytes: int = 0
    samples: list[Pair] = field(default_factory=list)
    first_masks: list[tuple[Path, bool]] = field(default_factory=list)  # with "binary"
    _stride: int = 1

    def over(self, data: DataParams) -> None:
        for inventory in take_inventory(self.part, data):
            self.folder = self.folder or inventory.folder
            self.videos += inventory.videos
            self._add(inventory)

    def _add(self, inventory: Inventory) -> None:
        reading = _Reading(defects=[*inventory.defects])
        lengths = reading.lengths(inventory.files())
        if self.content:
            for path, length in lengths.items():
                if length:
                    reading.read(path)
            reading.compare_sizes(inventory.pairs)
        for path in inventory.first_masks:
            if self.content and path in reading.sizes:
                reading.look_for_objects(path, binary=inventory.binary)
            elif not self.content and lengths.get(path):
                self.first_masks.append((path, inventory.binary))
        lines: list[FileLine] = [
            (_name_in(inventory.folder, path), length, reading.hashes.get(path)) for path, length in lengths.items()
        ]
        self.listing.add(self.part, lines, digest_of="content" if self.content else "sizes")
        self.defects += reading.defects
        self.files += len(lengths)
        self.bytes += sum(lengths.values())
        self.masks += sum(1 for _, mask in inventory.pairs if mask is not None)
        for pair in inventory.pairs:
            if self.frames % self._stride == 0:
                self._keep(pair)
            self.frames += 1

    def _keep(self, pair: Pair) -> None:
        """Keep pairs at equal distances: when there are twice as many as needed, every other one goes."""
        self.samples.append(pair)
        if len(self.samples) == 2 * _SAMPLES:
            del self.samples[1::2]
            self._stride *= 2

    def read_samples(self) -> None:
        reading = _Reading(defects=self.defects)
        for path in dict.fromkeys(p for pair in self.samples for p in pair if p is not None):
            reading.read(path)
        reading.compare_sizes(self.samples)
        for path, binary in self.first_masks:
            reading.look_for_objects(path, binary=binary)

    def facts(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "videos": self.videos,
            "frames": self.frames,
            "masks": self.masks,
            "files": self.files,
            "bytes": self.bytes,
            "digest": self.listing.digest(),
            "digest_of": "content" if self.content else "sizes",
        }


@dataclass
class _Reading:
    """Sizes and hashes of what was read, and what is wrong."""

    defects: list[str]
    hashes: dict[Path, str] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)  # width, height

    def lengths(self, files: Sequence[Path]) -> dict[Path, int]:
        found: dict[Path, int] = {}
        for path in files:
            try:
                found[path] = path.stat().st_size
            except OSError:
                self.defects.append(f"{path} is missing")
                continue
            if found[path] == 0:
                self.defects.append(f"{path} is empty")
        return found

    def read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            self.hashes[path] = hashlib.sha256(data).hexdigest()
            if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                self.sizes[path] = image_size(data)
            elif path.suffix.lower() == ".xml":
                height, width = read_boxes(path).size
                self.sizes[path] = (width, height)
        except DataError as error:
            self.defects.append(str(error))
        except OSError as error:
            self.defects.append(f"{path} cannot be read ({error.strerror or error})")
        except Defect as error:
            self.defects.append(f"{path} {error}")

    def compare_sizes(self, pairs: Sequence[Pair]) -> None:
        for image, mask in pairs:
            if mask is None or image not in self.sizes or mask not in self.sizes:
                continue
            ours, its = self.sizes[mask], self.sizes[image]
            if ours != its:
                self.defects.append(f"{mask} is {ours[0]}x{ours[1]} pixels but its frame {image} is {its[0]}x{its[1]}")

    def look_for_objects(self, path: Path, *, binary: bool) -> None:
        try:
            labels = read_labels(path)
        except DataError as error:
            self.defects.append(str(error))
            return
        if not object_labels(labels, binary=binary).any():
            self.defects.append(f"{path} has no object pixel, so there is nothing to track")


def _name_in(folder: Path, path: Path) -> str:
    """Path below the set's folder; a file that lies elsewhere has its name alone."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
