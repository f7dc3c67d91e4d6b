"""The ways from a rule to the mathematics that ARCHITECTURE.md describes are those of the code."""

from __future__ import annotations

import ast
import itertools
import re

import pytest

ROW = re.compile(r"^\| `(src/[^`]+)` \| `(\w+)` \| (?:`([^`]+)`)? *\|$")
CALLS = {"training": 7, "inference": 7}
FILES = {"training": 5, "inference": 5}


def walk(root, name):
    """File, function and call of each row of a table of ARCHITECTURE.md."""
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, _, table = text.partition(f"| {name} | function | calls it as |\n")
    rows = itertools.takewhile(lambda line: line.startswith("|"), table.splitlines())
    return [match.groups() for line in rows if (match := ROW.match(line))]


def function(root, file, name):
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    (found,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
    return found


def calls(node):
    """The functions that are called in a piece of code, as they are spelled, and without their owners."""
    spelled = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    return spelled | {name.rpartition(".")[2] for name in spelled if "(" not in name}


@pytest.mark.docs
@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_function_of_a_walk_calls_the_next_one(root, name):
    rows = walk(root, name)
    assert len(rows) - 1 == CALLS[name]
    assert len({file for file, _, _ in rows}) == FILES[name]
    for (file, caller, _), (_, _, spelled) in itertools.pairwise(rows):
        assert spelled in calls(function(root, file, caller)), f"{caller} of {file} does not call {spelled}"
    function(root, *rows[-1][:2])


@pytest.mark.docs
@pytest.mark.parametrize(("name", "rule"), [("training", "train"), ("inference", "infer")])
def test_a_walk_begins_with_the_command_of_its_rule(root, name, rule):
    from vosrepro.cli import COMMANDS

    (command,) = [c for c in COMMANDS if c.name == rule]
    file, target, _ = walk(root, name)[2]
    assert file == f"src/vosrepro/{command.module.replace('.', '/')}.py"
    assert target == command.function
    assert f'"vosrepro {rule} --gpus' in (root / f"workflow/rules/{rule}.smk").read_text(encoding="utf-8")
