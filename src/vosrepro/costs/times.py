"""How long one sample or one frame takes: from a measured rate, from counted work, or not known, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vosrepro.costs.rates import Rate, Work, at_objects

NOT_MEASURED = "not measured, and its work not counted (vosrepro bench train, infer or work)"
NOT_ESTIMATED = "not measured; its work is counted: --sustained TFLOPS estimates it"
_ALIKE_OBJECTS = 0.25


class Extent(NamedTuple):
    """How much there is of a benchmark; `source` says who counted it, and `objects` are those of all videos."""

    videos: int
    frames: int | None
    objects: int
    source: str


class Time(NamedTuple):
    """Seconds of something on `devices` devices (0: it needs none); None with a reason in `basis`."""

    seconds: float | None
    devices: int
    basis: str


@dataclass(frozen=True)
class Known:
    """All that times and sizes follow from.

    Attributes:
        rates: see `vosrepro.costs.rates.Rates.find`.
        work: see `vosrepro.costs.rates.load_work`.
        extents: benchmark, or SELECTION, -> how much there is.
        weight_bytes: digest of a stage -> bytes of its network's weights.
        machine: rates of machines whose name contains this come first.
        tflops: what one device sustains, if estimates are wanted.
        gpus: devices at hand.
    """

    rates: Mapping[tuple[str, str], list[Rate]] = field(default_factory=dict)
    work: Mapping[tuple[str, str], list[Work]] = field(default_factory=dict)
    extents: Mapping[str, Extent] = field(default_factory=dict)
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    machine: str | None = None
    tflops: float | None = None
    gpus: int = 1


def unit_time(
    known: Known,
    kind: str,
    identity: str,
    objects: float,
    devices: int,
    *,
    recorded: list[Rate] | None = None,
) -> Time:
    """Seconds of one sample or frame; the order of sources is that of `vosrepro.costs.jobs`.

    Args:
        known: rates and counted work.
        kind: "train", "init" or "infer".
        identity: what determines the work, see `vosrepro.costs.rates`.
        objects: in the frames, on average.
        devices: that an estimate shares the work among.
        recorded: rates that come before the file's.
    """
    rates = [*(recorded or []), *known.rates.get((kind, identity), [])]
    if known.machine is not None:
        wanted = [rate for rate in rates if known.machine in rate.machine]
        if wanted:
            return _measured(wanted, objects, "")
    work = known.work.get((kind, identity))
    if known.tflops is not None and work:
        points = [(w.objects, w.gflop) for w in work]
        seconds = at_objects(points, objects) / 1000 / known.tflops
        basis = f"estimate at {known.tflops:g} TFLOP/s per device, not measured"
        basis += _for_others(points, objects)
        return Time(seconds / devices, devices, basis)
    if rates:
        other = f", not on {known.machine}" if known.machine else ", another machine"
        return _measured(rates, objects, other if known.machine or known.tflops else "")
    return Time(None, devices, NOT_ESTIMATED if work else NOT_MEASURED)


def _measured(rates: list[Rate], objects: float, suffix: str) -> Time:
    """Of the machine that comes first."""
    first = rates[0]
    same = [r for r in rates if (r.machine, r.gpus) == (first.machine, first.gpus)]
    points = [(r.objects, 1 / r.samples_per_second) for r in same]
    basis = f"measured on {first.machine}{suffix}{_for_others(points, objects)}"
    return Time(at_objects(points, objects), max(1, first.gpus), basis)


def _for_others(points: list[tuple[int, float]], objects: float) -> str:
    """What to add where only one number of objects is known, and another is wanted."""
    counts = {count for count, _ in points}
    only = min(counts)
    if len(counts) > 1 or abs(only - objects) < _ALIKE_OBJECTS:
        return ""
    return f", for {only} object{'s' if only > 1 else ''} instead of {objects:.1f}"


def times(unit: Time, count: int) -> Time:
    """So many of one."""
    return unit._replace(seconds=None if unit.seconds is None else unit.seconds * count)


def total(parts: list[Time]) -> Time:
    """The sum of those that are known, with the basis of the longest."""
    known = [part for part in parts if part.seconds is not None]
    if not known:
        return parts[0]
    main = max(known, key=lambda part: part.seconds or 0.0)
    return main._replace(seconds=sum(part.seconds or 0.0 for part in known))
