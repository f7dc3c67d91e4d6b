"""Extraction of archives that strangers made: nothing leaves the target, nothing but files is created.

Members are written to a folder beside the target, which takes its place when all of them are there; an
interrupted or refused extraction leaves no half data set behind.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from vosrepro.base.errors import DataError
from vosrepro.base.units import size

#: No official archive unpacks to more.
MAX_BYTES = 400 * 10**9
_CHUNK = 1 << 20
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")
_DEPTH = 4
_LEAVES = ("JPEGImages", "Annotations", *_JUNK)  # hold thousands of folders, and no data set


@dataclass(frozen=True)
class Member:
    """An entry of an archive."""

    name: str
    kind: str  # "file", "folder", or what it is instead
    size: int
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path, target: Path, *, needs: Sequence[str], merge: bool = False, max_bytes: int = MAX_BYTES
) -> int:
    """Extract an archive so that `needs` lie directly in `target`, however deep they are nested in it.

    Args:
        archive: zip, or tar with any of tarfile's compressions.
        target: a folder that does not exist yet; or exists, if `merge`.
        needs: paths that tell the folder in the archive that becomes the target.
        merge: add to the target's folders what they lack (archives that come in segments).
        max_bytes: refuse to write more.

    Returns:
        The number of files written.

    Raises:
        DataError: if the archive is damaged, dangerous, too large or another one, or the target cannot be
            written.
    """
    work = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with _faults_named(archive):
                count = _write_members(archive, work, min(max_bytes, _free_bytes(work)))
            root = find_root(work, needs)
            if root is None:
                raise DataError(
                    f"{archive} is another archive: it holds {_listing(work)}, but nowhere {' and '.join(needs)}"
                )
            if merge:
                _merge(root, target)
            else:
                root.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error.strerror or error}): free space or fix permissions, then run again"
        ) from error
    return count


def find_root(folder: Path, needs: Sequence[str]) -> Path | None:
    """The folder at or below `folder` that has all of `needs`; the shallowest, in order of names."""
    level = [folder] if folder.is_dir() else []
    for _ in range(_DEPTH):
        for candidate in level:
            if all((candidate / need).exists() for need in needs):
                return candidate
        level = [c for p in level for c in sorted(p.iterdir()) if c.name not in _LEAVES and c.is_dir()]
    return None


def _members(archive: Path) -> Iterator[Member]:
    """The entries of a zip or tar, in order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                yield _zip_member(opened, info)
        return
    with tarfile.open(archive) as opened:
        for info in opened:
            yield _tar_member(opened, info)


@contextlib.contextmanager
def _faults_named(archive: Path) -> Iterator[None]:
    """Turn what the archive modules raise on damage into a sentence."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        with archive.open("rb") as file:
            page = file.read(200).lstrip().startswith(b"<")
        reason = " ".join(str(error).split())[:80]
        what = "a web page, not an archive" if page else f"damaged or incomplete ({reason})"
        raise DataError(f"{archive} is {what}: download it again") from error


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(info.external_attr >> 16), "special file")
    if info.is_dir():
        kind = "folder"
    return Member(info.filename, kind, info.file_size, lambda: opened.open(info))


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind = (
        "file"
        if info.isfile()
        else "folder"
        if info.isdir()
        else "link"
        if info.islnk() or info.issym()
        else "special file"
    )

    def stream() -> IO[bytes]:
        found = opened.extractfile(info)
        assert found is not None
        return found

    return Member(info.name, kind, info.size, stream)


def _write_members(archive: Path, work: Path, max_bytes: int) -> int:
    total, written = 0, set[str]()
    for member in _members(archive):
        place = _safe_path(archive, member)
        if place is None or member.kind == "folder":
            continue
        if member.kind != "file":
            raise DataError(
                f"{archive} holds the {member.kind} {member.name}, which no data set needs: nothing was "
                "extracted; take the official archive"
            )
        if str(place) in written:
            raise DataError(f"{archive} holds {member.name} twice: take the official archive")
        written.add(str(place))
        target = work / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("xb") as file:
            while data := source.read(_CHUNK):
                total += len(data)
                if total > max_bytes:
                    raise DataError(
                        f"{archive} unpacks to more than {size(max_bytes)}, which is more than there is "
                        "room for or any official archive has: nothing was extracted"
                    )
                file.write(data)
    return len(written)


def _safe_path(archive: Path, member: Member) -> PurePosixPath | None:
    """Where a member goes below the target; None for what operating systems leave in archives."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member.name.split("/")[0]:
        raise DataError(
            f"{archive} holds {member.name!r}, which would be written outside of the target: nothing was "
            "extracted; take the official archive"
        )
    if any(part in _JUNK or part.startswith("._") for part in path.parts):
        return None
    return path if path.parts else None


def _merge(root: Path, target: Path) -> None:
    """Move folders of videos that the target lacks; one that is there already stays as it is."""
    for kind in sorted(p for p in root.iterdir() if p.is_dir()):
        (target / kind.name).mkdir(parents=True, exist_ok=True)
        for video in sorted(kind.iterdir()):
            place = target / kind.name / video.name
            if not place.exists():
                video.rename(place)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _listing(folder: Path) -> str:
    names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir())
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "") if names else "no file"
