"""When the jobs of a study would end on so many devices, and which chain of them is the longest."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class ScheduledJob(NamedTuple):
    """A job: what it waits for, how long it takes, and how many devices it holds meanwhile."""

    name: str
    after: tuple[str, ...]
    seconds: float
    devices: int


class Schedule(NamedTuple):
    """The longest chain of jobs, which no number of devices shortens, and the end of the last job."""

    chain: tuple[str, ...]
    chain_seconds: float
    wall_seconds: float


def schedule(tasks: Sequence[ScheduledJob], devices: int) -> Schedule:
    """Start whatever is ready and finds devices, jobs with the longest rest of their chain first.

    Args:
        tasks: each behind those that it waits for; of names that are not among them nothing is waited for.
        devices: at hand; a job that wants more takes all.
    """
    table = {task.name: task for task in tasks}
    rest = _rest(tasks, table)
    if not tasks:
        return Schedule((), 0.0, 0.0)
    chain = _chain(tasks, table, rest)
    return Schedule(chain, rest[chain[0]], _simulate(tasks, table, rest, devices))


def _rest(tasks: Sequence[ScheduledJob], table: Mapping[str, ScheduledJob]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the longest chain behind it."""
    rest = {task.name: 0.0 for task in tasks}
    for task in reversed(tasks):
        rest[task.name] += task.seconds
        for name in task.after:
            if name in table:
                rest[name] = max(rest[name], rest[task.name])
    return rest


def _chain(
    tasks: Sequence[ScheduledJob], table: Mapping[str, ScheduledJob], rest: Mapping[str, float]
) -> tuple[str, ...]:
    def heads(before: str | None) -> list[ScheduledJob]:
        if before is None:
            return [task for task in tasks if not any(name in table for name in task.after)]
        return [task for task in tasks if before in task.after]

    chain: list[str] = []
    while found := heads(chain[-1] if chain else None):
        chain.append(max(found, key=lambda task: rest[task.name]).name)
    return tuple(chain)


def _simulate(
    tasks: Sequence[ScheduledJob], table: Mapping[str, ScheduledJob], rest: Mapping[str, float], devices: int
) -> float:
    waiting = {task.name: {name for name in task.after if name in table} for task in tasks}
    running: list[tuple[float, str]] = []
    now, free = 0.0, devices
    while waiting or running:
        ready = [table[name] for name, before in waiting.items() if not before]
        for task in sorted(ready, key=lambda task: -rest[task.name]):
            held = min(task.devices, devices)
            if held <= free:
                free -= held
                del waiting[task.name]
                heapq.heappush(running, (now + task.seconds, task.name))
        now, done = heapq.heappop(running)
        free += min(table[done].devices, devices)
        for before in waiting.values():
            before.discard(done)
    return now
