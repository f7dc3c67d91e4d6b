"""From official archives, or a folder that is there already, to the layout that the loaders read."""

from __future__ import annotations

import fnmatch
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vosrepro.base.errors import DataError, pick
from vosrepro.base.files import atomic, file_digest, write_json
from vosrepro.base.provenance import provenance
from vosrepro.datasets.prepare.archives import MAX_BYTES, extract, find_root
from vosrepro.datasets.prepare.downloads import download, file_md5
from vosrepro.datasets.prepare.listing import Listing
from vosrepro.datasets.prepare.official import PREPARATIONS, Archive
from vosrepro.datasets.sets.folders import SOURCES
from vosrepro.datasets.sets.video import list_videos, read_lines
from vosrepro.study.params import DataParams

log = logging.getLogger(__name__)


def prepare_set(  # noqa: PLR0913, options by name
    name: str,
    data: DataParams,
    sources: Sequence[Path] = (),
    *,
    copy: bool = False,
    fetch: bool = False,
    jjval: Path | None = None,
    out: Path | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Any]:
    """Put a data set in place, check it, and write its manifest and, beside it as CSV, its listing.

    Without sources, archives in `<root>/downloads` are taken; what is in place already stays.

    Args:
        name: a key of `PREPARATIONS`.
        data: the root, and where sets differ from the usual folders.
        sources: archives, or one folder that holds the set.
        copy: copy the folder instead of linking it.
        fetch: download archives that have an address of their own.
        jjval: list of held-out YouTube-VOS training videos (FRTM's lib/ytvos_jjvalid.txt) to put in place.
        out: the manifest; None: `<root>/manifests/<name>.json`.
        max_bytes: refuse archives that unpack to more.

    Returns:
        The manifest: "name", "folder", "archives" [{"name", "bytes", "sha256"}], and of `verify` "parts",
        "files", "bytes", "digest".

    Raises:
        ConfigError: if the name is unknown.
        DataError: if an archive or folder is missing, wrong, damaged or dangerous: what, and how to get it.
    """
    known = pick(PREPARATIONS, name, what="data set to prepare", where="vosrepro data")
    folder = Path(data.root) / data.sets.get(name, SOURCES[name].folder)
    folders = [path for path in sources if path.is_dir()]
    linked = False
    if folders:
        if len(sources) > 1:
            raise DataError(f"give one folder, or archives, not {len(sources)} of both kinds")
        linked = _adopt(folders[0], folder, name, copy=copy)
        files: list[Path] = []
    else:
        files = list(sources) or _gather(known, Path(data.root) / "downloads", fetch=fetch)
        for path in files:
            _install(_archive_of(path, name, known), path, folder, max_bytes)
        if not files and not folder.is_dir():
            raise DataError(how_to_get_set(name, Path(data.root)))
    try:
        if jjval is not None:
            _install_list(jjval, folder)
        return _described(name, data, folder, files, out or manifest_file(name, data))
    except DataError:
        if linked:  # else another try would meet a link to the wrong folder
            folder.unlink()
        raise


def manifest_file(name: str, data: DataParams) -> Path:
    """Where the manifest of a data set lies if no other place is given."""
    return Path(data.root) / "manifests" / f"{name}.json"


def how_to_get_set(name: str, root: Path) -> str:
    """What a person has to do for a data set that is not there."""
    archives = PREPARATIONS[name]
    steps = [f"{a.names[0]} ({a.url or a.obtain})" for a in archives]
    if not steps:
        obtain = SOURCES[name].obtain.replace("there", f"at {root / SOURCES[name].folder}", 1)
        return f"data set '{name}' is not there: {obtain}"
    direct = " or add --download;" if any(a.url for a in archives) else ""
    return (
        f"data set '{name}' is not there: put {'; '.join(steps)} into {root / 'downloads'}{direct} or give the "
        f"archives or a folder: vosrepro data prepare {name} PATH"
    )


def _gather(archives: Sequence[Archive], downloads: Path, *, fetch: bool) -> list[Path]:
    """Archives that were downloaded, by us now or by a person before."""
    found: list[Path] = []
    for archive in archives:
        here = sorted(p for pattern in archive.names for p in downloads.glob(pattern) if p.is_file())
        if not here and fetch and archive.url:
            log.info("downloading %s", archive.url)
            here = [_fetched(archive.url, downloads / archive.names[0])]
        found += here[:1]
    return found


