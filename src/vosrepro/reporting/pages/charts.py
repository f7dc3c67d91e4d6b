"""Small charts as inline SVG: no fonts, no scripts, colors from the page's style sheet.

Series take the classes s0..s7 (see templates/style.css), so that dark mode and print need nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 38
_MOST_POINTS = 300


@dataclass(frozen=True)
class Series:
    """A line: points, its color class number, and how it is drawn."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A labelled point on a chart: a filled disc, or a ring."""

    x: float
    y: float
    label: str
    color: int = 0
    hollow: bool = False
    low: float | None = None  # error bar
    high: float | None = None


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis that covers some values."""

    low: float
    high: float
    label: str
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], label: str, *, log: bool = False, pad: float = 0.06) -> Axis:
        """The axis that shows all values with some room."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        if not finite:
            return cls(*((0.1, 1.0) if log else (0.0, 1.0)), label, log)
        low, high = min(finite), max(finite)
        if log:
            room = max((math.log10(high) - math.log10(low)) * pad, 0.12)
            return cls(low / 10**room, high * 10**room, label, log=True)
        room = (high - low) * pad or max(abs(high) * pad, 0.5)
        return cls(low - room, high + room, label)

    def share(self, value: float) -> float:
        """Position of a value, 0 at the low end and 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside the axis, about five."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            wide = self.high / self.low > 30
            found = [f * 10.0**d for d in decades for f in ((1, 3) if wide else (1, 2, 5))]
            return [t for t in found if self.low <= t <= self.high]
        raw = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(raw))
        step = next(f * unit for f in (1, 2, 2.5, 5, 10) if f * unit >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark] = (),
    boundaries: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Lines over a common axis; `boundaries` are labelled vertical lines."""
    parts = [_frame(x, y)]
    for at, label in boundaries:
        px = _px(x, at)
        parts.append(f'<line class="edge" x1="{px}" x2="{px}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="edge-label" x="{_f(px + 4)}" y="{_TOP + 11}">{escape(label)}</text>')
    for line in series:
        parts.append(_polyline(line, x, y))
    parts += [_mark(mark, x, y) for mark in marks]
    return _svg(parts, title)


def scatter(marks: Sequence[Mark], *, title: str, x: Axis, y: Axis) -> Markup:
    """Labelled points with vertical error bars; labels avoid each other."""
    parts = [_frame(x, y)]
    taken: list[tuple[float, float, float, float]] = []
    for mark in marks:
        px, py = _px(x, mark.x), _py(y, mark.y)
        taken.append((px - 6, py - 6, px + 6, py + 6))
    for mark in marks:
        px = _px(x, mark.x)
        if mark.low is not None and mark.high is not None:
            top, bottom = _py(y, min(mark.high, y.high)), _py(y, max(mark.low, y.low))
            parts.append(f'<line class="bar s{mark.color}" x1="{px}" x2="{px}" y1="{top}" y2="{bottom}"/>')
    for mark in marks:
        parts.append(_dot(mark, x, y))
        parts.append(_label(mark, x, y, taken))
    return _svg(parts, title)


def dot_strip(
    values: Sequence[tuple[str, float]],
    *,
    title: str,
    interval: tuple[float, float] | None,
    mean: float,
) -> Markup:
    """One row of dots around zero: the differences of single sequences, their mean and interval."""
    width, height, middle = 460, 46, 17
    shown = [v for _, v in values] + [0.0, *(interval or ())]
    low, high = min(shown), max(shown)
    if high - low < 1:
        low, high = low - 0.5, high + 0.5

    def at(value: float) -> float:
        return _f(10 + (value - low) / (high - low) * (width - 20))

    zero = at(0)
    parts = [
        f'<line class="axis" x1="0" x2="{width}" y1="{middle}" y2="{middle}"/>',
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="2" y2="32"/>',
    ]
    if interval:
        left, right = at(interval[0]), at(interval[1])
        parts.append(f'<rect class="band" x="{left}" y="{middle - 7}" width="{_f(right - left)}" height="14" rx="3"/>')
    for name, value in values:
        sign = "up" if value >= 0 else "down"
        tip = f"<title>{escape(name)}: {value:+.1f}</title>"
        parts.append(f'<circle class="{sign}" cx="{at(value)}" cy="{middle}" r="4">{tip}</circle>')
    parts.append(f'<path class="mean" d="M{at(mean)} {middle - 11}v22"/>')
    for value in (low, 0.0, high):
        x = at(value)
        if value and abs(x - zero) < 40:
            continue
        anchor = "start" if x < 20 else "end" if x > width - 20 else "middle"
        edge = 0 if anchor == "start" else width if anchor == "end" else x
        text = "0" if value == 0 else f"{value:+.0f}".replace("-", "−")
        parts.append(f'<text x="{edge}" y="{height - 3}" text-anchor="{anchor}">{text}</text>')
    return _svg(parts, title, width=width, height=height)


