"""Signals that ask a training to end, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

TOLD = """
import signal
from vosrepro.training import stop
stop._SAME_WISH_S = {wish}
told = stop.Stop()
with told.listening():
    for _ in range({times}):
        signal.raise_signal(signal.{name})
print(told.signal)
"""


def told(name: str, times: int, *, wish: float = 10.0) -> subprocess.CompletedProcess[str]:
    """A process that hears a signal several times while it listens, and says which it heard."""
    program = TOLD.format(name=name, times=times, wish=wish)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("name", "times"), [("SIGTERM", 1), ("SIGTERM", 2), ("SIGINT", 1)])
def test_a_training_that_is_told_to_end_has_time_to_save(name, times):
    """SLURM tells every process of a job, and the parent of the ranks passes on what it is told as well."""
    done = told(name, times)
    assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr


def test_a_second_wish_ends_it_at_once():
    assert told("SIGTERM", 2, wish=-1.0).returncode == -signal.SIGTERM
    assert "KeyboardInterrupt" in told("SIGINT", 2).stderr
