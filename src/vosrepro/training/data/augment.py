"""Named augmentations: faithful ones on Pillow images, fast ones that warp each frame once.

Each takes the raw frames and masks of a clip, the size (height, width) and a generator, and returns lists of
uint8 frames (H, W, 3) and masks (H, W). Parameters are drawn at two levels, as upstream does with two
seeds: once for the *sequence* (same for all frames) and once for each *pair* of frame and mask.

Source: hkchengrex/Mask-Propagation: dataset/static_dataset.py, dataset/vos_dataset.py.
Deviation: upstream reseeds between the transforms of a level, so that e.g. its flips and brightness are drawn
from the same numbers; here all draws are independent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from vosrepro.base.errors import ConfigError, pick
from vosrepro.training.data import geometry, tps

MEAN_COLOR = (124, 116, 104)

ImagesAndMasks = tuple[list[np.ndarray], list[np.ndarray]]
_NEAREST, _BICUBIC = Image.Resampling.NEAREST, Image.Resampling.BICUBIC
_GREY_SHARE = 0.05
_TPS_SHARE = 0.33
_FEW_PX = 10  # a mask of less is as good as empty


@dataclass(frozen=True)
class Preset:
    """An augmentation and the kind of clips it is for."""

    kind: str
    augment: Callable[..., ImagesAndMasks]

    def configured(self, options: Mapping[str, Any], *, name: str) -> Callable[..., ImagesAndMasks]:
        """The augmentation with the options of params.

        Raises:
            ConfigError: if it has no such option.
        """
        parameters = inspect.signature(self.augment).parameters.values()
        known = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ConfigError(
                f"augmentation '{name}' has no option '{unknown[0]}': it has {', '.join(sorted(known)) or 'none'}"
            )
        return functools.partial(self.augment, **options)


# ---------------------------------------------------------------------------------------- faithful


def full_static(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> ImagesAndMasks:
    """Frames of a pseudo video from copies of one image with a soft mask (stage 0)."""
    image, mask = Image.fromarray(images[0]), Image.fromarray(masks[0])
    matrix = geometry.affine(*image.size, scale=rng.uniform(0.8, 1.5))
    image, mask = _warp(image, matrix, _NEAREST), _warp(mask, matrix, _NEAREST)
    if rng.random() < 0.5:
        image, mask = _mirror(image), _mirror(mask)
    image = _color_jitter(image, (0.1, 0.05, 0.05, 0.05), rng)
    if rng.random() < _GREY_SHARE:
        image = image.convert("L").convert("RGB")
    pairs = [_static_pair(image, mask, size, rng) for _ in images]
    return [frame for frame, _ in pairs], [soft for _, soft in pairs]


def _static_pair(
    image: Image.Image, mask: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    matrix = geometry.affine(
        *image.size,
        degrees=rng.uniform(-20, 20),
        scale=rng.uniform(0.9, 1.1),
        shear_degrees=rng.uniform(-10, 10),
    )
    image, mask = _warp(image, matrix, _BICUBIC), _warp(mask, matrix, _BICUBIC)
    covering = geometry.covering_size(*image.size, size)
    image, mask = image.resize(covering, _BICUBIC), mask.resize(covering, _NEAREST)
    left = int(rng.integers(covering[0] - size[1] + 1))
    top = int(rng.integers(covering[1] - size[0] + 1))
    box = (left, top, left + size[1], top + size[0])
    image, mask = image.crop(box), mask.crop(box)
    image = _color_jitter(image, (0.1, 0.05, 0.05, 0.0), rng)
    frame, soft = np.asarray(image), np.asarray(mask)
    if rng.random() < _TPS_SHARE:
        maps = tps.random_maps(*size, rng)
        frame, soft = tps.warp(frame, maps, smooth=True), tps.warp(soft, maps, smooth=False)
    return frame, soft


def full_video(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    smallest_crop: float = 0.36,
) -> ImagesAndMasks:
    """Frames of a real video with label maps (stage 2); all share one crop and one flip."""
    mirrored = rng.random() < 0.5
    height, width = masks[0].shape
    crop = geometry.random_crop_box(width, height, (smallest_crop, 1.0), rng)
    jitter = _draw_jitter((0.1, 0.03, 0.03, 0.0), rng)
    grey = rng.random() < _GREY_SHARE
    frames, labels = [], []
    for image_array, mask_array in zip(images, masks, strict=True):
        image, mask = Image.fromarray(image_array), Image.fromarray(mask_array)
        if mirrored:
            image, mask = _mirror(image), _mirror(mask)
        image, mask = _crop(image, crop, size, _BICUBIC), _crop(mask, crop, size, _NEAREST)
        image = _apply_jitter(image, jitter)
        if grey:
            image = image.convert("L").convert("RGB")
        matrix = geometry.affine(*image.size, degrees=rng.uniform(-15, 15), shear_degrees=rng.uniform(-10, 10))
        image, mask = _warp(image, matrix, _BICUBIC), _warp(mask, matrix, _NEAREST)
        frames.append(np.asarray(_color_jitter(image, (0.01, 0.01, 0.01, 0.0), rng)))
        labels.append(np.asarray(mask))
    return frames, labels


def full_bl30k(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> ImagesAndMasks:
    """As `full_video` with smaller crops (stage 1)."""
    return full_video(images, masks, size, rng, smallest_crop=0.25)


def _warp(image: Image.Image, matrix: np.ndarray, resample: Image.Resampling) -> Image.Image:
    inverse = np.linalg.inv(matrix)[:2].ravel().tolist()
    fill = MEAN_COLOR if image.mode == "RGB" else 0
    transform = Image.Transform.AFFINE
    return image.transform(image.size, transform, inverse, resample, fillcolor=fill)


def _mirror(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _crop(
    image: Image.Image,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    left, top, width, height = box
    part = image.crop((left, top, left + width, top + height))
    return part.resize((size[1], size[0]), resample)


_Jitter = list[tuple[str, float]]


def _draw_jitter(amounts: tuple[float, float, float, float], rng: np.random.Generator) -> _Jitter:
    """Factors of brightness, contrast and saturation and a shift of hue, in random order."""
    brightness, contrast, saturation, hue = amounts
    drawn = [
        ("brightness", rng.uniform(1 - brightness, 1 + brightness)),
        ("contrast", rng.uniform(1 - contrast, 1 + contrast)),
        ("saturation", rng.uniform(1 - saturation, 1 + saturation)),
    ]
    if hue:
        drawn.append(("hue", rng.uniform(-hue, hue)))
    return [drawn[i] for i in rng.permutation(len(drawn))]


_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def _apply_jitter(image: Image.Image, jitter: _Jitter) -> Image.Image:
    for what, amount in jitter:
        if what == "hue":
            image = _shift_hue(image, amount)
        else:
            image = _ENHANCERS[what](image).enhance(amount)
    return image


def _shift_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + int(turns * 255)) % 256  # wraps like a uint8
    bands = (Image.fromarray(shifted.astype(np.uint8)), saturation, value)
    return Image.merge("HSV", bands).convert("RGB")


def _color_jitter(
    image: Image.Image, amounts: tuple[float, float, float, float], rng: np.random.Generator
) -> Image.Image:
    return _apply_jitter(image, _draw_jitter(amounts, rng))


# -------------------------------------------------------------------------------------------- fast


def mini_static(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    degrees: float = 20.0,
    shear_degrees: float = 10.0,
) -> ImagesAndMasks:
    """`full_static` without the spline, composed into one bilinear warp per frame."""
    height, width = masks[0].shape
    sequence = geometry.affine(width, height, scale=rng.uniform(0.8, 1.5))
    if rng.random() < 0.5:
        sequence = geometry.flip(width) @ sequence
    covering = geometry.covering_size(width, height, size)
    stretch = geometry.crop_resize(0, 0, width, height, (covering[1], covering[0]))
    table = _color_table(0.1, rng)
    frames, soft = [], []
    for image, mask in zip(images, masks, strict=True):
        pair = geometry.affine(
            width,
            height,
            degrees=rng.uniform(-degrees, degrees),
            scale=rng.uniform(0.9, 1.1),
            shear_degrees=rng.uniform(-shear_degrees, shear_degrees),
        )
        matrix = stretch @ pair @ sequence
        matrix[0, 2] -= rng.integers(covering[0] - size[1] + 1)
        matrix[1, 2] -= rng.integers(covering[1] - size[0] + 1)
        frames.append(_fast_frame(image, matrix, size, table, rng))
        soft.append(_fast_mask(mask, matrix, size, cv2.INTER_LINEAR))
    return frames, soft


def mini_video(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    smallest_crop: float = 0.36,
    degrees: float = 15.0,
    shear_degrees: float = 10.0,
) -> ImagesAndMasks:
    """`full_video` composed into one bilinear warp per frame, with a cheap change of colors."""
    height, width = masks[0].shape
    left, top, w, h = geometry.random_crop_box(width, height, (smallest_crop, 1.0), rng)
    sequence = geometry.crop_resize(left, top, w, h, size)
    if rng.random() < 0.5:
        sequence = geometry.flip(size[1]) @ sequence
    table = _color_table(0.1, rng)
    frames, labels = [], []
    for image, mask in zip(images, masks, strict=True):
        pair = geometry.affine(
            size[1],
            size[0],
            degrees=rng.uniform(-degrees, degrees),
            shear_degrees=rng.uniform(-shear_degrees, shear_degrees),
        )
        matrix = pair @ sequence
        frames.append(_fast_frame(image, matrix, size, table, rng))
        labels.append(_fast_mask(mask, matrix, size, cv2.INTER_NEAREST))
    return frames, labels


def _fast_frame(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    table: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    warped = cv2.warpAffine(
        image,
        geometry.pixel_matrix(matrix),
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=MEAN_COLOR,
    )
    own = table * rng.uniform(0.98, 1.02)
    return cv2.LUT(warped, np.clip(own, 0, 255).astype(np.uint8))


def _fast_mask(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], flag: int) -> np.ndarray:
    flat = geometry.pixel_matrix(matrix)
    return cv2.warpAffine(mask, flat, size[::-1], flags=flag, borderMode=cv2.BORDER_CONSTANT)


def _color_table(amount: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast about mid-grey and a tint as one table, float (1, 256, 3)."""
    value = np.arange(256, dtype=np.float32)[None, :, None]
    contrast = rng.uniform(1 - amount, 1 + amount)
    gains = rng.uniform(1 - amount, 1 + amount) * rng.uniform(1 - amount / 2, 1 + amount / 2, 3)
    return ((value - 128) * contrast + 128) * gains.astype(np.float32)


