"""A file system without locks: said as what it is, never as another process or a full disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vosrepro
from vosrepro.tracking.processes import locked

SOURCE = Path(vosrepro.__file__).parent
NO_LOCKS = """
#include <errno.h>
int flock(int file, int how) { errno = ENOSYS; return -1; }
"""
#: Every module that takes a lock, the code that takes it, and whether the work goes on without.
HOLDERS = {
    "datasets/generated/__init__.py": (
        "from vosrepro.datasets.generated import _workplace\nwith _workplace(Path('mini')): pass",
        False,
    ),
    "training/state.py": (
        "from vosrepro.training.state import StateFolder\nwith StateFolder('d').locked(): pass",
        False,
    ),
    "training/devices/lease.py": (
        "from vosrepro.training.devices.lease import lease\nwith lease(1, ['0'], root=Path('.'), timeout_s=5): pass",
        False,
    ),
    "tracking/follower.py": ("from vosrepro.tracking.follower import mirror_once\nmirror_once('none')", True),
    "tracking/store.py": ("from vosrepro.tracking.store import _open\n_open()", True),
}


@pytest.fixture(scope="session")
def preload(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to take the locks away with")
    folder = tmp_path_factory.mktemp("nolocks")
    (folder / "no.c").write_text(NO_LOCKS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "no.so", folder / "no.c"], check=True)
    return folder / "no.so"


def test_all_that_take_locks_are_known_here_and_one_module_asks_the_kernel():
    takes = re.compile(r"(?<![.\w])(locked|Lock)\(")
    texts = {p.relative_to(SOURCE).as_posix(): p.read_text() for p in SOURCE.rglob("*.py")}
    named = {name for name, text in texts.items() if "tracking.processes import" in text and takes.search(text)}
    assert named == set(HOLDERS)
    assert [name for name, text in texts.items() if "fcntl.flock(" in text] == ["tracking/processes.py"]


@pytest.mark.parametrize("module", HOLDERS)
def test_without_locks_work_is_refused_for_that_reason_and_tracking_goes_on(module, preload, tmp_path):
    code, goes_on = HOLDERS[module]
    environment = {"LD_PRELOAD": str(preload), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", f"from pathlib import Path\n{code}"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "cannot be locked (Function not implemented): its file system lacks locks" in done.stderr
    assert (done.returncode == 0) is goes_on
    assert ("going on without" in done.stderr) is goes_on
    assert not re.search("another process|free space", done.stderr)


def test_a_lock_that_is_held_is_busy(tmp_path):
    held = locked(tmp_path / "lock")
    assert held is not None
    assert locked(tmp_path / "lock") is None
