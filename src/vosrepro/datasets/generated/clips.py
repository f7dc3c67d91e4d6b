"""One generated video (or picture): from its description to files in one or more trees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from vosrepro.datasets.generated.encode import box_xml, jpeg, label_png
from vosrepro.datasets.generated.numbers import stream
from vosrepro.datasets.generated.render import render_scene
from vosrepro.datasets.generated.scenes import Scene, SceneSpec, draw_scene

_ATTEMPTS = 40
_SEEN_PIXELS = 80  # an object counts as present from this many visible pixels on


@dataclass(frozen=True)
class TreePlace:
    """A place in a tree where frames and masks of a clip go.

    Attributes:
        images: folder of the JPEGs relative to the root, or None.
        annotations: folder of the PNGs, or None.
        step: every how many rendered frames a file is written.
        masks: which frames get a PNG: all, the first, or those in which an object starts (with that
            object alone).
        binary: write 0/255 grey instead of ids.
        stem: file name instead of the frame number (pictures).
        first_number: of the first frame's name.
        enlarged: whole factor by which frames and masks are larger than they were rendered.
        boxes: folder of XML files with the objects' boxes, as ImageNet-VID has them, or None; frames then
            have six digits and end in .JPEG.
    """

    images: str | None = None
    annotations: str | None = None
    step: int = 1
    masks: Literal["all", "first", "starts"] = "all"
    binary: bool = False
    stem: str | None = None
    first_number: int = 0
    enlarged: int = 1
    boxes: str | None = None


@dataclass(frozen=True)
class Clip:
    """A video to make: frames `0, step, 2 * step, ...` below `frames`; objects start on multiples of `grid`."""

    name: str
    spec: SceneSpec
    frames: int
    targets: tuple[TreePlace, ...]
    step: int = 1
    grid: int = 1


@dataclass(frozen=True)
class ClipFacts:
    """What meta.json says of a clip: label -> category, and label -> names of frames with it."""

    categories: dict[int, str]
    frames: dict[int, list[str]]


def make_clip(clip: Clip, root: Path, seed: int) -> ClipFacts:
    """Render a clip and write its files below `root`."""
    numbers = list(range(0, clip.frames, clip.step))
    scene, pictures = _acceptable(clip, numbers, seed)
    starts = _starts(clip, numbers, pictures)
    for number in numbers:  # an object that peeps in before its start is not annotated yet
        labels = pictures[number][1]
        for label, start in starts.items():
            if number < start:
                labels[labels == label] = 0
    for target in clip.targets:
        _write(target, numbers, pictures, starts, root)
    present = {label: [f"{n:05d}" for n in numbers if (pictures[n][1] == label).any()] for label in clip.spec.labels}
    categories = {a.label: a.family for a in scene.actors if a.label in clip.spec.labels}
    return ClipFacts(dict(sorted(categories.items())), present)


def _acceptable(clip: Clip, numbers: list[int], seed: int) -> tuple[Scene, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """The first draw in which every object is well visible where it starts."""
    last = max(clip.frames - 1, 1)
    for attempt in range(_ATTEMPTS):
        scene = draw_scene(clip.spec, stream(seed, clip.name, attempt))
        first = render_scene(scene, 0.0)
        if not _well_visible(scene, first[1]):
            continue
        pictures = {n: first if n == 0 else render_scene(scene, n / last) for n in numbers}
        if len(_starts(clip, numbers, pictures)) == len(clip.spec.labels):
            return scene, pictures
    raise RuntimeError(f"no acceptable draw of {clip.name} in {_ATTEMPTS} attempts")


def _well_visible(scene: Scene, labels: np.ndarray) -> bool:
    for actor in scene.actors:
        on_time = actor.label in scene.spec.labels and actor.label not in scene.spec.late
        if on_time and (labels == actor.label).sum() < 1.1 * actor.radius**2:
            return False
    return True


def _starts(clip: Clip, numbers: list[int], pictures: dict[int, tuple[np.ndarray, np.ndarray]]) -> dict[int, int]:
    """Label -> frame where it is first well seen; a late one neither in frame 0 nor in the last third."""
    starts: dict[int, int] = {}
    for label in clip.spec.labels:
        late = label in clip.spec.late
        for number in numbers:
            impossible = number % clip.grid or (late and number == 0)
            if not impossible and (pictures[number][1] == label).sum() >= _SEEN_PIXELS:
                if not late or number <= clip.frames * 2 // 3:
                    starts[label] = number
                break
    return starts


def _write(
    target: TreePlace,
    numbers: list[int],
    pictures: dict[int, tuple[np.ndarray, np.ndarray]],
    starts: dict[int, int],
    root: Path,
) -> None:
    for folder in (target.images, target.annotations, target.boxes):
        if folder is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        if number % target.step:
            continue
        image, labels = pictures[number]
        digits = 6 if target.boxes else 5
        stem = target.stem or f"{number + target.first_number:0{digits}d}"
        if target.enlarged > 1:
            image, labels = _enlarged(image, labels, target.enlarged)
        if target.images is not None:
            name = f"{stem}.JPEG" if target.boxes else f"{stem}.jpg"
            (root / target.images / name).write_bytes(jpeg(image))
        if target.boxes is not None:
            (root / target.boxes / f"{stem}.xml").write_text(box_xml(labels), encoding="utf-8")
        if target.annotations is None or (target.masks == "first" and number != 0):
            continue
        if target.masks == "starts":
            new = [label for label, start in starts.items() if start == number]
            if not new:
                continue
            labels = np.where(np.isin(labels, new), labels, 0).astype(np.uint8)
        if target.binary:  # void is nobody's pixel in the binary set
            labels = np.where((labels > 0) & (labels < 255), 255, 0).astype(np.uint8)
        path = root / target.annotations / f"{stem}.png"
        path.write_bytes(label_png(labels, grey=target.binary))


def _enlarged(image: np.ndarray, labels: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = (factor * n for n in labels.shape)
    smooth = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)  # bit-exact
    return smooth, labels.repeat(factor, axis=0).repeat(factor, axis=1)