def _fetched(url: str, target: Path) -> Path:
    from tqdm import tqdm

    with tqdm(desc=target.name, unit="B", unit_scale=True, disable=None, mininterval=1.0) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return download(url, target, progress=show)


def _archive_of(path: Path, name: str, archives: Sequence[Archive]) -> Archive:
    if not path.is_file():
        raise DataError(f"there is no archive or folder {path}")
    for archive in archives:
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in archive.names):
            return archive
    if len(archives) == 1:  # a renamed download; its content decides
        return archives[0]
    official = ", ".join(a.names[0] for a in archives) or "a folder"
    raise DataError(f"which part of '{name}' {path} is cannot be told: give it its name, one of {official}")


def _install(archive: Archive, path: Path, folder: Path, max_bytes: int) -> None:
    target = folder / archive.into if archive.into else folder
    for official, md5 in archive.md5:
        if path.name == official and file_md5(path) != md5:
            raise DataError(f"{path} is damaged: its MD5 is not {md5}; download it again")
    if archive.keep:
        _link(path, target / archive.names[0])
        return
    if target.exists() and not archive.merge:
        if find_root(target, archive.needs) is not None:
            log.info("%s is in place already", target)
            return
        if any(target.iterdir()):
            raise DataError(
                f"{target} exists but has no {' and '.join(archive.needs)}, as a half-extracted archive: "
                "remove it, then run again"
            )
        target.rmdir()
    log.info("extracting %s to %s", path, target)
    extract(path, target, needs=archive.needs, merge=archive.merge, max_bytes=max_bytes)


def _link(path: Path, place: Path) -> None:
    if place.exists() and place.resolve() == path.resolve():
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
    except OSError as error:
        raise DataError(
            f"{place} cannot be written ({error.strerror or error}): remove it or fix permissions"
        ) from error


def _adopt(source: Path, folder: Path, name: str, *, copy: bool) -> bool:
    """Link or copy a folder that holds the set, maybe deeper inside; whether a link was made."""
    needs = SOURCES[name].needs
    # What the whole archive holds tells sets of one family apart; parts of it are taken as well.
    whole = [a.needs for a in PREPARATIONS[name] if a.needs and not a.into]
    wanted = [*whole, *((need,) for need in needs)]
    found = [place for each in wanted if (place := find_root(source, each)) is not None]
    if not found:
        inside = ", ".join(sorted(p.name for p in source.iterdir())[:5]) or "nothing"
        raise DataError(f"{source} does not hold '{name}': it has {inside}, but nowhere {' or '.join(needs)}")
    root = found[0].resolve()
    if folder.exists() or folder.is_symlink():
        if folder.resolve() == root:
            return False
        raise DataError(f"{folder} exists already: remove it, or name another root with --root")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            work = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(root, work)
            work.rename(folder)
        else:
            folder.symlink_to(root, target_is_directory=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}): fix permissions or name another root"
        ) from error
    return not copy


def _install_list(listed: Path, folder: Path) -> None:
    names = read_lines(listed)
    videos = set(list_videos(folder / "train/JPEGImages"))
    missing = [name for name in names if name not in videos]
    if missing:
        raise DataError(
            f"{listed} names {len(missing)} videos that {folder / 'train'} lacks, first {missing[0]}: take the "
            "list and the training set of the same release"
        )
    with atomic(folder / "train/ImageSets/jjval.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _described(name: str, data: DataParams, folder: Path, files: Sequence[Path], out: Path) -> dict[str, Any]:
    from vosrepro.datasets.prepare.verification import verify

    parts = [
        part
        for archive in PREPARATIONS[name]
        for part in archive.parts
        if archive.keep or find_root(folder / archive.into, archive.needs[:1]) is not None
    ]
    listing = Listing()
    facts = verify(data, list(dict.fromkeys(parts)) or [name], listing=listing)
    manifest = {
        **facts,
        "name": name,
        "folder": str(folder),
        "archives": [{"name": p.name, "bytes": p.stat().st_size, "sha256": file_digest(p)} for p in files],
        "provenance": provenance(),
    }
    write_json(out, manifest)
    listing.write(out.with_suffix(".csv"))
    return manifest
