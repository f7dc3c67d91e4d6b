"""No command writes over what it reads: each pair of an argument that is read and one that is written."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.base.targets import Place, SourcePath, TargetPath, lies_inside, refuse, same
from vosrepro.cli import COMMANDS, main
from vosrepro.commands.bench import _MODULES

#: How arguments are called that name files.
FILES = {"FILE", "DIR", "JSON", "CSV", "YAML", "PATH", "VIDEO", "MASK", "SRC", "TGT", "RESULTS", "FIXTURE.npz"}
NAMES = {"out", "target", "source", "root", "study", "weights", "mask", "truth", "overlay", "cache", "write", "data"}
#: Strings that hold more than a path; whoever reads them compares them.
MIXED = {("segment", "masks")}


def parsers() -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command and sub-command as typed, with its parser."""
    for command in COMMANDS:
        module = importlib.import_module(f"vosrepro.{command.module}")
        yield from _below((command.name,), module, command.arguments)
    for name, path in _MODULES.items():
        yield from _below(("bench", name), importlib.import_module(path), "add_arguments")


def _below(words, module, function) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser()
    getattr(module, function)(parser)
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield words, parser
    for action in inner:
        for name, sub in action.choices.items():
            yield (*words, name), sub


ALL = dict(parsers())
PAIRS = [
    (words, target.dest, source.dest)
    for words, parser in ALL.items()
    for target in parser._actions
    for source in parser._actions
    if target.type is TargetPath and source.type is SourcePath
]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_argument_that_names_a_file_says_whether_it_is_read_or_written(words):
    for action in ALL[words]._actions:
        if action.nargs == 0 or (" ".join(words), action.dest) in MIXED:
            continue
        named = {action.metavar} & FILES or {action.dest} & NAMES
        assert action.type is not Path, f"{action.dest}: SourcePath, TargetPath or Place instead"
        if named:
            assert action.type in (SourcePath, TargetPath, Place), action.dest


def test_the_commands_that_write_are_known_to_these_tests():
    known = "segment, correspond, score, submit, weights import, report, track, data prepare, data convert, bench score"
    assert {" ".join(words) for words, *_ in PAIRS} >= set(known.split(", "))


@pytest.mark.parametrize(("words", "target", "source"), PAIRS, ids=lambda v: v if isinstance(v, str) else " ".join(v))
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
def test_no_command_takes_an_input_for_its_target(words, target, source, linked, tmp_path, capsys):
    one = tmp_path / "one.png"
    one.write_bytes(b"precious")
    other = one
    if linked:
        other = tmp_path / "link.png"
        other.symlink_to(one)
    assert main(_typed(words, {target: str(other), source: str(one)})) == 2
    assert "is an input, which it would replace: write to another place" in capsys.readouterr().err
    assert one.read_bytes() == b"precious"


def _typed(words: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """A command line that parses: given values, and something for all else that is required."""
    parser = ALL[words]
    exclusive = {id(a) for g in parser._mutually_exclusive_groups for a in g._group_actions if a.dest not in values}
    line, positional = [], []
    for group in parser._mutually_exclusive_groups:
        if group.required and not any(a.dest in values for a in group._group_actions):
            line += [group._group_actions[0].option_strings[0], "1,1"]
    for action in parser._actions:
        if id(action) in exclusive or not (action.required or action.dest in values):
            continue
        value = values.get(action.dest) or (str(next(iter(action.choices))) if action.choices else "1")
        if action.option_strings:
            line += [action.option_strings[0], value]
        else:
            positional.append(value)
    return [*words, *positional, *line]


def test_a_file_inside_of_an_input_is_not_replaced_and_a_new_one_may_be_written(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    refuse({"--overlay": frames / "look.mp4"}, [frames])
    (frames / "1.jpg").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"--overlay .*1\.jpg is a file of the input .*frames: write to another"):
        refuse({"--overlay": frames / "1.jpg"}, [frames])
    (tmp_path / "elsewhere").symlink_to(frames)
    assert lies_inside(tmp_path / "elsewhere/1.jpg", frames)
    assert same(tmp_path / "elsewhere/new.png", frames / "new.png")  # neither is there yet
    assert not same(frames / "1.jpg", frames / "2.jpg")
