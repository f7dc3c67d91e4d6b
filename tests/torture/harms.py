"""What is done to the tiny study: to its files, its processes, its disk and its clock."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chain import Rule, begin, wait
from tortured import DATA, MADE, files, kind, restore


def _nothing(_folder: Path) -> None:
    """No preparation, or nothing to undo."""


def _left_alone(_rule: Rule, _process: int) -> None:
    """No disturbance while a rule runs."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: unique.
        start: the snapshot that it happens to.
        do: to the study's folder, before it goes on.
        undo: what a person does who reads "restore the data" or "free space".
        disturb: called when a rule has begun, with its process.
        prepare: called in the process of each rule.
        power_cut: what a killed rule leaves stays.
        group: what it is done to; the suite takes one of each group before a second of one.
        artifacts: whether all files must be the same in the end, not only all numbers.
    """

    name: str
    start: str
    group: str
    do: Callable[[Path], None] = _nothing
    undo: Callable[[Path], None] = _nothing
    disturb: Callable[[Rule, int], None] = _left_alone
    prepare: Callable[[Rule], None] = lambda _rule: None
    power_cut: bool = False
    artifacts: bool = False


# -------------------------------------------------------------------------------------------------- files


def _cut(path: Path, _other: Path | None) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path, _other: Path | None) -> None:
    os.truncate(path, 0)


def _gone(path: Path, _other: Path | None) -> None:
    path.unlink()


def _rot(path: Path, _other: Path | None) -> None:
    """One byte in the middle is another; size and times stay."""
    facts, value = path.stat(), bytearray(path.read_bytes())
    if value:
        value[len(value) // 2] ^= 0x15
    path.write_bytes(value)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _swap(path: Path, other: Path | None) -> None:
    """Another valid file in its place; the times stay."""
    assert other is not None
    facts = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _folder(path: Path, _other: Path | None) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {"cut": _cut, "empty": _empty, "gone": _gone, "rot": _rot, "swapped": _swap, "a folder": _folder}


def _damage(name: str, path: Path, other: Path | None, folder: Path) -> None:
    DAMAGES[name](folder / path, other and folder / other)


def file_faults(
    snapshots: dict[str, Path], chosen: random.Random, damages: Sequence[str] = tuple(DAMAGES)
) -> Iterator[Fault]:
    """Each kind of file that is new in a snapshot is damaged in each way before the study goes on."""
    before: set[str] = set()
    for start, folder in snapshots.items():
        kinds = _kinds(folder)
        for name in sorted(set(kinds) - before if not start.startswith("half") else kinds):
            if not name.startswith(DATA.name):
                yield from _of_kind(start, name, kinds[name], folder, chosen, damages)
        if not start.startswith("half"):
            before |= set(kinds)


def late_faults(snapshots: dict[str, Path], chosen: random.Random) -> Iterator[Fault]:
    """All that there is when only pages are left is damaged, or when everything is done."""
    for start, damages in (("score-copy", ("cut", "gone", "rot")), ("report", ("gone",))):
        folder = snapshots[start]
        kinds = _kinds(folder)
        for name in kinds:
            if not name.startswith(DATA.name):
                yield from _of_kind(start, name, kinds[name], folder, chosen, damages, late="late ")


def _of_kind(
    start: str,
    name: str,
    paths: list[Path],
    folder: Path,
    chosen: random.Random,
    damages: Sequence[str],
    late: str = "",
) -> Iterator[Fault]:
    for damage in damages:
        path = chosen.choice(paths)
        others = [p for p in paths if (folder / p).read_bytes() != (folder / path).read_bytes()]
        other = chosen.choice(others) if others else _same_ending(folder, path)
        if damage == "swapped" and other is None:
            continue
        yield Fault(f"{late}{name} {damage} after {start}", start, name, partial(_damage, damage, path, other))


def _same_ending(folder: Path, path: Path) -> Path | None:
    return next((p for p in files(folder) if p.suffix == path.suffix and kind(p) != kind(path)), None)


def _kinds(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in files(folder):
        found.setdefault(kind(path), []).append(path)
    return found


def data_faults(snapshots: dict[str, Path], chosen: random.Random) -> Iterator[Fault]:
    """Given files are damaged before a rule that reads them, and put back when a sentence asks for it."""
    kinds = {k: v for k, v in _kinds(snapshots["given"]).items() if k.startswith(DATA.name)}
    for start in ("given", "data", "train-s2", "select", "infer-stm"):
        for name, paths in kinds.items():
            for damage in ("cut", "empty", "gone"):
                undo = partial(restore, source=snapshots["given"])
                path = chosen.choice(paths)
                yield Fault(f"{name} {damage} after {start}", start, name, partial(_damage, damage, path, None), undo)


# ---------------------------------------------------------------------------------------------- processes


def kill_faults(starts: dict[str, str], took: dict[str, float], chosen: random.Random) -> Iterator[Fault]:
    """Each rule is ended at a random moment by each signal, once with all that it left staying (a power cut).

    Args:
        starts: rule -> the snapshot before it.
        took: rule -> its seconds.
        chosen: source of the moments.
    """
    for rule, start in starts.items():
        for word in ("SIGKILL", "SIGTERM", "SIGINT", "power cut"):
            number = signal.SIGKILL if word == "power cut" else signal.Signals[word]
            after = chosen.uniform(0.05, 0.95) * took[rule]
            disturb = partial(_signal, name=rule, number=number, after_s=after)
            name = f"{rule} {word} after {after:.2f} s"
            cut = word == "power cut"
            yield Fault(name, start, f"{rule} killed", disturb=disturb, power_cut=cut, artifacts=True)
    for rule in ("train-s0", "train-s2", "infer-stm", "score-stm"):
        pause, twice = partial(_pause, name=rule), partial(_twice, name=rule, after_s=took[rule] / 3)
        yield Fault(f"{rule} stopped for a second", starts[rule], "stopped", disturb=pause, artifacts=True)
        yield Fault(f"{rule} interrupted twice", starts[rule], "twice", disturb=twice, artifacts=True)
    yield Fault("a loader worker killed", starts["train-s0"], "worker", disturb=_kill_worker, artifacts=True)


def _signal(rule: Rule, process: int, *, name: str, number: int, after_s: float) -> None:
    if rule.name == name:
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, number)


def _twice(rule: Rule, process: int, *, name: str, after_s: float) -> None:
    for pause in (after_s, 0.1):
        _signal(rule, process, name=name, number=signal.SIGINT, after_s=pause)


def _pause(rule: Rule, process: int, *, name: str) -> None:
    _signal(rule, process, name=name, number=signal.SIGSTOP, after_s=0.3)
    _signal(rule, process, name=name, number=signal.SIGCONT, after_s=1.0)


def _kill_worker(rule: Rule, process: int) -> None:
    deadline = time.monotonic() + 5
    while rule.name == "train-s0" and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            if children:
                os.kill(int(children[0]), signal.SIGKILL)
                return
        time.sleep(0.005)


def twin_faults(starts: dict[str, str]) -> Iterator[Fault]:
    """A second process does the same at the same time."""
    for rule, start in starts.items():
        yield Fault(f"{rule} twice at once", start, "twins", disturb=partial(_twin, name=rule), artifacts=True)


def _twin(rule: Rule, process: int, *, name: str) -> None:
    if rule.name == name:
        folder = here = Path.cwd()
        while folder == here:  # until it has gone into the study's folder
            time.sleep(0.005)
            folder = Path(f"/proc/{process}/cwd").readlink()
        twin = begin(rule.command, folder, folder.parent / f"{folder.name}-twin.log")
        wait(twin)


# --------------------------------------------------------------------------------------------------- disk


@functools.cache
def can_mount() -> bool:
    """Whether this process may mount a file system."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def disk_faults(starts: dict[str, str]) -> Iterator[Fault]:
    """A disk that is full, a limit on the size of files, folders that cannot be written."""
    for rule, start in starts.items():
        for limit in (0, 3000):
            name, limited = f"{rule} may write {limit} bytes a file", partial(_limit, bytes_=limit, name=rule)
            yield Fault(name, start, f"limit {limit}", prepare=limited, artifacts=True)
    for name in ("results", "state"):
        for rule, start in starts.items():
            if can_mount():
                fill, free = partial(_mount_full, name=name), partial(_unmount, name=name)
                yield Fault(f"{name} full at {rule}", start, f"{name} full", fill, free, artifacts=True)
            lock, unlock = partial(_lock, name=name), partial(_unlock, name=name)
            yield Fault(f"{name} read-only at {rule}", start, f"{name} read-only", lock, unlock, artifacts=True)


