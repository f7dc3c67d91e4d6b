"""Reading a journal while a job writes it: only what is new, and everything again after a rewrite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vosrepro.tracking.journal import parse_events

#: A metric's name, its value (None if it was not finite), seconds since the epoch, step.
MetricRow: TypeAlias = tuple[str, float | None, float, int]

_TAIL_BYTES = 256
_LONGEST_VALUE = 500


@dataclass
class JournalState:
    """What the events so far say about a job.

    Attributes:
        status: "RUNNING" until an end event, then its status.
        time: of the last event, in seconds since the epoch.
        step: the last step with metrics.
        writer: (host, pid) of the process that began or resumed the journal, if known.
        began: when that process began or resumed it.
    """

    key: str
    parent: str
    kind: str
    started: float
    params: dict[str, str]
    tags: dict[str, str]
    status: str = "RUNNING"
    time: float = 0.0
    step: int = 0
    writer: tuple[str, int] | None = None
    began: float = 0.0


@dataclass
class JournalTail:
    """One journal file, read on from where the last reading stopped.

    A file that shrank or whose last-read bytes changed (a resumed or a restarted job) is read again
    from its beginning. A torn last line waits for its end; a line that is not JSON is passed over.
    """

    path: Path
    state: JournalState | None = None
    _signature: tuple[int, int, int] | None = None
    _offset: int = 0
    _tail: bytes = b""
    _digest: Any = field(default_factory=hashlib.sha256)

    def digest(self) -> str:
        """16 hexadecimal digits of all that was read."""
        return self._digest.hexdigest()[:16]

    def read(self) -> list[MetricRow]:
        """Bring `state` up to date.

        Returns:
            New metrics; after a rewrite all metrics of the file.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return []
        signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if signature == self._signature:
            return []
        with self.path.open("rb") as file:
            if not self._continues(file):
                self._offset, self._tail, self.state = 0, b"", None
                self._digest = hashlib.sha256()
            file.seek(self._offset)
            data = file.read()
        self._signature = signature
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return []
        self._offset += len(whole)
        self._tail = (self._tail + whole)[-_TAIL_BYTES:]
        self._digest.update(whole)
        return [
            metric for event in parse_events(whole.decode("utf-8", errors="replace")) for metric in self._take(event)
        ]

    def _continues(self, file: Any) -> bool:
        file.seek(self._offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _take(self, event: Mapping[str, Any]) -> Iterator[MetricRow]:
        if event.get("event") == "start":
            self.state = _begin(event)
        state = self.state
        if state is None:
            return
        state.time = max(state.time, float(event.get("time", 0.0)))
        if event.get("pid") and event.get("host"):
            state.writer = (str(event["host"]), int(event["pid"]))
            state.began = float(event.get("time", 0.0))
        if event.get("event") == "resume":
            state.status = "RUNNING"
        if event.get("event") == "end":
            state.status = str(event.get("status", "FAILED"))
        elif event.get("event") == "metrics":
            state.step = int(event.get("step", state.step))
        for name, value in (event.get("metrics") or {}).items():
            yield name, value, float(event.get("time", state.time)), state.step


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as text with dotted names; lists as JSON; long values cut with a digest."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) > _LONGEST_VALUE:
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            text = f"{text[: _LONGEST_VALUE - 30]}... sha256:{digest}"
        flat[name] = text
    return flat


def _begin(event: Mapping[str, Any]) -> JournalState | None:
    if not event.get("key") or not event.get("parent"):
        return None
    return JournalState(
        key=str(event["key"]),
        parent=str(event["parent"]),
        kind=str(event.get("kind", "")),
        started=float(event.get("time", 0.0)),
        params=flatten(event.get("params") or {}),
        tags=flatten({k: v for k, v in (event.get("tags") or {}).items() if v is not None}),
    )
