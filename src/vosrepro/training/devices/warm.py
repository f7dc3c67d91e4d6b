"""A process that has torch loaded and forks a job from itself in a tenth of a second.

`python -m vosrepro.training.devices.warm SOCKET PID` starts it beside a workflow, whose many small jobs would else
spend most of their time importing. `vosrepro.training.devices.launch` asks it for a job: the job gets the asker's
arguments, environment, folder, files and signals, and ends with it, so nothing but its start is another. Where the
process is not there, is of another environment, or the code has changed since it was loaded, jobs start as ever.

It computes nothing and has one thread, which is why it may be forked; a job may have only one thread of linear
algebra, too, because the libraries count theirs when they are loaded.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from vosrepro.methods import REGISTRY
from vosrepro.tracking.processes import Process
from vosrepro.training.devices.launch import MODULE, THREADS
from vosrepro.training.devices.requests import ACCEPTED, REFUSED, place, source_state
from vosrepro.training.devices.world import die_with_parent

_LOADED = ("vosrepro.commands.train", "vosrepro.commands.infer", "vosrepro.training.loop")
_LOADED += tuple(
    f"vosrepro.inference.{name}" for name in ("classify", "correspondence", "entries", "select", "videos", "views")
)
_LOADED += ("vosrepro.scoring", *(card.partition(":")[0] for card in REGISTRY.values()))
_LOOK_EVERY_S = 2.0
_MOST_FILES = 64


@dataclass
class _Job:
    """What a forked process is to do."""

    request: Mapping[str, Any]
    files: list[int]

    def begin(self) -> None:
        """Become, as far as one can tell from inside, the process that asked."""
        die_with_parent(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(self.files[:3]):
            os.dup2(file, number)
        for file in self.files[:3]:
            os.close(file)
        os.environ.clear()
        os.environ.update(self.request["environment"])
        os.umask(self.request["umask"])
        os.chdir(self.request["folder"])
        sys.argv = ["vosrepro", *self.request["arguments"]]
        random.seed()


@dataclass
class Nursery:
    """Serves one workflow.

    Args:
        path: of the socket, in a folder of its own.
        parent: process id of the workflow, after whose end no new job is taken.
        modules: what to import before the first job.
    """

    path: Path
    parent: int
    modules: tuple[str, ...] = _LOADED
    _jobs: dict[socket.socket, int] = field(default_factory=dict)

    def serve(self) -> _Job | None:
        """Take jobs until the workflow and all jobs have ended.

        Returns:
            In a forked process what it has to do; None at the end.
        """
        workflow = Process(self.parent)
        loaded = source_state()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, selectors.DefaultSelector() as events:
            listener.bind(str(self.path))
            listener.listen(128)
            for module in self.modules:
                import_module(module)
            gc.freeze()
            events.register(listener, selectors.EVENT_READ)
            while self._jobs or workflow.alive():
                for key, _ in events.select(_LOOK_EVERY_S):
                    if key.fileobj is listener:
                        job = self._accept(listener, events, loaded)
                        if job is not None:
                            return job
                    else:
                        self._attend(key, events)
        with contextlib.suppress(OSError):
            self.path.unlink()
            self.path.parent.rmdir()
        return None

    def _accept(self, listener: socket.socket, events: selectors.BaseSelector, loaded: str) -> _Job | None:
        asker, _ = listener.accept()
        asker.settimeout(_LOOK_EVERY_S)
        try:
            _, files, _, _ = socket.recv_fds(asker, 1, _MOST_FILES)
            with os.fdopen(files.pop(0), "rb") as file:
                request = json.loads(file.read())
        except (OSError, ValueError, IndexError):
            asker.close()
            return None
        child = os.fork() if _may_fork(request, loaded) else None
        if child == 0:
            self._forget(listener, events, asker)
            return _Job(request, files)
        for file in files:
            os.close(file)
        with contextlib.suppress(OSError):
            asker.sendall(ACCEPTED if child else REFUSED)
        if child:
            self._jobs[asker] = child
            events.register(asker, selectors.EVENT_READ, "asker")
            events.register(os.pidfd_open(child), selectors.EVENT_READ, asker)
        else:
            asker.close()
        return None

    def _forget(self, listener: socket.socket, events: selectors.BaseSelector, asker: socket.socket) -> None:
        """Let go, in a fork, of all descriptors that are not its own: an asker must see its job's end, no other's."""
        watched = {key.fileobj for key in events.get_map().values()}
        events.close()
        for held in {listener, asker, *watched, *self._jobs}:
            os.close(held) if isinstance(held, int) else held.close()

    def _attend(self, key: selectors.SelectorKey, events: selectors.BaseSelector) -> None:
        """Pass a signal on, end a job whose asker is gone, or tell an asker how its job ended."""
        if key.data == "asker":
            asker: Any = key.fileobj
            if asker not in self._jobs:  # its job ended in the same moment
                return
            with contextlib.suppress(ConnectionError):
                if number := asker.recv(1):
                    os.kill(self._jobs[asker], number[0])
                    return
            events.unregister(asker)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._jobs[asker], signal.SIGKILL)
            return
        asker = key.data
        _, status = os.waitpid(self._jobs.pop(asker), 0)
        events.unregister(key.fileobj)
        os.close(key.fd)
        with contextlib.suppress(KeyError):
            events.unregister(asker)
        with contextlib.suppress(OSError):
            asker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        asker.close()


def _may_fork(request: Mapping[str, Any], loaded: str) -> bool:
    """Whether a job started here would be the same as one that is started anew."""
    environment = request["environment"]
    same = request["place"] == place() and request["source"] == loaded  # the asker has just looked
    alone = threading.active_count() == 1 and len(list(Path("/proc/self/task").iterdir())) == 1
    return same and alone and all(environment.get(name) == os.environ.get(name) == "1" for name in THREADS)


def main() -> int:
    """Serve; in a forked process run the job, and end as a process of its own would."""
    path, parent, *modules = sys.argv[1:]
    os.close(os.pidfd_open(os.getpid()))  # where the kernel has no such thing, end before anybody asks
    job = Nursery(Path(path), int(parent), tuple(modules) or _LOADED).serve()
    if job is None:
        return 0
    job.begin()
    return import_module(MODULE).main(job.request["arguments"])


if __name__ == "__main__":
    sys.exit(main())
