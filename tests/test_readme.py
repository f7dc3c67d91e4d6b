"""What the README tells people to type exists."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from importlib import import_module

import pytest

from vosrepro.cli import COMMANDS

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def test_every_vosrepro_command_in_the_readme_exists(readme):
    named = set(re.findall(r"(?:^|`)vosrepro ([a-z][a-z-]+)", readme, re.MULTILINE))
    assert {"data", "score", "parity", "bench"} <= named
    assert named <= {command.name for command in COMMANDS}


def typed(readme):
    """The calls of vosrepro that the README shows in full: lines of its blocks, and what has options in the text."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", readme, re.S)).replace("\\\n", " ")
    lines = [line for line in blocks.splitlines() if line.startswith("vosrepro ")]
    lines += [" ".join(text.split()) for text in re.findall(r"`(vosrepro [^`|]* --[^`|]*)`", readme)]
    return [shlex.split(line, comments=True) for line in lines]


def test_every_call_of_vosrepro_in_the_readme_is_understood_by_its_command(readme):
    table = {command.name: command for command in COMMANDS}
    calls = typed(readme)
    assert len(calls) > 10
    for _, name, *arguments in calls:
        if arguments[:1] == ["--help"] or name.startswith("--"):
            continue
        module = import_module(f"vosrepro.{table[name].module}")
        parser = argparse.ArgumentParser(prog=f"vosrepro {name}", exit_on_error=False)
        getattr(module, table[name].arguments)(parser)
        parser.parse_args(arguments)


def test_every_file_and_folder_in_the_readme_exists(readme, root):
    made = ("reports/", "results/", "state/", "mlflow.db")  # by running the study
    named = re.findall(r"[`\s=]((?:params|src|workflow|profiles|data|docs)/[\w./*<>-]+)", readme)
    assert len(named) > 5
    for name in named:
        if "<" in name or name.startswith(made):
            continue
        assert list(root.glob(name.rstrip("/."))), name


def test_every_make_target_in_the_readme_exists(readme, root):
    makefile = (root / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE))
    assert {"report", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_study_is_in_the_readme(readme, root):
    for path in (root / "params/studies").glob("*.yaml"):
        assert f"`{path.stem}`" in readme


def test_the_supported_pythons_agree(readme, root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lowest = re.search(r">=(3\.\d+)", project["requires-python"])
    assert lowest
    assert f"python3 ≥ {lowest[1]}" in readme
