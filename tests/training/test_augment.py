from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from vosrepro.base.errors import ConfigError
from vosrepro.study.params import load_method
from vosrepro.training.data import augment, geometry
from vosrepro.training.data.augment import MEAN_COLOR, PRESETS


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(height=90, width=140, seed=0):
    """A smooth random image, uint8 (height, width, 3)."""
    small = rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def disc(height=90, width=140):
    y, x = np.mgrid[:height, :width]
    return (((y - 45) ** 2 + (x - 80) ** 2) < 25**2).astype(np.uint8)


@pytest.mark.oracle
@pytest.mark.parametrize("filter_", ["NEAREST", "BICUBIC"])
@pytest.mark.parametrize(("degrees", "scale", "shear"), [(0, 1.3, 0), (17, 0.9, 0), (0, 1, -9), (-13, 1.07, 6)])
def test_affine_warps_equal_torchvisions(degrees, scale, shear, filter_):
    image = Image.fromarray(picture())
    matrix = geometry.affine(*image.size, degrees=degrees, scale=scale, shear_degrees=shear)
    ours = augment._warp(image, matrix, Image.Resampling[filter_])
    theirs = tv.affine(
        image,
        degrees,
        (0, 0),
        scale,
        (shear, 0),
        interpolation=InterpolationMode[filter_],
        fill=list(MEAN_COLOR),
    )
    difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
    assert (difference > 1).mean() < 2e-4  # a border pixel may fall on the other side


@pytest.mark.oracle
def test_colors_crops_and_sizes_equal_torchvisions():
    image = Image.fromarray(picture())
    for name, function, value in [
        ("brightness", tv.adjust_brightness, 1.07),
        ("contrast", tv.adjust_contrast, 0.96),
        ("saturation", tv.adjust_saturation, 1.04),
        ("hue", tv.adjust_hue, -0.03),
        ("hue", tv.adjust_hue, 0.045),
    ]:
        ours = augment._apply_jitter(image, [(name, value)])
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(function(image, value)), name)
    ours = augment._crop(image, (20, 10, 60, 50), (48, 64), Image.Resampling.BICUBIC)
    theirs = tv.resized_crop(image, 10, 20, 50, 60, [48, 64], InterpolationMode.BICUBIC)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    for size in [(90, 140), (141, 90), (33, 50)]:
        resized = tv.resize(Image.fromarray(picture(*size)), 384)
        assert geometry.covering_size(size[1], size[0], (384, 384)) == resized.size


@pytest.mark.oracle
def test_crop_boxes_are_drawn_as_torchvision_draws_them():
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = Image.fromarray(picture())
    theirs = np.array([RandomResizedCrop.get_params(image, [0.36, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])[
        :, [1, 0, 3, 2]
    ]
    ours = np.array([geometry.random_crop_box(140, 90, (0.36, 1.0), rng(i)) for i in range(3000)])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=1.0)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=1.0)


def test_a_box_that_never_fits_is_the_central_one():
    assert geometry.random_crop_box(1000, 10, (0.9, 1.0), rng()) == (493, 0, 13, 10)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_keeps_image_and_mask_together(name):
    """The image shows its own mask, so after any warp the two must still agree."""
    mask = disc()
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    given = mask * 255 if PRESETS[name].kind == "static" else mask
    for seed in range(8):
        frames, masks = PRESETS[name].augment([image] * 3, [given] * 3, (64, 96), rng(seed))
        assert len(frames) == len(masks) == 3
        for frame, warped in zip(frames, masks, strict=True):
            assert frame.shape == (64, 96, 3)
            assert warped.shape == (64, 96)
            assert frame.dtype == warped.dtype == np.uint8
            # Light counts: outside the picture is mean grey (or black), darker than the disc.
            light = frame.min(axis=2) > 180
            inside = warped > 127 if PRESETS[name].kind == "static" else warped > 0
            union = (light | inside).sum()
            assert union == 0 or (light & inside).sum() / union > 0.85, seed


@pytest.mark.parametrize("method", ["frtm", "gfrtm", "mtmfi"])
def test_frames_of_the_target_model_family_are_stretched_linearly_as_upstreams_call_really_does(in_root, method):
    stages = load_method(method).sizes["full"].stages.values()
    options = [stage.clips.options for stage in stages if stage.clips.augment == "resize-video"]
    assert options
    image = rng(0).integers(0, 256, (72, 128, 3)).astype(np.uint8)
    theirs = cv2.resize(image, (48, 40), cv2.INTER_AREA)  # the third place is that of the result, not of the flag
    for given in options:
        frames, _ = PRESETS["resize-video"].augment([image], [disc()], (40, 48), rng(0), **given)
        np.testing.assert_array_equal(frames[0], theirs)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"resize-video"}))
