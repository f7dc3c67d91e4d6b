"""How benches in one process time their ways, and the table that they print.

Seconds are those of the wall on a GPU. On the CPU they are the process's own: with one thread that is the wall
time of an idle machine, and it does not suffer from what else runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """What a call takes on a device, until it has finished there."""
    gpu = device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    if gpu:
        torch.cuda.synchronize(device)
    began = clock()
    work()
    if gpu:
        torch.cuda.synchronize(device)
    return clock() - began


def fastest(
    ways: Mapping[str, Callable[[], Any]], repeat: int, device: torch.device, *, calls: int = 1
) -> list[dict[str, Any]]:
    """A row of each way: its name, the seconds of a call in its best round, and the "result" of its last call.

    Args:
        ways: go in turn through every round, so that all meet the same load.
        repeat: rounds, after one that warms up.
        device: see `seconds`.
        calls: of a way in a round.
    """
    rows: list[dict[str, Any]] = [{"way": name, "seconds": float("inf"), "result": None} for name in ways]

    def work(row: dict[str, Any]) -> None:
        for _ in range(calls):
            row["result"] = ways[row["way"]]()

    for turn in range(max(1, repeat) + 1):
        for row in rows:
            spent = seconds(lambda row=row: work(row), device) / calls
            if turn:
                row["seconds"] = min(row["seconds"], spent)
    return rows


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table: a line for each way, and a column for each of its numbers."""
    names = list(dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, int | float)))
    width = max(len(row["way"]) for row in rows) + 2
    lines = [title, " " * width + "".join(f"{name:>18}" for name in names)]
    for row in rows:
        cells = [f"{row[name]:>18.4g}" if name in row else " " * 18 for name in names]
        lines.append(row["way"].ljust(width) + "".join(cells))
    sys.stdout.write("\n".join(lines) + "\n")