def _limit(rule: Rule, *, bytes_: int, name: str) -> None:
    if rule.name == name and not Path(".limited").exists():
        Path(".limited").touch()  # once: a rerun has room
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))


def _mount_full(folder: Path, *, name: str) -> None:
    """A file system with 12 KiB left."""
    place = folder / name
    place.mkdir(exist_ok=True)
    aside = folder / f".{name}"
    place.rename(aside)
    place.mkdir()
    pages = sum(-(-p.stat().st_size // 4096) + 1 for p in aside.rglob("*"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={(pages + 3) * 4}k", "none", str(place)], check=True)
    shutil.copytree(aside, place, dirs_exist_ok=True)
    shutil.rmtree(aside)


def _unmount(folder: Path, *, name: str) -> None:
    if _mounted(folder / name):
        shutil.copytree(folder / name, folder / f".{name}")
        subprocess.run(["umount", "-l", str(folder / name)], check=True)
        (folder / name).rmdir()
        (folder / f".{name}").rename(folder / name)


def _mounted(place: Path) -> bool:
    """As `os.path.ismount`, which does not see a folder that is mounted onto itself."""
    return any(line.split()[1] == str(place) for line in Path("/proc/mounts").read_text().splitlines())


def _lock(folder: Path, *, name: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    if can_mount():
        place = str(folder / name)
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        return
    for path in (folder / name, *(p for p in (folder / name).rglob("*") if p.is_dir())):
        path.chmod(0o555)


def _unlock(folder: Path, *, name: str) -> None:
    if _mounted(folder / name):
        subprocess.run(["umount", "-l", str(folder / name)], check=True)
    if can_mount():
        return
    for path in (folder / name, *(p for p in (folder / name).rglob("*") if p.is_dir())):
        path.chmod(0o755)


# ------------------------------------------------------------------------------------- clocks and folders


def folder_faults(snapshots: dict[str, Path], chosen: random.Random) -> Iterator[Fault]:
    """Times that are not those of making, and whole folders that are gone, foreign or littered."""
    changes = {
        "all times are of 1970": partial(_times, moment=lambda: 86400.0),
        "all times are two days ahead": partial(_times, moment=lambda: time.time() + 2 * 86400),
        "all times are shuffled": partial(_times, moment=lambda: time.time() - chosen.uniform(0, 1e6)),
        "copied without times": _copied,
        "results gone": partial(_lost, name="results"),
        "state gone": partial(_lost, name="state"),
        "pages gone": partial(_lost, name="reports"),
        "only results copied": partial(_lost, name="state"),
        "foreign files": _littered,
        "masks gone": partial(_all_gone, pattern="results/**/masks"),
        "weights gone": partial(_all_gone, pattern="results/**/weights"),
        "journals gone": partial(_all_gone, pattern="state/journals"),
        "finished videos forgotten": partial(_all_gone, pattern="state/infer"),
        "private weights gone": partial(_all_gone, pattern="state/*/weights"),
    }
    for start in ("train-s0", "select", "infer-stm", "score-copy", "report"):
        if start in snapshots:
            for name, change in changes.items():
                yield Fault(f"{name} after {start}", start, name, change)


def _times(folder: Path, *, moment: Callable[[], float]) -> None:
    for path in files(folder):
        when = moment()
        os.utime(folder / path, (when, when))


def _copied(folder: Path) -> None:
    for name in MADE:
        if (folder / name).is_dir():
            (folder / name).rename(folder / f".{name}")
            shutil.copytree(folder / f".{name}", folder / name, copy_function=shutil.copyfile)
            shutil.rmtree(folder / f".{name}")


def _lost(folder: Path, *, name: str) -> None:
    shutil.rmtree(folder / name, ignore_errors=True)


def _all_gone(folder: Path, *, pattern: str) -> None:
    for path in list(folder.glob(pattern)):
        shutil.rmtree(path)


def _littered(folder: Path) -> None:
    """Halves of files that a killed job left, notes of an editor, and folders of nobody."""
    places = [path for name in ("results", "state") for path in (folder / name).rglob("*") if path.is_dir()]
    for place in places:
        (place / ".half.json.abcd.tmp").write_text("{")
        (place / "notes~").write_text("mine")


def in_turn(faults: Sequence[Fault], chosen: random.Random) -> list[Fault]:
    """In an order that takes one of each group before a second of any, so that a short run sees all groups."""
    groups: dict[str, list[Fault]] = {}
    for fault in chosen.sample(faults, len(faults)):
        groups.setdefault(fault.group, []).append(fault)
    rounds = itertools.zip_longest(*groups.values())
    return [fault for each in rounds for fault in each if fault is not None]