def test_every_preset_is_a_function_of_its_generator(name):
    image, mask = picture(), disc()
    a = PRESETS[name].augment([image] * 3, [mask] * 3, (48, 48), rng(3))
    b = PRESETS[name].augment([image] * 3, [mask] * 3, (48, 48), rng(3))
    c = PRESETS[name].augment([image] * 3, [mask] * 3, (48, 48), rng(4))
    for first, second in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.stack(first), np.stack(second))
    assert (np.stack(a[0]) != np.stack(c[0])).any()


@pytest.mark.parametrize("name", ["full-video", "full-bl30k", "mini-video"])
def test_video_frames_share_the_crop_and_labels_stay_labels(name):
    image, mask = picture(), disc() * 7
    spread, moved = [], []
    for seed in range(30):
        _, masks = PRESETS[name].augment([image] * 3, [mask] * 3, (64, 64), rng(seed))
        assert set(np.unique(np.stack(masks))) <= {0, 7}
        areas = [(m > 0).mean() for m in masks]
        spread.append(max(areas) - min(areas))
        moved.append((masks[0] != masks[1]).any())
    assert np.median(spread) < 0.03  # one crop for all
    assert np.mean(moved) > 0.9  # but each frame its own rotation and shear


def test_static_masks_stay_soft_and_outside_is_mean_color():
    mask = disc() * 255
    mask[:, :70] = 100
    frames, masks = augment.full_static([picture()] * 3, [mask] * 3, (64, 64), rng(1))
    assert len(np.unique(np.stack(masks))) > 5
    grey = np.full((90, 140, 3), 7, np.uint8)
    frames, _ = augment.mini_video([grey] * 1, [disc()], (64, 64), rng(2), degrees=45)
    corners = np.array([frames[0][0, 0], frames[0][-1, -1], frames[0][0, -1], frames[0][-1, 0]])
    assert np.abs(corners.astype(int) - MEAN_COLOR).max(1).min() < 40


@pytest.mark.parametrize("name", ["mini-static", "mini-video"])
def test_fast_presets_cost_less_than_a_millisecond_a_frame(name):
    image, mask = picture(128, 224), np.pad(disc(), ((0, 38), (0, 84)))
    best = np.inf
    for seed in range(30):
        began = time.perf_counter()
        PRESETS[name].augment([image] * 3, [mask] * 3, (96, 96), rng(seed))
        best = min(best, time.perf_counter() - began)
    assert best / 3 < 1e-3


@pytest.mark.oracle
def test_the_one_warp_of_the_fast_preset_equals_its_parts():
    image = picture(96, 96)
    sequence = geometry.flip(96) @ geometry.affine(96, 96, scale=1.2)
    pair = geometry.affine(96, 96, degrees=10, shear_degrees=5)
    import cv2

    once = cv2.warpAffine(image, geometry.pixel_matrix(pair @ sequence), (96, 96))
    steps = augment._warp(Image.fromarray(image), sequence, Image.Resampling.BICUBIC)
    steps = augment._warp(steps, pair, Image.Resampling.BICUBIC)
    inner = np.s_[25:-25, 25:-25]
    difference = np.abs(once[inner].astype(int) - np.asarray(steps)[inner])
    assert difference.mean() < 1.5


def test_a_crop_keeps_most_of_the_object_and_one_flip_is_shared():
    image, mask = picture().copy(), disc()
    image[..., 0] = np.arange(140, dtype=np.uint8)  # the column is written into the red channel
    flips = set()
    for seed in range(40):
        frames, labels = augment.mirror_crop_video([image] * 2, [mask] * 2, (64, 80), rng(seed))
        assert [f.shape for f in frames] == [(64, 80, 3)] * 2
        assert [m.shape for m in labels] == [(64, 80)] * 2
        signs = {int(np.sign(int(f[0, 1, 0]) - int(f[0, 0, 0]))) for f in frames}
        assert len(signs) == 1
        flips |= signs
    assert flips == {-1, 1}
    kept = [np.count_nonzero(augment.mirror_crop_video([image], [mask], (50, 60), rng(i))[1][0]) for i in range(100)]
    assert np.mean(np.array(kept) > np.count_nonzero(mask) / 2) > 0.9


def test_a_frame_that_is_smaller_than_the_crop_is_continued_with_black():
    frames, labels = augment.mirror_crop_video([picture()], [disc()], (100, 150), rng())
    assert not frames[0][90:].any()
    assert np.count_nonzero(labels[0]) == np.count_nonzero(disc())


def test_plain_resizing_draws_nothing_and_keeps_labels():
    frames, labels = augment.resize_video([picture()], [disc() * 7], (45, 70), rng())
    assert frames[0].shape == (45, 70, 3)
    assert set(np.unique(labels[0])) == {0, 7}
    again, _ = augment.resize_video([picture()], [disc() * 7], (45, 70), rng(1))
    np.testing.assert_array_equal(frames[0], again[0])
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        augment.resize_video([picture()], [disc()], (45, 70), rng(), interpolation="neares")
