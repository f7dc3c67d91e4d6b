"""The rules of the house: where things are, what may be named where, and that what is named exists."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from vosrepro.base.types import Method
from vosrepro.datasets.sets.catalog import TRAINING_SETS
from vosrepro.datasets.sets.folders import SOURCES
from vosrepro.methods import REGISTRY

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/vosrepro"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES = 16
#: One file a command, listed in the order of cli.py's table, and nothing else: no reading order to lose.
TABLES = {PACKAGE / "commands"}

#: Words that name a method or a set, and also a kind of item, a count or a protocol of scoring.
AMBIGUOUS = {"parts", "static", "davis2016", "davis2017", "imagenet"}
#: Where a name may stand although the room is for all of them, and why.
NAMED = {
    "commands/bench.py": {"pml"},  # the table of benches, some of which measure one method's parts
    "study/params.py": {"davis17-train"},  # the default of the split that checkpoints are chosen on
}
#: Rooms that are about single methods or data sets: their own, benches and recordings of one method each,
#: and protocols of scoring, which are named after the tools that they agree with.
OWN_ROOMS = ("methods", "datasets", "lab", "scoring")

_PATH = re.compile(
    r"(?<![\w/.-])((?:src|params|tests|workflow|profiles|\.ci|methods|datasets|training|inference|scoring|reporting|"
    r"costs|tracking|study|base|lab|commands|weights|vosrepro)/[\w/.-]+\.(?:py|md|ya?ml|smk|csv|html|css|npz))\b(?!/)"
)
_MODULE = re.compile(r"(?<![\w./-])(vosrepro\.(?:cli|workflow|\w+\.\w+)[\w.]*\w)")  # "vosrepro.key" is a tag in MLflow


def _named_outside() -> Iterator[str]:
    names = {*REGISTRY, *TRAINING_SETS, *SOURCES} - AMBIGUOUS
    for path in MODULES:
        place = path.relative_to(PACKAGE)
        if place.parts[0] in OWN_ROOMS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names - NAMED.get(place.as_posix(), set()):
                yield f"{place}:{node.lineno} names '{node.value}'"


def _prose(path: Path) -> str:
    """Docstrings and comments of a module; the whole of a page."""
    text = path.read_text()
    if path.suffix == ".py":
        strings = [
            ast.get_docstring(n, clean=False) or ""
            for n in ast.walk(ast.parse(text))
            if hasattr(n, "body") and isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
        ]
        text = "\n".join([*strings, *re.findall(r"#.*", text)])
    return text


def _exists(name: str, near: Path) -> bool:
    return any((folder / name).exists() for folder in (ROOT, PACKAGE, ROOT / "src", near.parent))


def _imports(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            continue
        if found is None:
            continue
        value = import_module(name) if parts[count:] else None
        for attribute in parts[count:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


def test_the_package_has_at_most_two_modules_beside_its_rooms():
    assert len([p for p in PACKAGE.glob("*.py") if p.name != "__init__.py"]) <= 2


def test_no_folder_has_more_files_than_a_reader_takes_in():
    folders = {path.parent for path in MODULES} - TABLES
    crowded = {f.relative_to(PACKAGE): n for f in folders if (n := len([*f.glob("[!_]*.py")])) > MOST_FILES}
    assert not crowded


def test_every_command_of_the_table_of_commands_is_one_of_the_command_line():
    from vosrepro.cli import COMMANDS

    named = {command.module.removeprefix("commands.") for command in COMMANDS}
    assert {p.stem for p in (PACKAGE / "commands").glob("[!_]*.py")} == named


def test_only_their_own_rooms_and_params_name_a_method_or_a_data_set():
    assert not [*_named_outside()]


#: Functions that several modules have under one name because one caller asks whichever it was given: the command
#: line its commands and benches, `python -m` a module, the registry a method, the catalog a data set.
ROLES = {
    "commands": {"add_arguments", "run"},
    "lab": {"add_arguments", "run"},
    "methods": {field.name for field in fields(Method)},
    "datasets": {"benchmark", "truth", "training", "list_file"},
}


def _public_names(path: Path) -> Iterator[str]:
    """Classes, functions and aliases of types (`Name = tuple[...]`) that a module defines, but those of `ROLES`."""
    place = path.relative_to(PACKAGE)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef) and node.name not in {"main", *ROLES.get(place.parts[0], ())}
        ):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name) and re.fullmatch("[A-Z][a-z]\\w*", t.id))


def test_no_two_classes_functions_or_types_have_one_name():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for name in {*_public_names(path)}:
            if not name.startswith("_"):
                places.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1 or name in ROLES["methods"]} == {}


PAGES = [p for p in [*ROOT.glob("*.md"), *PACKAGE.rglob("*.md"), *(ROOT / "params").rglob("*.md")]]


@pytest.mark.docs
@pytest.mark.parametrize("path", [*MODULES, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_text_names_exists(path):
    text = _prose(path)
    lacking = {name for name in _PATH.findall(text) if not _exists(name, path)}
    lacking |= {name for name in _MODULE.findall(text) if not _imports(name)}
    assert not lacking


#: Functions of more lines, and why they are not cut.
LONG = {
    "commands/data.py: add_arguments": "a table of arguments",
    "commands/score.py: add_arguments": "a table of arguments",
    "commands/segment.py: add_arguments": "a table of arguments",
    "lab/parity/frtm.py: family_rules": "a table of rules",
    "inference/videos.py: segment_entry": "half of it is the record, key by key",
    "methods/parts/train.py: segment": "one term of the loss after another, each needed by the next",
}


def test_no_function_has_more_than_forty_lines_of_code_without_a_reason():
    long = set()
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = range(body[0].lineno, (node.end_lineno or 0) + 1) if body else range(0)
                if len(lines) > 40 and len(lines_of_code(text) & set(lines)) > 40:  # few files need to be read by token
                    long.add(f"{path.relative_to(PACKAGE).as_posix()}: {node.name}")
    assert long == set(LONG)


def lines_of_code(text: str) -> set[int]:
    """Numbers of the lines that hold more than a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    return {line for t in tokens if t.type not in empty for line in range(t.start[0], t.end[0] + 1)}


def test_every_test_that_the_table_of_kinds_names_exists(root):
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (root / "tests/README.md").read_text())
    assert len(named) > 10
    assert [name for path, name in named if f"def {name}(" not in (root / path).read_text()] == []
