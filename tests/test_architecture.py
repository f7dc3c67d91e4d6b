"""ARCHITECTURE.md and CITATION.cff say what is so."""

from __future__ import annotations

import itertools
import re
import tomllib

import pytest
import yaml
from real_snakemake import snakemake

pytestmark = pytest.mark.docs


def edges(text):
    """(before, after) of every arrow of a mermaid flowchart."""
    found = set()
    for line in text.splitlines():
        steps = [[name.strip().partition("[")[0] for name in part.split("&")] for part in line.split("-->")]
        for before, after in itertools.pairwise(steps):
            found |= {(a, b) for a in before for b in after}
    return found


def section(root, title):
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", (root / "ARCHITECTURE.md").read_text(), re.M | re.S)
    return text


@pytest.mark.slow
@pytest.mark.workflow
def test_the_drawn_dag_is_that_of_the_default_study(root, tmp_path):
    for name in ("workflow", "profiles", "params", "Snakefile"):
        (tmp_path / name).symlink_to(root / name)
    output = snakemake(tmp_path, "--rulegraph")
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', output))
    ruled = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", output)}
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", section(root, "The DAG"), re.S)
    assert edges(drawn) == ruled


def test_the_drawn_rooms_are_those_that_the_linter_checks(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    order = {name.strip(): place for place, layer in enumerate(layers) for name in layer.split("|")}
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", section(root, "The rooms"), re.S)
    arrows = {(a, b) for a, b in edges(drawn.replace("flowchart TD", "")) if a and b}
    named = {name for arrow in arrows for name in arrow}
    assert named == set(order) - {"workflow"}  # which stands in one box with cli
    assert all(order[a] < order[b] for a, b in arrows)


def test_the_citation_names_the_version_and_licence_of_the_project(root):
    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
