"""Non-rigid outlines: each family turns 16 uniform draws and a time into textured polygons.

Local coordinates: x to the right (the way the object faces), y down, radius about 1. Time counts
cycles of the object's own motion. A part is (polygon float64 (n, 2), skin 0 or 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vosrepro.datasets.generated.numbers import cosine, sine

Part = tuple[np.ndarray, int]
DRAWS = 16
_TURNS = np.arange(36) / 36


def parts(family: str, draws: np.ndarray, time: float) -> list[Part]:
    """The outline of a family member at a time, in painting order."""
    return _FAMILIES[family](draws, time)


def _ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0) -> np.ndarray:
    c, s = cosine(turn), sine(turn)
    u, v = a * cosine(_TURNS), b * sine(_TURNS)
    return np.stack([x + c * u - s * v, y + s * u + c * v], 1)


def _limb(x: float, y: float, turn: float, length: float, width: float) -> tuple[np.ndarray, float, float]:
    """A rounded bar from (x, y) in a direction; also returns its far end."""
    dx, dy = float(length * cosine(turn)), float(length * sine(turn))
    bar = _ellipse(x + dx / 2, y + dy / 2, length / 2 + width / 2, width / 2, turn)
    return bar, x + dx, y + dy


def _polar(radius: np.ndarray) -> np.ndarray:
    return np.stack([radius * cosine(_TURNS), radius * sine(_TURNS)], 1)


def _blob(d: np.ndarray, time: float) -> list[Part]:
    radius = np.full_like(_TURNS, 0.9)
    for k in (2, 3, 4):
        size = (0.08 + 0.14 * d[k]) * 2 / k
        radius = radius + size * cosine(k * _TURNS + d[k + 4] + (0.5 + d[k + 8]) * time)
    return [(_polar(radius), 0)]


def _star(d: np.ndarray, time: float) -> list[Part]:
    points = 4 + int(3 * d[0])
    depth = 0.24 + 0.1 * float(cosine(time + d[1]))
    radius = 0.78 + depth * cosine(points * _TURNS) + 0.1 * cosine(2 * _TURNS + d[2] + time)
    return [(_polar(radius), 0), (_ellipse(0, 0, 0.3, 0.3), 1)]


def _fish(d: np.ndarray, time: float) -> list[Part]:
    swing = 0.13 * float(sine(time + d[0]))
    height = 0.45 + 0.2 * d[1]
    c, s = float(cosine(swing)), float(sine(swing))
    tail = np.array([[0.1, 0.0], [-0.6, -0.55 - 0.2 * d[2]], [-0.45, 0.0], [-0.6, 0.55 + 0.2 * d[2]]])
    tail = np.stack([c * tail[:, 0] - s * tail[:, 1], s * tail[:, 0] + c * tail[:, 1]], 1)
    fin = np.array([[-0.3, -0.3], [0.35, -0.3], [-0.25 + 0.3 * swing, -height - 0.35]])
    return [(tail - np.array([0.7, 0.0]), 1), (fin, 1), (_ellipse(0.1, 0, 0.95, height), 0)]


def _walker(d: np.ndarray, time: float) -> list[Part]:
    legs = []
    for i in range(4):
        swing = 0.25 + 0.1 * float(sine(time + d[0] + i * 0.25 + 0.5 * (i % 2)))
        bar, _, _ = _limb(-0.5 + 0.33 * i, 0.1, swing, 0.7, 0.24)
        legs.append((bar, 0))
    nod = 0.08 * float(sine(time + d[1]))
    body = _ellipse(0, -0.1, 0.8, 0.4 + 0.12 * d[2])
    return [*legs, (body, 0), (_ellipse(0.8, -0.45 + nod, 0.36, 0.3 + 0.1 * d[3]), 1)]


def _caterpillar(d: np.ndarray, time: float) -> list[Part]:
    found: list[Part] = []
    wave = 0.22 + 0.18 * d[0]
    for i in range(6):
        y = wave * float(sine(time + d[1] + i * (0.14 + 0.06 * d[2])))
        stretch = 0.36 + 0.04 * float(sine(2 * time))
        found.append((_ellipse(stretch * (i - 2.5), y, 0.34, 0.36), 1 if i == 5 else 0))
    return found


def _flower(d: np.ndarray, time: float) -> list[Part]:
    petals = 5 + int(2 * d[0])
    reach = 0.58 + 0.12 * float(sine(time + d[1]))
    found: list[Part] = []
    for i in range(petals):
        turn = i / petals + 0.3 * time * (d[2] - 0.5)
        x, y = reach * float(cosine(turn)), reach * float(sine(turn))
        found.append((_ellipse(x, y, 0.44, 0.26 + 0.1 * d[3], turn), 0))
    return [*found, (_ellipse(0, 0, 0.36, 0.36), 1)]


def _crab(d: np.ndarray, time: float) -> list[Part]:
    found: list[Part] = []
    for i in range(6):
        side = 1 if i < 3 else -1
        swing = 0.04 * float(sine(time + d[0] + i * 0.3))
        turn = (0.08 + 0.1 * (i % 3) + swing) if side > 0 else (0.42 - 0.1 * (i % 3) - swing)
        bar, x, y = _limb(0.35 * side, 0.1, turn, 0.55, 0.16)
        foot, _, _ = _limb(x, y, 0.25, 0.25, 0.14)
        found += [(bar, 0), (foot, 0)]
    for side in (-1, 1):
        turn = (-0.14 if side > 0 else 0.64) + side * 0.05 * float(sine(time + d[1]))
        arm, x, y = _limb(0.45 * side, -0.15, turn, 0.45, 0.18)
        found += [(arm, 0), (_ellipse(x, y - 0.1, 0.24, 0.28), 1)]
    return [*found, (_ellipse(0, 0, 0.68, 0.44 + 0.1 * d[2]), 0)]


def _mushroom(d: np.ndarray, time: float) -> list[Part]:
    lean = 0.25 + 0.03 * float(sine(time + d[0]))
    stem, _, _ = _limb(0.0, -0.1, lean, 0.85, 0.38 + 0.2 * d[1])
    cap = _ellipse(0, -0.1, 0.95, 0.75 + 0.1 * float(sine(time)))
    cap = np.stack([cap[:, 0], np.minimum(cap[:, 1], 0.05)], 1)
    return [(stem, 1), (cap, 0)]


_FAMILIES: dict[str, Callable[[np.ndarray, float], list[Part]]] = {
    "blob": _blob,
    "star": _star,
    "fish": _fish,
    "walker": _walker,
    "caterpillar": _caterpillar,
    "flower": _flower,
    "crab": _crab,
    "mushroom": _mushroom,
}
#: Families of all training sets.
SEEN = ("blob", "star", "fish", "walker", "caterpillar", "flower")
#: Families that occur only in held-out videos of the YouTube-like set.
UNSEEN = ("crab", "mushroom")
