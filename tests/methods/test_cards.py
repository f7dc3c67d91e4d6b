"""The cards of the methods: one form, two screens before the appendix, and nothing named that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vosrepro.cli import COMMANDS
from vosrepro.methods import REGISTRY

FORM = [
    "Idea",
    "Data flow",
    "Reading order",
    "Parameters",
    "Deviations",
    "Parity",
    "Speed",
    "What we found",
]
#: Two screens of an editor.
LINES = 120
METHODS = Path(__file__).parents[2] / "src/vosrepro/methods"
#: Where a path of a card may begin.
PLACES = (METHODS, METHODS / "common", METHODS.parent, METHODS.parents[2])
#: Files that a run makes, or that a person brings.
MADE = ("FIXTURE.npz", "predictions.csv")

pytestmark = [pytest.mark.docs, pytest.mark.parametrize("name", sorted(REGISTRY))]


def card(name: str) -> str:
    return (METHODS / name / "README.md").read_text(encoding="utf-8")


def test_a_card_has_the_sections_of_all_cards_in_their_order(name):
    sections = re.findall(r"^## (.+)$", card(name), re.M)
    assert sections in (FORM, [*FORM, "Appendix"])
    assert card(name).startswith("# ")


def test_a_card_ends_after_two_screens_or_goes_on_in_an_appendix(name):
    assert len(card(name).split("\n## Appendix\n")[0].splitlines()) <= LINES


def test_no_section_is_empty(name):
    _, *parts = re.split(r"^#{2,3} (.+)$", card(name), flags=re.M)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    assert [heading for heading, body in bodies.items() if not body.strip()] in ([], ["Appendix"])


def test_every_file_that_a_card_names_exists(name):
    named = set(re.findall(r"`([\w./-]+\.(?:py|ya?ml|csv|npz|md))`", card(name)))
    assert named
    for path in named - set(MADE):
        assert any((place / path).is_file() for place in (METHODS / name, *PLACES)), path


def test_every_command_that_a_card_names_exists(name):
    named = set(re.findall(r"\bvosrepro ([a-z][a-z-]+)", card(name)))
    assert named <= {command.name for command in COMMANDS}


def test_the_reading_order_names_every_module_of_the_method_once(name):
    order = card(name).split("## Reading order\n")[1].split("\n## ")[0]
    first_cells = " ".join(line.split("|")[1] for line in order.splitlines() if line.startswith("| "))
    named = re.findall(r"`([\w/]+\.py)`", first_cells)
    modules = {path.relative_to(METHODS / name).as_posix() for path in (METHODS / name).rglob("*.py")}
    assert sorted(named) == sorted(modules)
