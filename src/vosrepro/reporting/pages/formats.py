"""How numbers are written on the pages; "–" stands for what is not known."""

from __future__ import annotations

from functools import partial

from vosrepro.base import units

NOTHING = "–"


def points(value: float | None) -> str:
    """A score in points with one decimal and a true minus."""
    return NOTHING if value is None else f"{value:.1f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference with its sign, a true minus, and one decimal."""
    if value is None:
        return NOTHING
    text = f"{value:+.1f}"
    return "±0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def rate(value: float | None) -> str:
    """Frames per second with about three digits."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def megabytes(value: float | None) -> str:
    """MB as `vosrepro.base.units.size` writes bytes."""
    return units.size(None if value is None else value * 1e6, unknown=NOTHING)


def short(digest: str | None, digits: int = 10) -> str:
    """The first digits of a commit or digest."""
    return digest[:digits] if digest else NOTHING


def metric_heading(metric: str) -> str:
    """A metric as a column's heading: "J-Mean" is J, "J-Recall" is J recall, "J_seen" is J seen."""
    name = metric.removesuffix("-Mean")
    measure, sign, rest = name.partition("-" if "-" in name else "_")
    return f"{measure} {rest.lower()}" if sign else name


def percent(value: float | None) -> str:
    """A value in 0..100 as a CSS length, clamped."""
    return f"{min(max(value or 0.0, 0.0), 100.0):.2f}%"


FILTERS = {
    "points": points,
    "signed": signed,
    "rate": rate,
    "duration": partial(units.duration, unknown=NOTHING),
    "megabytes": megabytes,
    "short": short,
    "metric_heading": metric_heading,
    "percent": percent,
}
