"""The one family of errors that a user may meet.

Every message is one sentence (or a few joined by semicolons) that says what is wrong, where, and what
to do about it. The command line prints it without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class VosreproError(Exception):
    """A mistake or a fault that the user can act on."""

    exit_code = 1


class ConfigError(VosreproError):
    """A parameter file or a command line is wrong."""

    exit_code = 2


class DataError(VosreproError):
    """A data set, a mask or a video is missing, incomplete or malformed."""

    exit_code = 2


class ProtocolError(VosreproError):
    """Predictions cannot be scored by the protocol that was asked for."""

    exit_code = 2


class CheckpointError(VosreproError):
    """Weights or a training state do not fit what they are loaded into."""

    exit_code = 2


class DeviceError(VosreproError):
    """The asked-for devices cannot be had."""

    exit_code = 3


class DamagedError(VosreproError):
    """A file that one of our jobs made is not what that job recorded; it was moved aside and can be made again."""

    exit_code = 5


class BusyError(VosreproError):
    """Another living process is doing this very job."""

    exit_code = 4


def pick(mapping: Mapping[str, Any], name: str, *, what: str, where: str) -> Any:
    """Look up a name that a person typed.

    Raises:
        ConfigError: naming the nearest valid name.
    """
    if name in mapping:
        return mapping[name]
    raise ConfigError(f"{where} has no {what} '{name}': {nearest(name, mapping)}")


def nearest(name: str, known: Iterable[object], *, otherwise: str | None = None) -> str:
    """What to say after a name that is not known: the one that was probably meant.

    Args:
        name: what a person typed.
        known: the names that there are.
        otherwise: said if none of them is near; None lists them all.
    """
    names = sorted(str(k) for k in known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise or f"known are {', '.join(names) or 'none'}"
