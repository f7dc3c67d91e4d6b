"""Per-frame times and memory by the protocol that every method shares.

The clock runs around `init`/`step`, the upload of the decoded frame, resizing, arg-max; it does not run
while files are decoded or written. On CUDA, events mark the frames and the device is synchronized
only when a block of frames ends, so that measuring does not slow the method down.

Published figures use six other protocols.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class FrameTime:
    """Time of one frame.

    Attributes:
        kind: "init" for the first annotated frame, "step" for all others.
        objects: how many objects were segmented.
        seconds: wall time on the CPU, device time between events on CUDA.
    """

    sequence: str
    frame: str
    kind: str
    objects: int
    height: int
    width: int
    seconds: float


class FrameClock:
    """Measures consecutive frames on one device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._marks: list[Any] = []
        if self._cuda:
            torch.cuda.synchronize(device)

    def start(self) -> None:
        """Mark the begin of a frame."""
        self._mark()

    def stop(self) -> None:
        """Mark the end of the frame that was started last."""
        self._mark()

    def seconds(self) -> list[float]:
        """Durations of all frames since the last call; waits for the device."""
        marks, self._marks = self._marks, []
        pairs = zip(marks[::2], marks[1::2], strict=True)
        if not self._cuda:
            return [end - begin for begin, end in pairs]
        torch.cuda.synchronize(self._device)
        return [begin.elapsed_time(end) / 1000 for begin, end in pairs]

    def _mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())


def summarize(times: Sequence[FrameTime]) -> dict[str, float | int | None]:
    """Frames per second by every convention in use, and latencies in milliseconds.

    Returns:
        `fps_amortised` total frames / total seconds (Mask-Propagation), `fps_steady` without first
        frames, `fps_sequence_mean` unweighted mean over sequences of N/T (the FRTM family),
        `init_seconds_mean`, `latency_median_ms` and `latency_p95_ms` of the steps, and counts.
    """
    by_sequence: dict[str, list[FrameTime]] = {}
    for item in times:
        by_sequence.setdefault(item.sequence, []).append(item)
    total = sum(item.seconds for item in times)
    steps = sorted(item.seconds for item in times if item.kind == "step")
    inits = [item.seconds for item in times if item.kind == "init"]
    rates = [len(v) / max(sum(i.seconds for i in v), 1e-9) for v in by_sequence.values()]
    return {
        "fps_amortised": len(times) / total if total else None,
        "fps_steady": len(steps) / sum(steps) if steps and sum(steps) else None,
        "fps_sequence_mean": sum(rates) / len(rates) if rates else None,
        "init_seconds_mean": sum(inits) / len(inits) if inits else None,
        "latency_median_ms": 1000 * _quantile(steps, 0.5) if steps else None,
        "latency_p95_ms": 1000 * _quantile(steps, 0.95) if steps else None,
        "frames": len(times),
        "sequences": len(by_sequence),
    }


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics, as numpy's default."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