def moving_average(values: Sequence[float], span: int) -> list[float]:
    """Exponential moving average, corrected for its start."""
    keep = 1 - 1 / max(span, 1)
    total, weight, result = 0.0, 0.0, []
    for value in values:
        total, weight = total * keep + value, weight * keep + 1
        result.append(total / weight)
    return result


def _frame(x: Axis, y: Axis) -> str:
    parts = []
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in y.ticks():
        py = _py(y, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{_f(py + 4)}" text-anchor="end">{_tick(tick)}</text>')
    for tick in x.ticks():
        px = _px(x, tick)
        parts.append(f'<line class="tick" x1="{px}" x2="{px}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{px}" y="{bottom + 17}" text-anchor="middle">{_tick(tick)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(
        f'<text class="name" transform="translate(11 {(_TOP + bottom) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _polyline(line: Series, x: Axis, y: Axis) -> str:
    pairs = list(zip(line.x, line.y, strict=True))
    stride = -(-len(pairs) // _MOST_POINTS)
    kept = pairs[::stride] if stride > 1 else pairs
    if kept and kept[-1] != pairs[-1]:
        kept.append(pairs[-1])
    points = " ".join(f"{_px(x, a)},{_py(y, min(max(b, y.low), y.high))}" for a, b in kept)
    faint = " faint" if line.faint else ""
    text = f'<polyline class="line s{line.color}{faint}" points="{points}"/>'
    if line.dots:
        text += "".join(
            f'<circle class="dot s{line.color}" cx="{_px(x, a)}" cy="{_py(y, b)}" r="2.5"/>' for a, b in kept
        )
    return text


def _dot(mark: Mark, x: Axis, y: Axis) -> str:
    ring = " ring" if mark.hollow else ""
    tip = f"<title>{escape(mark.label)}: {mark.y:.1f}</title>"
    return f'<circle class="dot s{mark.color}{ring}" cx="{_px(x, mark.x)}" cy="{_py(y, mark.y)}" r="5">{tip}</circle>'


def _mark(mark: Mark, x: Axis, y: Axis) -> str:
    px, py = _px(x, mark.x), _py(y, mark.y)
    late = x.share(mark.x) > 0.6
    anchor, shift = ("end", -9) if late else ("start", 9)
    below = y.share(mark.y) > 0.85
    return (
        _dot(mark, x, y) + f'<text class="label" x="{_f(px + shift)}" y="{_f(py + (17 if below else -8))}" '
        f'text-anchor="{anchor}">{escape(mark.label)}</text>'
    )


def _label(mark: Mark, x: Axis, y: Axis, taken: list[tuple[float, float, float, float]]) -> str:
    px, py = _px(x, mark.x), _py(y, mark.y)
    width = 6.3 * len(mark.label)
    for shift in (4, -7, 15, -19, 27, -31, 39, -43):
        for anchor, start in (("start", px + 9), ("end", px - 9 - width)):
            box = (start, py + shift - 11, start + width, py + shift + 2)
            inside = start >= _LEFT and start + width <= WIDTH - 2 and _TOP <= box[1] <= HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = px + 9 if anchor == "start" else px - 9
                return (
                    f'<text class="label" x="{_f(at)}" y="{_f(py + shift)}" text-anchor="{anchor}">'
                    f"{escape(mark.label)}</text>"
                )
    return ""


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _svg(parts: Sequence[str], title: str, *, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _px(axis: Axis, value: float) -> float:
    return _f(_LEFT + axis.share(value) * (WIDTH - _LEFT - _RIGHT))


def _py(axis: Axis, value: float) -> float:
    return _f(HEIGHT - _BOTTOM - axis.share(value) * (HEIGHT - _TOP - _BOTTOM))


def _f(value: float) -> float:
    return round(value, 1)


def _tick(value: float) -> str:
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
