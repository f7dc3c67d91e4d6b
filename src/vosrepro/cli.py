"""The command line: find the command, parse, call, turn an error into one sentence and an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from vosrepro import __version__
from vosrepro.base.errors import VosreproError, nearest
from vosrepro.base.targets import refuse_arguments


class Command(NamedTuple):
    """One sub-command; `module` is imported only when it is called."""

    name: str
    group: str
    summary: str
    module: str
    function: str = "run"
    arguments: str = "add_arguments"


COMMANDS = (
    Command("data", "data", "prepare, generate and verify data sets", "commands.data"),
    Command("plan", "the study, step by step", "list a study's jobs and what they cost", "commands.plan"),
    Command(
        "coverage", "the study, step by step", "published systems and numbers against our studies", "commands.coverage"
    ),
    Command("launch", "the study, step by step", "lease devices, start one or many processes", "commands.launch"),
    Command("train", "the study, step by step", "train one stage of a recipe", "commands.train"),
    Command(
        "select",
        "the study, step by step",
        "choose a checkpoint on held-out videos",
        "commands.infer",
        "select_checkpoint",
    ),
    Command("resize", "the study, step by step", "scale high-resolution benchmarks down", "commands.resize"),
    Command(
        "infer",
        "the study, step by step",
        "segment or classify the benchmarks with a run's weights",
        "commands.infer",
        "infer",
    ),
    Command(
        "take-masks",
        "the study, step by step",
        "take masks that authors published instead of segmenting",
        "commands.take_masks",
    ),
    Command("score-run", "the study, step by step", "score all entries of one run", "commands.score_run"),
    Command(
        "submit-entry",
        "the study, step by step",
        "check and pack an entry for its server",
        "commands.submit",
        "entry",
        "add_entry_arguments",
    ),
    Command("track", "the study, step by step", "mirror the journals into MLflow", "commands.track"),
    Command("report", "the study, step by step", "render the HTML pages", "commands.report"),
    Command("results", "tools", "a study's results as tables, for pandas and others", "commands.results"),
    Command("compare", "tools", "two studies or seeds: what changed, and whether the scores did", "commands.compare"),
    Command("score", "tools", "score any folder or zip of masks", "commands.score"),
    Command("submit", "tools", "check or pack masks for a challenge server", "commands.submit"),
    Command("weights", "data", "list and import released checkpoints", "commands.weights"),
    Command("segment", "tools", "segment your own video or folder of frames", "commands.segment"),
    Command("correspond", "tools", "show what a network takes for the same place in two frames", "commands.correspond"),
    Command("parity", "tools", "compare a method with recorded outputs of its original", "commands.parity"),
    Command("bench", "tools", "measure speed and memory (score, infer, train, ...)", "commands.bench"),
)

_INTRODUCTION = """\
usage: vosrepro COMMAND [ARGUMENTS]
       vosrepro COMMAND --help

vosrepro trains, runs and scores six published systems of semi-supervised video object segmentation
and compares them with their papers. The whole study is one workflow:

    snakemake --cores 8 --resources gpu=4 -- reports/all.html

which calls the commands below; each can also be called by hand.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 2 for a user's mistake, 130 when interrupted, another code of `VosreproError`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_page())
        return 0
    if arguments[0] == "--version":
        print(f"vosrepro {__version__}")
        return 0
    if not logging.getLogger().handlers:
        logging.basicConfig(
            level=logging.INFO,
            stream=sys.stderr,
            format="%(asctime)s %(message)s",
            datefmt="%H:%M:%S",
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    try:
        return _dispatch(arguments)
    except VosreproError as error:
        print(f"vosrepro: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vosrepro: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"vosrepro: {error.strerror}{where}: make room or fix permissions, then run again", file=sys.stderr)
        return 1


def help_page() -> str:
    """The page that `vosrepro --help` prints."""
    lines = [_INTRODUCTION]
    width = max(len(command.name) for command in COMMANDS)
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines.append(f"{group}:")
        lines += [f"  {c.name:<{width}}  {c.summary}" for c in COMMANDS if c.group == group]
        lines.append("")
    lines.append("Parameters are in params/, results in results/, pages in reports/.")
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    table = {command.name: command for command in COMMANDS}
    name = arguments[0]
    if name not in table:
        hint = nearest(name, table, otherwise="see `vosrepro --help`")
        print(f"vosrepro: there is no command '{name}': {hint}", file=sys.stderr)
        return 2
    command = table[name]
    module = importlib.import_module(f"vosrepro.{command.module}")
    description = module.__doc__ if command.function == "run" else command.summary
    parser = argparse.ArgumentParser(
        prog=f"vosrepro {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    getattr(module, command.arguments)(parser)
    given = parser.parse_args(arguments[1:])
    refuse_arguments(vars(given))
    return int(getattr(module, command.function)(given) or 0)


if __name__ == "__main__":
    sys.exit(main())
