from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.datasets.sets.imagenet import LabeledImage
from vosrepro.inference.images import center_crop
from vosrepro.study.params import ClipParams
from vosrepro.training.data.clips import Item, make_sampler
from vosrepro.training.data.images import NO_CLASS, ImageSampler, random_crop


def _clips(**changes):
    settings = {
        "kind": "image",
        "frames": 1,
        "objects": 1,
        "size_px": (32, 48),
        "augment": "random-crop",
    }
    return ClipParams(**{**settings, **changes})


def _item(folder, name="a.JPEG", *, broken=False, mode="RGB", label=3):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG")
    data = buffer.getvalue()
    (folder / name).write_bytes(data[: len(data) // 3] if broken else data)
    return Item("imagenet", LabeledImage(name, folder / name, label))


def test_a_sample_is_one_crop_with_its_class(tmp_path):
    sampler = make_sampler(_clips(), readers=None)
    sample = sampler.sample(_item(tmp_path), np.random.default_rng(0), share=0.0)
    assert sample["frames"].shape == (1, 32, 48, 3)
    assert int(sample["classes"]) == 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_images_become_rgb(tmp_path, mode):
    sample = ImageSampler(_clips()).sample(_item(tmp_path, mode=mode), np.random.default_rng(0), share=0.0)
    assert sample["frames"].shape == (1, 32, 48, 3)
    assert int(sample["classes"]) == 3


def test_a_broken_image_is_skipped_and_counted_once(tmp_path, caplog):
    sampler, item = ImageSampler(_clips()), _item(tmp_path, broken=True)
    for _ in range(3):
        sample = sampler.sample(item, np.random.default_rng(0), share=0.0)
        assert int(sample["classes"]) == NO_CLASS
    assert caplog.text.count("skipped (1 so far)") == 1
    assert "a.JPEG" in caplog.text


def test_too_many_broken_images_end_the_training_with_a_sentence(tmp_path):
    sampler = ImageSampler(_clips(options={"max_corrupt": 2}))
    with pytest.raises(DataError, match=r"3 training images cannot be decoded.*max_corrupt = 2"):
        for i in range(3):
            item = _item(tmp_path, f"{i}.JPEG", broken=True)
            sampler.sample(item, np.random.default_rng(0), share=0.0)


@pytest.mark.parametrize("changes", [{"options": {"smallest": 0.1}}, {"frames": 2}, {"augment": "mini-video"}])
def test_settings_that_do_not_fit_images_are_refused(changes):
    with pytest.raises(ConfigError, match="random-crop"):
        ImageSampler(_clips(**changes))


def test_crops_have_the_least_area_and_are_mirrored_half_of_the_time():
    ramp = np.tile(np.arange(80, dtype=np.uint8)[None, :, None], (60, 1, 3))
    rng = np.random.default_rng(0)
    mirrored, widths = 0, []
    for _ in range(200):
        crop = random_crop(ramp, (30, 30), rng, smallest=0.5)
        low, high = int(crop[0, 0, 0]), int(crop[0, -1, 0])
        mirrored += low > high
        widths.append(abs(high - low))
    assert 70 < mirrored < 130
    assert min(widths) > 25


def test_the_validation_crop_is_central_and_of_the_given_size():
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 48:52] = 255
    crop = center_crop(image, (28, 28))
    assert crop.shape == (28, 28, 3)
    bright = np.flatnonzero(crop[14, :, 0] > 128)
    assert abs(bright.mean() - 13.5) < 1.5


def test_a_portrait_image_can_be_validated():
    assert center_crop(np.zeros((99, 33, 3), np.uint8), (64, 64)).shape == (64, 64, 3)
