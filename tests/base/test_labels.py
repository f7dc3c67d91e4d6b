from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vosrepro.base.errors import DataError
from vosrepro.base.labels import palette, read_labels, write_labels

# SHA-256 of the PASCAL VOC palette's 768 bytes, as the official scorer's masks carry it.
VOC = "ec76f86cfddd0f4c0768796cda862d8f5099af416b298a406db7e84b55136fc9"


def test_palette_is_the_voc_palette():
    rows = np.frombuffer(palette(), np.uint8).reshape(256, 3).tolist()
    assert rows[:8] == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
    ]
    assert hashlib.sha256(palette()).hexdigest() == VOC


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_labels_survive_a_round_trip(tmp_path_factory, height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    path = tmp_path_factory.mktemp("labels") / "a.png"
    write_labels(path, labels)
    assert np.array_equal(read_labels(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_bit_depths_are_read_as_ids(tmp_path, bits):
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4) % (1 << bits)
    image = Image.fromarray(labels, mode="L")
    image.putpalette(palette()[: 3 << bits])
    image.save(tmp_path / "a.png", bits=bits)
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


def test_a_color_image_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="RGB image, not a label map"):
        read_labels(tmp_path / "a.png")


def test_a_truncated_file_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    write_labels(tmp_path / "a.png", rng.integers(0, 256, (64, 64), dtype=np.uint8))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "a.png")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing"):
        read_labels(tmp_path / "a.png")
