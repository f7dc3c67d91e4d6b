"""Each fault of `faults.py`, planted into a copy of the package, is noticed by the tests that it names."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import pytest
from faults import FAULTS, Fault
from forked import in_child

pytestmark = pytest.mark.mutants

#: Exit codes of pytest: all passed, some failed; all others mean that nothing was tested.
PASSED, FAILED = 0, 1


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A folder `src` that can be damaged."""
    return shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))


def outcome(source: Path, root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """The exit code and the output of pytest with the package of another folder, in a process of its own."""
    return in_child(_pytest, str(source), str(root), [str(root / "tests" / test) for test in tests])


def _pytest(source: str, root: str, tests: list[str]) -> tuple[int, str]:
    os.chdir(root)
    os.environ["PYTHONPATH"] = source
    sys.path.insert(0, source)
    sys.dont_write_bytecode = True
    assert "vosrepro" not in sys.modules
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", *tests])
    import vosrepro

    assert str(vosrepro.__file__).startswith(source)
    return int(code), printed.getvalue()


def test_without_a_fault_all_these_tests_pass(root, copy):
    code, printed = outcome(copy, root, tuple(dict.fromkeys(test for fault in FAULTS for test in fault.tests)))
    assert code == PASSED, printed


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(root, copy, fault: Fault):
    file = copy / "vosrepro" / fault.file
    file.write_text(file.read_text().replace(fault.old, fault.new))
    code, printed = outcome(copy, root, fault.tests)
    assert code == FAILED, printed
