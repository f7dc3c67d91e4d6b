"""Make `snakemake --cores 8 --resources gpu=4 reports/all.html` work as it is typed.

Snakemake declares `--resources` as "one or more values", so a target that follows it is swallowed and
the command ends in a `ValueError`. Documented ways out are `--` before the target or the target first.
People type the other form all the same, so this file moves swallowed targets out of the list.

It can do so because Snakemake imports every package named `snakemake_logger_plugin_*` before it parses
its command line. That is a trick: hence it is one file with no other duty, it touches `sys.argv` only
when the program is Snakemake, and `tests/workflow/test_literal_command.py` runs the literal command with
the real program. Delete it when upstream no longer swallows targets.

As a logger plugin it does nothing: it is not used unless asked for (`--logger vosrepro`), and then it
drops every record and leaves Snakemake's own output as it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from logging import LogRecord

# A value of --resources: a name and an equals sign, or Snakemake's own encoded form.
_RESOURCE = re.compile(r"[^\W\d]\w*=|base64//")


def normalise(arguments: Sequence[str]) -> list[str]:
    """Move targets that `--resources` would swallow to where Snakemake looks for targets.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The same arguments; swallowed targets stand after the leading targets, or right after `--` if
        the line has one. A line in which nothing is swallowed comes back unchanged.
    """
    options, separator, after = _split(arguments)
    kept: list[str] = []
    swallowed: list[str] = []
    inside = False
    for argument in options:
        if argument.startswith("-"):
            inside = _is_resources(argument)
        elif inside and not _RESOURCE.match(argument):
            swallowed.append(argument)
            continue
        kept.append(argument)
    if separator:
        return [*kept, *separator, *swallowed, *after]
    leading = next((i for i, a in enumerate(kept) if a.startswith("-")), len(kept))
    return [*kept[:leading], *swallowed, *kept[leading:]]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """What stands before "--", the "--" itself if there is one, and what stands after it."""
    items = list(arguments)
    if "--" not in items:
        return items, [], []
    at = items.index("--")
    return items[:at], ["--"], items[at + 1 :]


def _is_resources(option: str) -> bool:
    """Whether an option is `--resources` or an abbreviation that Snakemake takes for it.

    `--resources=gpu=4` is not meant: written so, the option takes one value and swallows nothing.
    """
    return option == "--res" or (option.startswith("--reso") and "--resources".startswith(option))


def _is_snakemake(program: str) -> bool:
    """Whether sys.argv[0] is the snakemake program or `python -m snakemake`."""
    path = Path(program)
    return path.stem == "snakemake" or (path.name == "__main__.py" and path.parent.name == "snakemake")


if sys.argv and _is_snakemake(sys.argv[0]):
    sys.argv[1:] = normalise(sys.argv[1:])


class LogHandler(LogHandlerBase):
    """What Snakemake requires a logger plugin to define; drops every record."""

    def emit(self, record: LogRecord) -> None:
        """Drop the record."""

    @property
    def writes_to_stream(self) -> bool:
        """False: Snakemake's own output stays."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """False."""
        return False

    @property
    def has_filter(self) -> bool:
        """True: Snakemake need not attach one."""
        return True

    @property
    def has_formatter(self) -> bool:
        """True: Snakemake need not attach one."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """False."""
        return False
