"""Writing files so that a reader never sees half of one, and reading them back with a clear error."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError, DataError

_CHUNK = 1 << 20


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On any exception the temporary file is removed and `path` is left as it was.

    Raises:
        DataError: if the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        Path(name).chmod(0o666 & ~_umask())
    except OSError as error:
        raise DataError(_write_failed(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(_write_failed(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: Path | str) -> str:
    """Read UTF-8 text; the byte-order mark that some editors write is left out.

    Raises:
        OSError, UnicodeDecodeError: left to the caller, who knows what the file is.
    """
    return Path(path).read_text(encoding="utf-8-sig")


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically; names of files that are not UTF-8 keep their bytes."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def json_text(value: Any) -> str:
    """JSON as in all of our files: sorted keys, two spaces, a final newline, no NaN."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path | str, value: Any) -> None:
    """Write `json_text` atomically."""
    write_text(path, json_text(value))


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        DataError: if the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(read_text(path))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the step that makes it first") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): delete it and run again") from error


def read_rows(path: Path | str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each row of a CSV with fixed columns.

    Raises:
        ConfigError: if the file is missing, or its header or a row has other columns.
    """
    path = Path(path)
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: restore it from the repository") from error
    with file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != columns:
            raise ConfigError(
                f"{path}, line 1: the columns must be {','.join(columns)}, not {','.join(reader.fieldnames or ())}"
            )
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise ConfigError(
                    f"{path}, line {line}: a row has {len(columns)} fields: quote a field that holds a comma"
                )
            yield line, row


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV with line feeds; the first is the header."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """16 hexadecimal digits that change when a JSON-like value changes (key order does not matter)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def begin_anew(folder: Path, request: int, *, keep: Collection[str] = ()) -> None:
    """Empty a folder of unfinished work, once for each request to do the work again.

    Args:
        folder: need not exist.
        request: a number that is new whenever a person asks for the work anew; 0: go on with what is there. A job
            that is killed and started again with the same request goes on as well.
        keep: names in the folder that stay.
    """
    note = folder / "begun-anew"
    if not request or (note.is_file() and note.read_text().strip() == str(request)):
        return
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in keep:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    write_text(note, f"{request}\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_failed(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{path} cannot be written ({reason}): free space or fix permissions, then run again"
