"""Child processes that find torch imported: a fresh one takes five seconds of a processor to import it."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


def torch_context() -> ForkServerContext:
    """Starts processes from a server that has imported torch, numpy, OpenCV and pytest, and nothing of ours.

    And torch's compiler, which nobody uses, but which DistributedDataParallel imports: four seconds for each rank.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "numpy", "cv2", "pytest"])
    return context


def start_ranks(rank: Callable[..., None], arguments: tuple[Any, ...], *, count: int) -> None:
    """Run `rank(number, *arguments)` in that many processes at a time; fails as one of them does."""
    from torch import multiprocessing as torch_processes

    torch_context()
    torch_processes.start_processes(rank, arguments, nprocs=count, start_method="forkserver")


def in_child(function: Callable[..., Any], *arguments: Any, timeout_s: float = 300) -> Any:
    """What a function of a module returns in a process of its own.

    Raises:
        AssertionError: with the child's traceback, if it raised or did not end in time.
    """
    context = torch_context()
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        assert ours.poll(timeout_s), f"{function.__name__} did not end within {timeout_s} s"
        value, error = ours.recv()
    except EOFError:
        child.join()
        value, error = None, f"{function.__name__} ended with code {child.exitcode}"
    finally:
        child.join(10)
        child.kill()
    assert error is None, error
    return value


def _send(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((function(*arguments), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
