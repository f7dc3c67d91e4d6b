"""What a data set held: files, bytes and one digest per folder; small enough for a repository, exact enough to compare.

A set of hundreds of gigabytes is not copied into a cache to notice that it changed; its listing is kept.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import csv_text, value_digest, write_text

COLUMNS: tuple[str, ...] = ("part", "folder", "files", "bytes", "digest", "digest_of")
#: Path relative to the set's folder, bytes, SHA-256 (None where the file was not read).
FileLine = tuple[str, int, str | None]


@dataclass(frozen=True)
class FolderFacts:
    """A folder of a part; `digest_of` is "content" or, where files were not read, "sizes"."""

    files: int
    bytes: int
    digest: str
    digest_of: str


@dataclass
class Listing:
    """Folders by (part, path relative to the set's folder)."""

    rows: dict[tuple[str, str], FolderFacts] = field(default_factory=dict)

    def add(self, part: str, lines: Iterable[FileLine], *, digest_of: str) -> None:
        """Add files of a part; those of a folder may come in pieces."""
        folders: dict[str, list[FileLine]] = defaultdict(list)
        for line in lines:
            folders[line[0].rpartition("/")[0] or "."].append(line)
        for folder, found in folders.items():
            size = sum(line[1] for line in found)
            facts = FolderFacts(len(found), size, value_digest(sorted(found)), digest_of)
            before = self.rows.get((part, folder))
            if before is not None:
                digest = value_digest([before.digest, facts.digest])
                files, size = before.files + facts.files, before.bytes + facts.bytes
                facts = FolderFacts(files, size, digest, digest_of)
            self.rows[part, folder] = facts

    def update(self, other: Listing) -> None:
        """Add all folders of another listing."""
        self.rows |= other.rows

    def digest(self) -> str:
        """One digest over all folders in the order of their names."""
        return value_digest([[*key, *asdict(facts).values()] for key, facts in sorted(self.rows.items())])

    def write(self, path: Path) -> None:
        """Write the listing as CSV, sorted; equal data give equal bytes."""
        named = (
            {"part": part, "folder": folder, **asdict(facts)} for (part, folder), facts in sorted(self.rows.items())
        )
        write_text(path, csv_text([COLUMNS, *([row[c] for c in COLUMNS] for row in named)]))

    @classmethod
    def read(cls, path: Path) -> Listing:
        """Read a written listing.

        Raises:
            DataError: if the file is missing or no listing.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file)
                rows = {
                    (row["part"], row["folder"]): FolderFacts(
                        int(row["files"]), int(row["bytes"]), row["digest"], row["digest_of"]
                    )
                    for row in table
                }
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise DataError(f"{path} is not a listing that `vosrepro data prepare` wrote ({error!r})") from error
        if not rows:
            raise DataError(f"{path} lists no folder: run `vosrepro data prepare` again")
        return cls(rows)

    def parts(self) -> list[str]:
        """The parts, each once."""
        return list(dict.fromkeys(part for part, _ in self.rows))

    def differences(self, now: Listing) -> list[str]:
        """A sentence per folder in which `now` differs from this listing.

        Digests are compared only where both are of the same kind.
        """
        found = []
        for key in sorted({*self.rows, *now.rows}):
            name, before, after = f"{key[0]}: {key[1]}", self.rows.get(key), now.rows.get(key)
            if after is None:
                found.append(f"{name} was there and is missing")
            elif before is None:
                found.append(f"{name} is new")
            elif (before.files, before.bytes) != (after.files, after.bytes):
                found.append(
                    f"{name} has {after.files} files of {after.bytes} bytes in all instead of "
                    f"{before.files} of {before.bytes}"
                )
            elif before.digest_of == after.digest_of and before.digest != after.digest:
                what = "other content" if after.digest_of == "content" else "files of other sizes"
                found.append(f"{name} has {what} in as many files and bytes")
        return found
