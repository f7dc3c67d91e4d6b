"""First-frame augmentation: the object is cut out, moved, and pasted onto the filled and moved background.

All on the CPU with OpenCV, at image size, once per object.

Source: andr345/frtm-vos: model/augmenter.py; Robinson et al., CVPR 2020, Sec. 3.4.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.methods.frtm.augment_specs import BoxSpec, draw_locations, draw_specs

#: Transforms drawn per round, of whose valid views a random few are kept. Found by matching the recorded
#: views, which no other count reproduces.
_CANDIDATES = 19
#: Rounds of new draws before the annotated frame itself stands in for missing views.
_ROUNDS = 20
_MIN_SIDE_PX = 10
_GREY = 128


def augment_first_frame(
    image: np.ndarray,
    mask: np.ndarray,
    *,
    views: int,
    rng: np.random.RandomState,
    fill: Literal["telea", "grey"] = "telea",
) -> tuple[np.ndarray, np.ndarray]:
    """The annotated frame and `views` - 1 synthetic ones.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), non-zero on the object.
        views: how many frames are wanted, the original (which comes first) included.
        rng: the only source of randomness.
        fill: what replaces the object in the background: inpainting, or grey (YouTube-VOS code).

    Returns:
        uint8 (views, H, W, 3) and uint8 (views, H, W), 0 or 1. Views whose object left the frame are drawn
        anew; after 20 rounds the original is repeated instead.

    Raises:
        DataError: if the mask is empty.
    """
    mask = (mask > 0).astype(np.uint8)
    if not mask.any():
        raise DataError("the object's first mask has no pixel: leave the object out or mend its mask")
    wanted = views - 1
    height, width = mask.shape
    parts = _Parts(image, mask, fill)
    locations = draw_locations(views, width / height, rng)
    largest = height * width - 1 if not mask.all() else height * width + 1
    kept: list[tuple[BoxSpec, BoxSpec, np.ndarray]] = []
    for _ in range(_ROUNDS if wanted else 0):
        for foreground, background in draw_specs(max(wanted, _CANDIDATES), locations, rng):
            moved = cv2.warpAffine(mask, parts.object_matrix(foreground), (width, height), flags=cv2.INTER_NEAREST)
            if 1 <= int(moved.sum()) < largest:
                kept.append((foreground, background, moved))
        if len(kept) >= wanted:
            break
    if len(kept) > wanted:
        kept = [kept[i] for i in rng.choice(len(kept), wanted, replace=False)]
    made = [(parts.compose(front, behind), moved) for front, behind, moved in kept]
    made += [(image, mask)] * (wanted - len(made))
    frames, masks = zip((image, mask), *made, strict=True)
    return np.stack(frames), np.stack(masks)


def bounding_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Center x, center y, width, height of the non-zero pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    width = float(columns[-1] - columns[0] + 1)
    height = float(rows[-1] - rows[0] + 1)
    return columns[0] + width / 2, rows[0] + height / 2, width, height


def transform(spec: BoxSpec, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """float32 (2, 3): maps the box about its center to the place, angle, scale and skew of `spec`.

    Args:
        spec: what to do.
        box: center x, center y, width, height in pixels.
        size: height and width of the frame.
    """
    height, width = size
    angle = np.deg2rad(spec.rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    skew = np.array([[1, spec.skew[0]], [spec.skew[1], 1]])
    turn = np.array([[cos, sin], [-sin, cos]])
    scale = np.diag([-spec.scale if spec.flip else spec.scale, spec.scale])
    linear = skew @ turn @ scale
    target = np.array([spec.location[0] * width, spec.location[1] * height])
    offset = target - linear @ np.array(box[:2])
    return np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)


def limited_scale(scale: float, box: tuple[float, float, float, float], size: tuple[int, int]) -> float:
    """The scale at which the box fits the frame and is at least 10 pixels high and wide."""
    height, width = size
    _, _, w, h = box
    if scale * w > width or scale * h > height:
        scale = min(width / w, height / h)
    if scale * w < _MIN_SIDE_PX or scale * h < _MIN_SIDE_PX:
        scale = max(_MIN_SIDE_PX / w, _MIN_SIDE_PX / h)
    return scale


def blur_kernel(size: int, angle: float) -> np.ndarray:
    """An oriented Gaussian with variances `size` and 0.1 pixels squared, summing to 1.

    The half width is size / 2 rounded, made odd upwards: 3 x 3 for sizes 1 and 2, 7 x 7 for 5.
    """
    half = int(size / 2 + 0.5)
    half += 1 - half % 2
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    inverse = np.linalg.inv(turn @ np.diag([size, 0.1]) @ turn.T)
    grid = np.arange(-half, half + 1)
    x, y = np.meshgrid(grid, grid)
    distance = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
    kernel = np.exp(-distance / 2)
    return kernel / kernel.sum()


class _Parts:
    """The cut-out object and the filled background of one frame."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, fill: str) -> None:
        self._size = mask.shape
        self._box = bounding_box(mask)
        alpha = mask * np.uint8(255)
        self._object = np.dstack([image * mask[..., None], alpha]).astype(np.float32)
        self._background = _filled(image, mask, fill).astype(np.float32)

    def object_matrix(self, spec: BoxSpec) -> np.ndarray:
        limited = limited_scale(spec.scale, self._box, self._size)
        return transform(BoxSpec(**{**vars(spec), "scale": limited}), self._box, self._size)

    def compose(self, foreground: BoxSpec, background: BoxSpec) -> np.ndarray:
        """uint8 (H, W, 3)."""
        height, width = self._size
        frame = (width / 2, height / 2, float(width), float(height))
        behind = _warp(self._background, transform(background, frame, self._size))
        behind = _blurred(behind, background)
        front = _blurred(_warp(self._object, self.object_matrix(foreground)), foreground)
        alpha = front[..., 3:] / 255
        return (front[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)


def _filled(image: np.ndarray, mask: np.ndarray, fill: str) -> np.ndarray:
    if fill == "grey":
        return np.where(mask[..., None] > 0, np.uint8(_GREY), image)
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2, 2))
    hole = cv2.dilate(mask, element)
    return cv2.inpaint(np.ascontiguousarray(image), hole, 1, cv2.INPAINT_TELEA)


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return np.clip(warped, 0, 255)


def _blurred(image: np.ndarray, spec: BoxSpec) -> np.ndarray:
    if spec.blur_size == 0:
        return image
    kernel = blur_kernel(spec.blur_size, spec.blur_angle)
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)
