"""Times and sizes as people read them: one way for terminals, messages and pages."""

from __future__ import annotations

_STEPS = ((100 * 3600.0, 86400.0, "d"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"))


def duration(seconds: float | None, *, unknown: str = "?") -> str:
    """Seconds with one decimal: ms, s from 1 s on, min from 2 min on, h from 2 h on, d from 100 h on."""
    if seconds is None:
        return unknown
    for least, unit, name in _STEPS:
        if seconds >= least:
            return f"{seconds / unit:.1f} {name}"
    return f"{1000 * seconds:.1f} ms" if seconds else "0 s"


def size(count: float | None, *, unknown: str = "?") -> str:
    """Bytes in MB (10^6) or, from 1000 of them on, in GB (10^9), with one decimal."""
    if count is None:
        return unknown
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
