"""Downloads that go on where they stopped and are checked before they are used."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vosrepro.base.errors import DataError

log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_TIMEOUT_S = 60


def download(
    url: str,
    target: Path,
    *,
    md5: str | None = None,
    progress: Callable[[int, int | None], object] = lambda _done, _total: None,
) -> Path:
    """Fetch a file; what is there of an earlier attempt is kept and continued.

    Args:
        url: http or https address of the file itself.
        target: where it goes when it is complete; until then it is called `<name>.part`.
        md5: of the file, where it is known.
        progress: called with the bytes that are there and the bytes in all (None: not known).

    Raises:
        DataError: if the server cannot be reached, sends a web page, or the file is not the known one.
    """
    if target.is_file():
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url} cannot be downloaded ({reason}): run again to go on, or download it with a browser and "
            f"put it at {target}"
        ) from error
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error})") from error
    if md5 is not None:
        found = file_md5(part)
        if found != md5:
            part.unlink()
            raise DataError(f"{url} gave a file with MD5 {found} instead of {md5}: it was removed, download it again")
    part.rename(target)
    return target


def file_md5(path: Path) -> str:
    """MD5 of a file's bytes, the digest that data sets publish."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, part: Path, progress: Callable[[int, int | None], object]) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch
            return
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise DataError(
                f"{url} sends a web page instead of the file: open it in a browser, download the file and put "
                f"it at {part.with_suffix('')}"
            )
        if have and response.status != 206:  # the server cannot continue
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while data := response.read(_CHUNK):
                file.write(data)
                have += len(data)
                progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"only {have} of {total} bytes came")
