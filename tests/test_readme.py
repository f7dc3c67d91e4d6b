"""What the README tells people to type exists."""

from __future__ import annotations

import re
import tomllib

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


def test_every_file_and_folder_in_the_readme_exists(readme, root):
    made = ("reports/", "results/", "state/", "mlflow.db")  # by running the study
    named = re.findall(r"[`\s=]((?:params|src|workflow|profiles|data)/[\w./*<>-]+)", readme)
    assert len(named) > 5
    for name in named:
        if "<" in name or name.startswith(made):
            continue
        assert list(root.glob(name.rstrip("/."))), name


def test_every_make_target_in_the_readme_exists(readme, root):
    makefile = (root / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", readme, re.MULTILINE))
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
