"""The one family of errors that a user may meet.

Every message is one sentence (or a few joined by semicolons) that says what is wrong, where, and what
to do about it. The command line prints it without a traceback and exits with `exit_code`.
"""

from __future__ import annotations


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


class BusyError(VosreproError):
    """Another living process is doing this very job."""

    exit_code = 4
