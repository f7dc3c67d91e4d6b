"""What happens in a generated video: who is in it, where they go, what the camera and the light do.

A scene is drawn once from a random stream; `vosrepro.datasets.generated.render` paints it at any time in
0..1. Lengths are pixels, angles turns, labels object ids (0: not annotated, 255: void).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vosrepro.datasets.generated.numbers import cosine, sine
from vosrepro.datasets.generated.shapes import DRAWS
from vosrepro.datasets.generated.textures import PATTERNS, backdrop, color, skin


@dataclass(frozen=True)
class SceneSpec:
    """What kind of scene to draw.

    Attributes:
        labels: ids of the annotated objects, back to front.
        families: shape families to draw them from, see `shapes`.
        distractors: objects without a label, of the shape of some labelled object.
        radius: range of object radii as a share of the height.
        travel: range of the way an object goes, in its radii.
        pair: the second object rides on the first.
        late: labels that enter the picture after the start.
        occluders: posts in front of everything.
        ghost: a translucent companion of the first object that is labelled void.
    """

    height: int
    width: int
    labels: tuple[int, ...]
    families: tuple[str, ...]
    distractors: int = 1
    radius: tuple[float, float] = (0.17, 0.26)
    travel: tuple[float, float] = (0.9, 1.9)
    pair: bool = False
    late: tuple[int, ...] = ()
    occluders: int = 1
    ghost: bool = False
    cycles: float = 2.5  # of the objects' own motion


@dataclass(frozen=True)
class Track:
    """The way of an object over the picture."""

    start: tuple[float, float]
    end: tuple[float, float]
    sway: float  # amplitude across the way
    phase: float
    turn: tuple[float, float]  # angle at the start, change over the video
    breath: float  # relative change of size
    enters: float = 0.0  # the object waits at `start` until this time

    def at(self, time: float) -> tuple[float, float, float, float]:
        """x, y, angle, relative size at a time."""
        share = max(0.0, (time - self.enters) / (1.0 - self.enters))
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        length = max(abs(dx) + abs(dy), 1.0)
        wave = self.sway * float(sine(self.phase + share) - sine(self.phase))
        x = self.start[0] + dx * share - dy / length * wave
        y = self.start[1] + dy * share + dx / length * wave
        angle = self.turn[0] + self.turn[1] * float(sine(0.6 * share))
        return x, y, angle, 1.0 + self.breath * float(sine(self.phase + 0.8 * share))


@dataclass(frozen=True)
class Actor:
    """An object of a scene."""

    label: int
    family: str
    draws: np.ndarray
    skins: tuple[np.ndarray, np.ndarray]
    radius: float
    mirrored: bool
    track: Track
    rides: int | None = None  # index of the actor that carries this one
    ghost: bool = False


@dataclass(frozen=True)
class Post:
    """An occluder: an upright bar of one tone."""

    x: float
    width: float
    lean: float
    tone: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything that `render_scene` needs."""

    spec: SceneSpec
    backdrop: np.ndarray
    actors: tuple[Actor, ...]  # back to front
    posts: tuple[Post, ...]
    camera: np.ndarray  # (10,) uniform draws
    light: np.ndarray  # (8,) uniform draws
    blur: tuple[float, float, int]  # from, to, smoothing passes


