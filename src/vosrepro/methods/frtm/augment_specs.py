"""Which transforms the augmented views of a first frame get, drawn from an explicit generator.

The order of the draws is part of the method: with the same legacy generator the same views result.

Source: andr345/frtm-vos: model/augmenter.py, evaluate.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_ROTATIONS = (5, -5, 10, -10, 20, -20, 30, -30, 45, -45)
_FOREGROUND: dict[str, tuple[Any, ...]] = {
    "rotation": _ROTATIONS,
    "flip": (False, False, False, False, True),
    "scale": (0.5, 0.7, 1.0, 1.5, 2.0, 2.5),
    "skew": ((0.0, 0.0), (0.0, 0.0), (0.1, 0.1)),
    "blur_size": (0, 0, 0, 2),
    "blur_angle": (0, 45, 90, 135),
}
_BACKGROUND: dict[str, tuple[Any, ...]] = {
    "location": ((0.5, 0.5),),
    "rotation": (0, 0, 0),
    "flip": (False,),
    "scale": (1.0, 1.0, 1.2),
    "skew": ((0.0, 0.0),),
    "blur_size": (0, 0, 1, 2, 5),
    "blur_angle": (0, 45, 90, 135),
    "center": ((0.5, 0.5),),  # unused, but it is shuffled
}


@dataclass(frozen=True)
class BoxSpec:
    """One transform of a box.

    Attributes:
        location: center of the box in the view, in shares of width and height.
        rotation: degrees.
        flip: mirrored from left to right.
        scale: of both axes.
        skew: off-diagonal elements.
        blur_size: *variance* in pixels squared along the long axis of the blur; 0: none.
        blur_angle: of the long axis, degrees.
    """

    location: tuple[float, float]
    rotation: float
    flip: bool
    scale: float
    skew: tuple[float, float]
    blur_size: int
    blur_angle: float


def draw_locations(views: int, aspect: float, rng: np.random.RandomState) -> list[tuple[float, float]]:
    """Jittered centers of a grid of at least `views` cells, shuffled and cut to `views`.

    Args:
        views: how many views there will be, the original included.
        aspect: width / height.
        rng: the generator.
    """
    rows = math.ceil(math.sqrt(views / aspect))
    columns = math.ceil(aspect * rows)
    places = []
    for row in range(rows):
        for column in range(columns):
            x = rng.normal((column + 0.5) / columns, 0.5 / columns / 4)
            y = rng.normal((row + 0.5) / rows, 0.5 / rows / 4)
            places.append((round(x, 3), round(y, 3)))
    rng.shuffle(places)
    return places[:views]


def draw_specs(
    count: int, locations: list[tuple[float, float]], rng: np.random.RandomState
) -> list[tuple[BoxSpec, BoxSpec]]:
    """`count` pairs of a foreground and a background transform.

    Each list of values is repeated until it is long enough, shuffled, and cut.
    """
    foreground = _draw({"location": tuple(locations), **_FOREGROUND}, count, rng)
    background = _draw(_BACKGROUND, count, rng)
    return list(zip(foreground, background, strict=True))


def _draw(lists: dict[str, tuple[Any, ...]], count: int, rng: np.random.RandomState) -> list[BoxSpec]:
    drawn: dict[str, list[Any]] = {}
    for name, values in lists.items():
        repeated = list(values) * math.ceil(count / len(values))
        rng.shuffle(repeated)
        drawn[name] = repeated[:count]
    drawn.pop("center", None)
    return [BoxSpec(**{name: drawn[name][i] for name in drawn}) for i in range(count)]