# ------------------------------------------------------------------------------------------- plain

_INTERPOLATIONS = {
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST_EXACT,
}
_CROP_TRIES = 6


def resize_video(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,  # noqa: ARG001, every preset is given one
    *,
    interpolation: str = "area",
) -> ImagesAndMasks:
    """Frames stretched to the size, labels with nearest; nothing is drawn.

    Source: andr345/frtm-vos: lib/training_datasets.py names "area" on DAVIS and for high frames, else "cubic", but
    hands the name over as the place for the result, so that OpenCV interpolates by its default, "linear";
    sydney0zq/PML: dataset/davis.py ("nearest", the default filter of Pillow in 2018).
    """
    flag = pick(_INTERPOLATIONS, interpolation, what="interpolation", where="augmentation")
    frames = [cv2.resize(image, size[::-1], interpolation=flag) for image in images]
    labels = [cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    return frames, labels


def mirror_crop_video(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> ImagesAndMasks:
    """One flip for all frames, and for each frame a crop at its own scale that keeps most of its object.

    A crop is drawn anew, five times at most, until it keeps more than half of the frame's object pixels.
    Frames smaller than the size are continued with black background.

    Source: sydney0zq/PML: dataset/davis.py, an augmentation that its training does not call.
    """
    mirrored = rng.random() < 0.5
    frames, labels = [], []
    for image, mask in zip(images, masks, strict=True):
        if mirrored:
            image, mask = image[:, ::-1], mask[:, ::-1]
        below, right = (max(0, want - have) for want, have in zip(size, mask.shape, strict=True))
        image = np.pad(image, ((0, below), (0, right), (0, 0)))
        mask = np.pad(mask, ((0, below), (0, right)))
        window = _crop_window(mask, size, rng)
        frames.append(np.ascontiguousarray(image[window]))
        labels.append(np.ascontiguousarray(mask[window]))
    return frames, labels


def _crop_window(mask: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    whole = np.count_nonzero(mask)
    window = (slice(0), slice(0))
    for _ in range(_CROP_TRIES):
        top = int(rng.integers(mask.shape[0] - size[0] + 1))
        left = int(rng.integers(mask.shape[1] - size[1] + 1))
        window = (slice(top, top + size[0]), slice(left, left + size[1]))
        if 2 * np.count_nonzero(mask[window]) > whole or whole < _FEW_PX:
            break
    return window


PRESETS: dict[str, Preset] = {
    "full-static": Preset("static", full_static),
    "full-video": Preset("video", full_video),
    "full-bl30k": Preset("video", full_bl30k),
    "mini-static": Preset("static", mini_static),
    "mini-video": Preset("video", mini_video),
    "resize-video": Preset("video", resize_video),
    "mirror-crop-video": Preset("video", mirror_crop_video),
}
