"""Append-only JSONL journals: the truth about a job while it runs, and the report's source afterwards.

A journal is a sequence of events, one JSON object a line:

    {"event": "start", "key": ..., "study": ..., "parent": ..., "kind": ..., "params": {...},
     "tags": {...}, "pid": ..., "host": ..., "time": ...}
    {"event": "resume", "step": 120, "pid": ..., "host": ..., "time": ...}
    {"event": "metrics", "step": 130, "metrics": {"train/loss": 0.4}, "time": ...}
    {"event": "end", "status": "FINISHED" | "FAILED", "metrics": {...}, "usage": {...}, "time": ...}

Jobs write journals and never import mlflow; `vosrepro.tracking.store` mirrors them. A torn last line (a job
killed while writing) is ignored by readers and cut off by the next writer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from vosrepro.base.errors import DataError
from vosrepro.base.files import write_text
from vosrepro.base.machine import usage
from vosrepro.base.provenance import git_state


class Journal:
    """Writer of one journal file; every event is flushed when it is written.

    Args:
        path: the file, usually from `vosrepro.study.plan`; created with its folders.
        enabled: False on every rank but the first: all calls then do nothing.
    """

    def __init__(self, path: Path | str, *, enabled: bool = True) -> None:
        self.path = Path(path)
        self.enabled = enabled

    def start(
        self,
        *,
        key: str,
        study: str,
        parent: str,
        kind: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
    ) -> None:
        """Begin a new journal, replacing an older file at the same path.

        Args:
            key: identity of the run, unique in the study and including a digest of its parameters.
            study: name of the study = MLflow experiment.
            parent: "method/recipe/seed<k>", the parent run.
            kind: "train", "select", "infer" or "score".
            params: flat or nested parameters.
            tags: data digest, protocol and the like; the commit and its dirty flag are added.
        """
        if not self.enabled:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        git = {f"git_{name}": value for name, value in git_state().items()}
        self._append(
            "start",
            key=key,
            study=study,
            parent=parent,
            kind=kind,
            params=params,
            tags={**git, **tags},
            **_writer(),
        )

    def resume(self, *, step: int) -> None:
        """Continue a journal from a saved step: later metrics and any end are cut off first."""
        if not self.enabled:
            return
        kept = [e for e in read_events(self.path) if _survives(e, step)]
        text = "".join(json.dumps(event) + "\n" for event in kept)
        write_text(self.path, text)
        self._append("resume", step=step, **_writer())

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Record metrics at a step; values that are not finite become null."""
        clean = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        self._append("metrics", step=step, metrics=clean)

    def end(self, status: str = "FINISHED", metrics: Mapping[str, float] | None = None) -> None:
        """Close the run, with the processor time and memory that its process has used so far."""
        self._append("end", status=status, metrics=dict(metrics or {}), usage=usage())

    def _append(self, event: str, **fields: Any) -> None:
        if not self.enabled:
            return
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, default=str)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}): "
                "free space or fix permissions, then run again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(DataError):  # a full disk must not hide why the job failed
                self.end("FAILED")


def read_events(path: Path | str) -> list[dict[str, Any]]:
    """All whole events of a journal; an absent file is an empty journal."""
    return list(iter_events(path))


def iter_events(path: Path | str) -> Iterator[dict[str, Any]]:
    """Iterate over the events of a journal; a torn last line waits for its end, a damaged one is passed over."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    yield from parse_events(text.rpartition("\n")[0])


def parse_events(lines: str) -> Iterator[dict[str, Any]]:
    """The events of whole lines; a damaged line is passed over."""
    for line in lines.split("\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                yield event


def _writer() -> dict[str, Any]:
    """Who writes, so that a reader can tell a killed job from a living one."""
    return {"pid": os.getpid(), "host": platform.node()}


def _survives(event: dict[str, Any], step: int) -> bool:
    if event["event"] == "end":
        return False
    return event["event"] == "start" or event.get("step", 0) <= step
