"""One fault at a time: the study goes on, a person follows what it says, and its end is compared."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import chain
import tortured
from chain import Chain, Ending
from harms import Fault

_MOST_RERUNS = 7


@dataclass(frozen=True)
class Row:
    """What became of a fault.

    Attributes:
        name: of the fault.
        first: how the disturbed series ended: "done", or a rule and its status.
        reruns: how many more it took.
        followed: the remedies that were applied.
        fault: why it counts as failed; empty if it does not.
        took_s: seconds.
    """

    name: str
    first: str = ""
    reruns: int = 0
    followed: str = ""
    fault: str = ""
    took_s: float = 0.0


@dataclass
class Study:
    """The undisturbed study, its snapshots after each rule and within two of them."""

    folder: Path
    snapshots: dict[str, Path]
    starts: dict[str, str]
    took: dict[str, float]
    outcome: dict[str, object]


def prepare(folder: Path) -> Study:
    """Make the study once, with a copy after each rule, and two of jobs that were killed in their middle."""
    given = folder / "given"
    tortured.make_checkout(given)
    place = folder / "whole"
    tortured.copy(given, place)
    found = Chain(place, chain.rules(place))
    snapshots, starts, last = {"given": given}, {}, "given"
    for rule in found.rules:
        ending = found.go(until=rule.name)
        assert ending.done, ending.said
        starts[rule.name], last = last, rule.name
        snapshots[rule.name] = folder / f"after-{rule.name}"
        tortured.copy(place, snapshots[rule.name])
    for name, pattern in (("train-s2", "state/*/state.pt"), ("infer-stm", "state/infer/*/*.json")):
        snapshots[f"half {name}"] = _half(folder, name, pattern, snapshots[starts[name]], found.rules)
    return Study(folder, snapshots, starts, found.took, tortured.outcome(place))


def _half(folder: Path, name: str, pattern: str, start: Path, rules: list[chain.Rule]) -> Path:
    place = folder / f"half-{name}"
    tortured.copy(start, place)
    before = set(start.glob(pattern))

    def kill(rule: chain.Rule, process: int) -> None:
        while rule.name == name and len(set(place.glob(pattern))) == len(before):
            time.sleep(0.001)
        if rule.name == name:
            os.killpg(process, signal.SIGKILL)

    ending = Chain(place, rules).go(disturb=kill)
    assert ending.rule == name, "the job ended before it could be killed"
    return place


def torment(study: Study, fault: Fault, place: Path) -> Row:
    """Try one fault in a copy of a snapshot."""
    began = time.monotonic()
    rules = Chain(place, chain.rules(study.snapshots["given"]))
    try:
        tortured.copy(study.snapshots[fault.start], place)
        row = _tried(study, fault, rules)
    except Exception:
        row = Row(fault.name, fault="the suite failed: " + traceback.format_exc())
    finally:
        with contextlib.suppress(OSError, AttributeError):
            fault.undo(place)
    return replace(row, took_s=time.monotonic() - began)


def _tried(study: Study, fault: Fault, study_chain: Chain) -> Row:
    folder = study_chain.folder
    fault.do(folder)
    # What the outlets say is compared by the pages.
    until = "" if fault.start in ("outlets", "track", "report") or "report" in fault.name else "track"
    ending = study_chain.go(until=until, disturb=fault.disturb, prepare=fault.prepare, power_cut=fault.power_cut)
    row = Row(fault.name, first=_word(ending))
    undone = False
    while not ending.done and row.reruns < _MOST_RERUNS:
        if any(chain.traces(ending.said)):
            return replace(row, fault=f"{ending.rule} shows a traceback: " + ending.said[-1500:])
        remedy = remedy_of(ending)
        if remedy is None:
            return replace(row, fault=f"{ending.rule} says no remedy: {ending.sentence or ending.said[-300:]}")
        if remedy == "undo" and undone:
            return replace(row, fault=f"the remedy did not help: {ending.sentence}")
        word, _, path = remedy.partition(" ")
        if word == "undo":
            fault.undo(folder)
            undone = True
        elif word == "delete":
            _delete(folder / path)
        row = replace(row, followed=", ".join(filter(None, (row.followed, word))), reruns=row.reruns + 1)
        ending = study_chain.go(until=until, prepare=fault.prepare)
    if not ending.done:
        return replace(row, fault=f"it does not heal: {_word(ending)} {ending.sentence}")
    return replace(row, fault=_compared(study, fault, study_chain, until=until, undone=undone))


def _compared(study: Study, fault: Fault, study_chain: Chain, *, until: str, undone: bool) -> str:
    """What differs from the undisturbed study in the end."""
    if not undone:  # the fault was not noticed, or did not matter
        fault.undo(study_chain.folder)
    again = study_chain.go(until=until)
    if not again.done:
        return f"a rerun of the finished study fails: {_word(again)} {again.sentence}"
    found = tortured.outcome(study_chain.folder, artifacts=fault.artifacts)
    expected = study.outcome if fault.artifacts else {"metrics": study.outcome["metrics"]}
    different = tortured.difference(expected, found)
    return f"other results without a word: {different}" if different else ""


def _word(ending: Ending) -> str:
    return "done" if ending.done else f"{ending.rule} ended with {ending.status}"


def remedy_of(ending: Ending) -> str | None:
    """What the last sentence tells a person to do: "undo", "delete PATH", "rerun"; None if it says nothing."""
    if ending.status < 0 and not ending.sentence:
        return "rerun"  # killed: nothing could be said
    said = ending.sentence
    if re.search(r"restore|[Ee]xtract|free space|fix permissions|make room|mend the disk", said):
        return "undo"
    if found := re.search(r"(?:delete|remove) (\S+/\S+?)[,;:]? ", said + " "):
        return f"delete {found[1]}"
    if re.search(r"delete (it|that file|the file)", said):
        path = re.match(r"vosrepro: (\S+)", said)
        return f"delete {path[1]}" if path and "/" in path[1] else None
    if re.search(r"run (it |the same command )?(again|to go on)|same command to go on", said):
        return "rerun"
    return None


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def side_by_side(tasks: list[Callable[[], Row]], *, count: int, longest_s: float) -> Iterator[Row]:
    """Rows of tasks that run in forks of this process, `count` at a time; none begins after `longest_s`."""
    ends, running = time.monotonic() + longest_s, {}
    waiting = list(reversed(tasks))
    while running or (waiting and time.monotonic() < ends):
        while waiting and len(running) < count and time.monotonic() < ends:
            task = waiting.pop()
            reader, writer = os.pipe()
            process = os.fork()
            if not process:
                os.close(reader)
                _report(task, writer)
            os.close(writer)
            running[process] = reader
        process, _ = os.wait()
        reader = running.pop(process, None)
        if reader is not None:
            with open(reader, encoding="utf-8") as file:
                yield Row(**json.load(file))


def _report(task: Callable[[], Row], writer: int) -> None:
    try:
        row = task()
    except BaseException:
        row = Row("?", fault=traceback.format_exc())
    with open(writer, "w", encoding="utf-8") as file:
        json.dump(asdict(row), file)
    os._exit(0)
