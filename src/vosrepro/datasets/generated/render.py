"""Painting a scene at a time: image and labels, in integer arithmetic (see `numbers`)."""

from __future__ import annotations

import cv2
import numpy as np

from vosrepro.datasets.generated.numbers import cosine, sine, smooth_integers
from vosrepro.datasets.generated.scenes import Actor, Post, Scene
from vosrepro.datasets.generated.shapes import parts
from vosrepro.datasets.generated.textures import SKIN

_FIXED = 12  # fractional bits of texture coordinates
_SUBPIXEL = 4  # fractional bits of polygon corners


def render_scene(scene: Scene, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Paint a scene.

    Returns:
        Image uint8 (H, W, 3) RGB and labels uint8 (H, W): 0, object ids, 255 for void.
    """
    sway = _camera(scene, time)
    image = _background(scene, time, sway)
    labels = np.zeros(image.shape[:2], np.uint8)
    for actor in scene.actors:
        _paint_actor(scene, actor, time, sway, image, labels)
    for post in scene.posts:
        _paint_post(scene, post, sway, image, labels)
    image = smooth_integers(_lit(scene, time, image), wrap=False)
    begin, end, passes = scene.blur
    if begin <= time < end:
        for _ in range(passes):
            image = smooth_integers(image, wrap=False)
    return image.astype(np.uint8), labels


def _camera(scene: Scene, time: float) -> tuple[float, float]:
    """How far the camera has moved to the right and down since the start, pixels."""
    d, height = scene.camera, scene.spec.height
    x = 0.18 * height * (d[0] - 0.5) * 2 * time + 0.06 * height * float(sine(d[1] + 2 * d[2] * time))
    y = 0.08 * height * (d[3] - 0.5) * 2 * time + 0.03 * height * float(sine(d[4] + 2 * d[5] * time))
    return x - 0.06 * height * float(sine(d[1])), y - 0.03 * height * float(sine(d[4]))


def _background(scene: Scene, time: float, sway: tuple[float, float]) -> np.ndarray:
    height, width = scene.spec.height, scene.spec.width
    d = scene.camera
    zoom = 1.0 + 0.1 * (d[6] - 0.5) * 2 * float(sine(0.5 * time))
    turn = 0.015 * (d[7] - 0.5) * 2 * float(sine(0.5 * time))
    a, b = zoom * float(cosine(turn)), zoom * float(sine(turn))
    tall, wide = scene.backdrop.shape[:2]
    x = (np.arange(width) - width / 2)[None, :]
    y = (np.arange(height) - height / 2)[:, None]
    u = np.floor(wide * d[8] + sway[0] + a * x - b * y).astype(np.int32) & (wide - 1)
    v = np.floor(tall * d[9] + sway[1] + b * x + a * y).astype(np.int32) & (tall - 1)
    return scene.backdrop.reshape(-1, 3)[v * wide + u]


def _pose(scene: Scene, actor: Actor, time: float) -> tuple[float, float, float, float]:
    """Center x, y, angle and radius on the picture, without the camera."""
    x, y, angle, size = actor.track.at(time)
    if actor.rides is not None:
        bx, by, carried, radius = _pose(scene, scene.actors[actor.rides], time)
        c, s = float(cosine(carried)), float(sine(carried))
        x, y = bx + radius * (c * x - s * y), by + radius * (s * x + c * y)
        return x, y, carried, actor.radius * radius / scene.actors[actor.rides].radius
    return x, y, angle, actor.radius * size


def _paint_actor(
    scene: Scene,
    actor: Actor,
    time: float,
    sway: tuple[float, float],
    image: np.ndarray,
    labels: np.ndarray,
) -> None:
    x, y, angle, radius = _pose(scene, actor, time)
    x, y = x - 0.5 * sway[0], y - 0.5 * sway[1]
    c, s = radius * float(cosine(angle)), radius * float(sine(angle))
    flip = -1.0 if actor.mirrored else 1.0
    height, width = labels.shape
    which = np.zeros((height, width), np.uint8)  # 1 + skin of the part on top
    for points, skin in parts(actor.family, actor.draws, scene.spec.cycles * time):
        px, py = flip * points[:, 0], points[:, 1]
        corners = np.stack([x + c * px - s * py, y + s * px + c * py], 1)
        corners = np.rint(corners * 2**_SUBPIXEL).astype(np.int32)
        cv2.fillPoly(which, [corners], 1 + skin, lineType=cv2.LINE_8, shift=_SUBPIXEL)
    left, right = max(int(x - 2 * radius), 0), min(int(x + 2 * radius) + 1, width)
    top, bottom = max(int(y - 2 * radius), 0), min(int(y + 2 * radius) + 1, height)
    if left >= right or top >= bottom:
        return
    box = (slice(top, bottom), slice(left, right))
    inside = which[box]
    rows, cols = np.nonzero(inside)
    if len(rows) == 0:
        return
    # Inverse rotation: local = R^T (p - center) / radius, 50 texels per radius.
    scale = 50.0 / (radius * radius) * 2**_FIXED
    dx, dy = cols + (left - x), rows + (top - y)
    u = (np.floor(scale * (c * dx + s * dy) * flip).astype(np.int64) >> _FIXED) + SKIN // 2
    v = (np.floor(scale * (c * dy - s * dx)).astype(np.int64) >> _FIXED) + SKIN // 2
    texel = np.clip(v, 0, SKIN - 1) * SKIN + np.clip(u, 0, SKIN - 1)
    texel += SKIN * SKIN * (inside[rows, cols].astype(np.int64) - 1)
    paint = np.concatenate([t.reshape(-1, 3) for t in actor.skins])[texel]
    if actor.ghost:
        paint = (paint.astype(np.uint16) + image[box][rows, cols]) >> 1
    image[box][rows, cols] = paint
    labels[box][rows, cols] = actor.label


def _paint_post(scene: Scene, post: Post, sway: tuple[float, float], image: np.ndarray, labels: np.ndarray) -> None:
    """Posts stand nearest to the camera, so they move most."""
    height = scene.spec.height
    x = post.x - 1.6 * sway[0]
    corners = np.array([[x, 0], [x + post.width, 0], [x + post.width + post.lean, height], [x + post.lean, height]])
    fixed = [np.rint(corners * 2**_SUBPIXEL).astype(np.int32)]
    cv2.fillPoly(image, fixed, [int(t) for t in post.tone], shift=_SUBPIXEL)
    cv2.fillPoly(labels, fixed, 0, shift=_SUBPIXEL)


def _lit(scene: Scene, time: float, image: np.ndarray) -> np.ndarray:
    """Apply brightness, tint and a passing soft shadow; uint16 0..255."""
    d, width = scene.light, scene.spec.width
    gain = 1.0 + 0.3 * (d[0] - 0.5) * float(sine(d[1] + time * (0.5 + d[2])))
    tint = 1.0 + 0.12 * (d[3:6] - 0.5) * time
    center = width * (1.6 * (d[6] + (d[7] - 0.5) * 2 * time) - 0.3)
    away = np.abs(np.arange(width) - center) / (0.25 * width)
    shadow = 1.0 - 0.35 * np.clip(1.2 - away, 0.0, 1.0)
    factor = np.rint(256.0 * gain * tint[None, :] * shadow[:, None]).astype(np.int32)  # (W, 3)
    return np.minimum(image.astype(np.int32) * factor[None] >> 8, 255).astype(np.uint16)
