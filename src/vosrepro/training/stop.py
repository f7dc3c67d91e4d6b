"""Turning a termination signal into a decision between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

#: Signals to end that come this soon after the first are the same wish: SLURM tells every process of a job, and the
#: parent of the ranks passes on what it is told as well.
_SAME_WISH_S = 10.0


class Stop:
    """Whether this process was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._first_s: dict[int, float] = {}

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGTERM and SIGINT; a second one of the same kind acts as usual, SIGTERM after some seconds."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        self.signal = signal.Signals(number).name
        if number not in self._first_s:
            self._first_s[number] = now
        elif number == signal.SIGINT:
            signal.default_int_handler(number, None)
        elif now - self._first_s[number] > _SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
