"""Where masks are read from: a folder, a zip, or arrays; always `<sequence>/<frame>.png`.

Zips are read in memory, member by member, within bounds; nothing is ever unpacked to disk. macOS
resource folders and hidden files are ignored.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.names import chosen, in_order, repeated, visible
from vosrepro.scoring.counting.png import LabelImage, Malformed, decode

if TYPE_CHECKING:
    import zipfile
    from typing import Any

MAX_FILE_BYTES = 1 << 26
MAX_ZIP_BYTES = 1 << 34  # of all members together, as inflated
MAX_ZIP_MEMBERS = 2_000_000


class Tree(Protocol):
    """Masks by sequence and frame."""

    name: str

    def folders(self, inside: str = "") -> list[str]:
        """Sorted names of the folders directly inside a folder."""
        ...

    def frames(self, sequence: str) -> list[str]:
        """Frame names of a sequence, in the order of time; empty if there is no such sequence."""
        ...

    def data(self, sequence: str, frame: str) -> bytes:
        """Bytes of one PNG."""
        ...

    def image(self, sequence: str, frame: str) -> LabelImage:
        """One mask.

        Raises:
            DataError: naming sequence and frame, if it is missing or unreadable.
        """
        ...


class FolderTree:
    """A folder of sequence folders. Links to folders and files are followed."""

    def __init__(self, root: Path | str) -> None:
        self.name = str(root)
        if not Path(root).is_dir():
            raise DataError(f"{root} is not a folder or a zip: give a folder of sequence folders")

    def folders(self, inside: str = "") -> list[str]:
        """Sorted names of visible folders."""
        try:
            with os.scandir(self._path(inside)) as entries:
                return sorted(e.name for e in entries if visible(e.name) and _is_folder(e))
        except OSError as error:
            raise DataError(f"{self._path(inside)} cannot be listed ({error.strerror})") from error

    def frames(self, sequence: str) -> list[str]:
        """Stems of the PNG files, in the order of time."""
        try:
            names = os.listdir(self._path(sequence))  # noqa: PTH208 - paths are slow here
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DataError(f"{self._path(sequence)} cannot be listed ({error.strerror})") from error
        return _frames(names, self._path(sequence))

    def data(self, sequence: str, frame: str) -> bytes:
        """Bytes of one file."""
        path = f"{self.name}/{sequence}/{frame}.png"
        where = f"{self.name}: sequence '{sequence}', frame '{frame}'"
        try:
            handle = self._opened(path)
        except FileNotFoundError as error:
            raise DataError(_missing(self, sequence, frame)) from error
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error.strerror})") from error
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{where} is not a regular file: give a PNG of object ids")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"{where} has {status.st_size} bytes: too large for a label PNG")
            data = os.read(handle, status.st_size)
            while len(data) < status.st_size and (more := os.read(handle, 1 << 20)):
                data += more
            return data
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error.strerror})") from error
        finally:
            os.close(handle)

    def image(self, sequence: str, frame: str) -> LabelImage:
        """One mask."""
        return _decode(self, sequence, frame, self.data(sequence, frame))

    def _opened(self, path: str) -> int:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            return os.open(path[:-4] + ".PNG", flags)  # as some cameras and editors write it

    def _path(self, inside: str) -> str:
        return f"{self.name}/{inside}" if inside else self.name


class ZipTree:
    """A zip of sequence folders; `inside` is a folder in the zip that holds them."""

    def __init__(self, path: Path | str, inside: str = "") -> None:
        self.name = f"{path}/{inside}" if inside else str(path)
        self._path = str(path)
        self._inside = inside
        self._process = -1
        self._open()
        self._members = _zip_members(self._archive, self._path, inside)
        self._folders: dict[str, dict[str, str]] = {}
        for member in self._members:
            folder, _, file = member.rpartition("/")
            self._folders.setdefault(folder, {})[file] = member

    def _open(self) -> None:
        if self._process == os.getpid():
            return
        import zipfile

        try:
            self._archive = zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{self._path} is not a readable zip ({error}): zip it again") from error
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None, "_process": -1}

    def folders(self, inside: str = "") -> list[str]:
        """Sorted names of folders directly inside."""
        prefix = f"{inside}/" if inside else ""
        found = {f[len(prefix) :].split("/")[0] for f in self._folders if f.startswith(prefix)}
        return sorted(found - {""})

    def frames(self, sequence: str) -> list[str]:
        """Stems of the PNG members, in the order of time."""
        return _frames(self._folders.get(sequence, {}), f"{self.name}/{sequence}")

    def data(self, sequence: str, frame: str) -> bytes:
        """Bytes of one member."""
        files = self._folders.get(sequence, {})
        member = files.get(f"{frame}.png", files.get(f"{frame}.PNG"))
        if member is None:
            raise DataError(_missing(self, sequence, frame))
        self._open()
        import zipfile

        prefix = f"{self._inside}/" if self._inside else ""
        try:
            with self._archive.open(prefix + member) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (
            OSError,
            RuntimeError,
            ValueError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(f"{self._path}: {prefix}{member} cannot be read ({error}): zip it again") from error
        if len(data) > MAX_FILE_BYTES:
            raise DataError(f"{self._path}: {prefix}{member} is too large for a label PNG")
        return data

    def image(self, sequence: str, frame: str) -> LabelImage:
        """One mask."""
        return _decode(self, sequence, frame, self.data(sequence, frame))


class ArrayTree:
    """Label maps in memory: sequence -> frame -> integer or bool array (H, W)."""

    def __init__(self, arrays: Mapping[str, Mapping[str, np.ndarray]], name: str) -> None:
        self.name = name
        self._arrays = arrays

    def folders(self, inside: str = "") -> list[str]:
        """Sorted sequence names."""
        return [] if inside else sorted(self._arrays)

    def frames(self, sequence: str) -> list[str]:
        """Frame names, in the order of time."""
        return in_order(self._arrays.get(sequence, {}), f"{self.name}/{sequence}")

    def data(self, sequence: str, frame: str) -> bytes:
        """Arrays have no file."""
        raise DataError(f"{self.name}: sequence '{sequence}', frame '{frame}' is not a file")

    def image(self, sequence: str, frame: str) -> LabelImage:
        """One mask, checked."""
        try:
            values = np.asarray(self._arrays[sequence][frame])
        except KeyError as error:
            raise DataError(_missing(self, sequence, frame)) from error
        where = f"{self.name}: sequence '{sequence}', frame '{frame}'"
        if values.ndim != 2 or not values.size:
            raise DataError(f"{where}: labels must be (H, W), not {values.shape}")
        if values.dtype != np.uint8:
            if values.dtype.kind not in "bui":
                raise DataError(f"{where}: labels must be integers, not {values.dtype}")
            if values.dtype.kind != "b" and (values.min() < 0 or values.max() > 255):
                raise DataError(f"{where}: labels must be between 0 and 255")
            values = values.astype(np.uint8)
        return LabelImage(values.shape[0], values.shape[1], np.ascontiguousarray(values))


def open_tree(path: Path | str) -> FolderTree | ZipTree:
    """A folder, a zip, or a folder inside a zip (`masks.zip/inner`).

    Raises:
        DataError: if it is none of them.
    """
    path = Path(path)
    if path.is_dir():
        return FolderTree(path)
    for index in range(len(path.parts), 0, -1):
        archive = Path(*path.parts[:index])
        if archive.is_file():
            return ZipTree(archive, "/".join(path.parts[index:]))
    raise DataError(f"{path} does not exist: give a folder or a zip of sequence folders")


def check_nesting(tree: Tree, wanted: Sequence[str]) -> None:
    """Explain results that lie at the wrong depth.

    Raises:
        DataError: if no wanted sequence has files; says where they are if they are one level deeper.
    """
    if any(tree.frames(s) or tree.folders(s) for s in wanted if s in set(tree.folders())):
        return
    present = tree.folders()
    for folder in present:
        if set(tree.folders(folder)) & set(wanted):
            raise DataError(
                f"{tree.name} holds no sequence folder, but its folder '{folder}' does: give {tree.name}/{folder}"
            )
    shown = ", ".join(present[:5]) + (", ..." if len(present) > 5 else "")
    held = f"folders {shown}" if present else "no folder at all"
    raise DataError(
        f"{tree.name} holds {held}, but none of the sequences to score ({', '.join(wanted[:5])}"
        f"{', ...' if len(wanted) > 5 else ''}): masks must lie at <sequence>/<frame>.png"
    )


_BINARY = getattr(os, "O_BINARY", 0)


def _frames(names: Iterable[str], where: str) -> list[str]:
    stems = [name[:-4] for name in chosen(names, (".png",), where)]
    twice = repeated(stems)
    if twice is not None:
        raise DataError(f"{where} holds {twice}.png and {twice}.PNG: leave one of them")
    return in_order(stems, where)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _missing(tree: Tree, sequence: str, frame: str) -> str:
    return f"{tree.name}: sequence '{sequence}' lacks frame '{frame}': {sequence}/{frame}.png is missing"


def _decode(tree: Tree, sequence: str, frame: str, data: bytes) -> LabelImage:
    try:
        return decode(data)
    except Malformed as error:
        raise DataError(f"{tree.name}: sequence '{sequence}', frame '{frame}' cannot be read: {error}") from error


def _zip_members(archive: zipfile.ZipFile, path: str, inside: str) -> list[str]:
    """Names of the files below `inside`, relative to it, after checks of the whole directory."""
    total = 0
    names: dict[str, None] = {}
    infos = archive.infolist()
    if len(infos) > MAX_ZIP_MEMBERS:
        raise DataError(f"{path} has {len(infos)} members: too many for a set of masks")
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name).parts
        if "\\" in name or name.startswith("/") or ".." in parts or ":" in (parts or ("",))[0]:
            raise DataError(f"{path}: member {name!r} leaves the zip: zip the sequence folders again")
        if info.is_dir() or not all(visible(part) for part in parts):
            continue
        if info.flag_bits & 1:
            raise DataError(f"{path}: member {name!r} is encrypted: zip without a password")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{path}: member {name!r} is a link: zip the files themselves")
        if name in names:
            raise DataError(f"{path}: member {name!r} is there twice: zip again from a clean folder")
        total += info.file_size
        if info.file_size > MAX_FILE_BYTES or total > MAX_ZIP_BYTES:
            raise DataError(f"{path}: member {name!r} inflates to {info.file_size} bytes: not masks")
        names[name] = None
    prefix = f"{inside}/" if inside else ""
    return [name[len(prefix) :] for name in names if name.startswith(prefix)]
