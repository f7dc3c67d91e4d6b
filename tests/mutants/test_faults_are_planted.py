"""The table of faults fits the code: what `test_mutants.py` is about to replace is there."""

from __future__ import annotations

import ast

import pytest
from faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_of_a_file_that_still_parses(root, fault):
    text = (root / "src/vosrepro" / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.file} does not hold {fault.old!r} once: change tests/mutants/faults.py"
    assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(text.replace(fault.old, fault.new)))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_tests_that_must_notice_it_exist(root, fault):
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (root / "tests" / file).read_text()
