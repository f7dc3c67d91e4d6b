"""The folder that the masks of a person's clip go to: whose work lies there, and what may be deleted of it.

Nothing is deleted but what a record of an earlier call lists, and nothing of another clip, another method or a
person's hand without --force.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, read_json
from vosrepro.base.targets import lies_inside

RECORD = "segment.json"
STATE = ".state"

_WAY_OUT = "give another folder with --out, or replace them with --force"


def earlier_record(out: Path, request: str, *, sources: Iterable[Path], force: bool) -> dict[str, Any] | None:
    """The record of an earlier call for the same masks, or of any with `force`; None if there is none.

    Args:
        out: the folder; need not exist.
        request: digest of what is asked for, whichever code does it.
        sources: all files that the masks are made from.
        force: replace what other calls made.

    Raises:
        DataError: if the folder holds an input, files of others, masks of another request, or masks that somebody
            changed.
    """
    for path in sources:
        if lies_inside(path, out):
            raise DataError(f"{path} lies in {out}, where masks are replaced: copy it elsewhere, or give another --out")
    if not (out / RECORD).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} holds files that `vosrepro segment` did not make: give another folder with --out")
        return None
    old = read_json(out / RECORD)
    if force:
        return old
    listed = _listed(old) if "masks" in old else [path.name for path in out.glob("*.png")]
    there = [name for name in listed if (out / name).is_file()]
    if there and old.get("request") != request:
        made = f"{old.get('method', 'another method')} of {old.get('clip', 'another clip')}"
        raise DataError(
            f"{out} holds {len(there)} masks that were asked for differently ({made}, "
            f"{old.get('variant', 'other')} settings): {_WAY_OUT}"
        )
    changed = [name for name in there if old["masks"][name] not in (None, file_digest(out / name))]
    if changed:
        raise DataError(f"{len(changed)} masks of {out} were changed by hand, first {changed[0]}: {_WAY_OUT}")
    return old


def whole(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether all masks of a finished record are there, unchanged."""
    listed = record.get("masks", {})
    return bool(record.get("finished")) and all(
        (out / name).is_file() and file_digest(out / name) == digest for name, digest in listed.items()
    )


def clear(out: Path, record: Mapping[str, Any] | None, *, keep: Collection[str]) -> None:
    """Delete the masks that a record lists, except those to keep."""
    for name in _listed(record or {}):
        if name not in keep:
            (out / name).unlink(missing_ok=True)


def _listed(record: Mapping[str, Any]) -> list[str]:
    """Files of a record, none of which is outside of its folder, whatever the record says."""
    return [name for name in record.get("masks", {}) if Path(name).name == name]