def draw_scene(spec: SceneSpec, rng: np.random.Generator) -> Scene:
    """Draw a scene of a kind."""
    count = len(spec.labels) + spec.distractors
    hues = (rng.random() + (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count) % 1.0
    hues = hues[rng.permutation(count)]
    tile = backdrop(rng)
    one_family = rng.random() < 0.5  # objects that only texture tells apart
    shared = str(rng.choice(spec.families))
    actors: list[Actor] = []
    for i, label in enumerate(spec.labels):
        family = shared if one_family else str(rng.choice(spec.families))
        actors.append(_actor(spec, rng, label, family, float(hues[i]), actors))
    if spec.pair:
        actors[1] = _rider(actors[1], actors[0])
    for i in range(spec.distractors):
        like = actors[int(rng.integers(len(spec.labels)))]
        hue = float(hues[len(spec.labels) + i])
        actors.append(_actor(spec, rng, 0, like.family, hue, actors))
    # Distractors lie behind the labelled objects in most videos; a rider stays in front.
    behind = actors[len(spec.labels) :]
    order = behind + actors[: len(spec.labels)] if rng.random() < 0.7 else actors
    shift = len(behind) if order is not actors else 0
    order = [replace(a, rides=a.rides + shift) if a.rides is not None else a for a in order]
    if spec.ghost:
        order.insert(0, _ghost(order[shift]))
        order = [replace(a, rides=a.rides + 1) if a.rides is not None else a for a in order]
    blur_start = rng.uniform(0.1, 0.8)
    return Scene(
        spec=spec,
        backdrop=tile,
        actors=tuple(order),
        posts=tuple(_post(spec, rng) for _ in range(spec.occluders)),
        camera=rng.random(10),
        light=rng.random(8),
        blur=(blur_start, blur_start + 0.25, int(rng.integers(0, 4))),
    )


def _actor(
    spec: SceneSpec, rng: np.random.Generator, label: int, family: str, hue: float, others: list[Actor]
) -> Actor:
    radius = spec.height * rng.uniform(*spec.radius)
    pattern, second = rng.choice(PATTERNS, 2)
    skins = (skin(rng, hue, str(pattern)), skin(rng, hue + rng.uniform(-0.1, 0.1), str(second)))
    draws = rng.random(DRAWS)
    late = label in spec.late
    track = _track(spec, rng, radius, others, late=late, upright=family in ("walker", "mushroom"))
    mirrored = track.end[0] < track.start[0]
    return Actor(label, family, draws, skins, radius, mirrored, track)


def _track(
    spec: SceneSpec,
    rng: np.random.Generator,
    radius: float,
    others: list[Actor],
    *,
    late: bool,
    upright: bool,
) -> Track:
    size = np.array([spec.width, spec.height], np.float64)
    margin = min(0.7 * radius, 0.3 * spec.height)
    best = None
    for _ in range(60):
        start = margin + rng.random(2) * (size - 2 * margin)
        if spec.pair:  # leave room for the rider
            start[1] = max(start[1], 1.5 * radius)
        reach = radius * rng.uniform(*spec.travel)
        turn = rng.random()
        end = start + reach * np.array([float(cosine(turn)), float(sine(turn))])
        gaps = [
            max(abs(start[0] - o.track.start[0]), abs(start[1] - o.track.start[1])) / (radius + o.radius)
            for o in others
        ]
        inside = bool(np.all(end > 0.3 * margin) and np.all(end < size - 0.3 * margin))
        score = min([*gaps, 0.9]) - (0 if inside else 1)
        if best is None or score > best[0]:
            best = (score, start, end)
    _, start, end = best  # type: ignore[misc]  # the loop ran
    enters = 0.0
    if late:  # comes in from the nearer side
        side = -1.2 * radius if start[0] < size[0] / 2 else size[0] + 1.2 * radius
        start, end = np.array([side, start[1]]), start
        enters = float(rng.uniform(0.15, 0.35))
    swing = 0.04 if upright else 0.12
    return Track(
        start=(float(start[0]), float(start[1])),
        end=(float(end[0]), float(end[1])),
        sway=float(radius * rng.uniform(-0.6, 0.6)),
        phase=float(rng.random()),
        turn=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-swing, swing))),
        breath=float(rng.uniform(0.0, 0.2)),
        enters=enters,
    )


def _rider(rider: Actor, mount: Actor) -> Actor:
    """The second actor of a pair, tied to the first: its track becomes an offset in the mount's radii."""
    track = replace(rider.track, start=(0.0, -0.9), end=(0.1, -0.85), sway=0.06, enters=0.0)
    return replace(rider, radius=mount.radius * 0.7, track=track, rides=0, mirrored=mount.mirrored)


def _ghost(actor: Actor) -> Actor:
    """A translucent companion beside an actor: nobody can say whose pixels they are."""
    x, y = 0.8 * actor.radius, 0.7 * actor.radius
    track = replace(
        actor.track,
        start=(actor.track.start[0] + x, actor.track.start[1] + y),
        end=(actor.track.end[0] + x, actor.track.end[1] + y),
    )
    return replace(actor, label=255, radius=0.6 * actor.radius, track=track, ghost=True, family="blob")


def _post(spec: SceneSpec, rng: np.random.Generator) -> Post:
    tone = color(rng.random(), rng.uniform(0.05, 0.3), rng.uniform(0.15, 0.6))
    x = spec.width * rng.uniform(0.15, 0.85)
    return Post(float(x), float(rng.uniform(5, 12)), float(rng.uniform(-15, 15)), tone)
