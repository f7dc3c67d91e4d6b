"""Reading label PNGs: the same labels as Pillow, or a refusal that says why."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vosrepro.lab.fuzz import FINE, chunk, compare_decoders, encode, mutate, random_png
from vosrepro.scoring.counting import png
from vosrepro.scoring.counting.png import Malformed, decode

LABELS = np.random.default_rng(0).integers(0, 2, (9, 21))


def saved(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("color", [0, 3])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filters", [(0,), (0, 1, 2, 3, 4)])
def test_every_label_format_reads_as_pillow_reads_it(depth, color, interlaced, filters):
    labels = np.random.default_rng(depth).integers(0, 1 << depth, (13, 27))
    data = encode(labels, depth=depth, color=color, interlaced=interlaced, filters=filters, pieces=3)
    expected = np.asarray(Image.open(io.BytesIO(data)), np.uint8)
    assert np.array_equal(decode(data).array(), expected)
    if color == 3 or depth in (1, 8):
        assert np.array_equal(expected, labels)


@pytest.mark.parametrize(
    ("color", "depth", "words"),
    [(2, 8, "RGB"), (6, 8, "RGBA"), (4, 8, "alpha"), (0, 16, "16-bit"), (2, 16, "RGB")],
)
def test_images_that_are_no_label_maps_are_refused(color, depth, words):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    with pytest.raises(Malformed, match=words):
        decode(encode(np.ones((4, 5, channels), int), color=color, depth=depth))


def test_truncation_anywhere_is_refused():
    data = encode(LABELS, pieces=2)
    for length in range(len(data)):
        with pytest.raises(Malformed):
            decode(data[:length])


def test_a_flipped_bit_anywhere_is_refused_or_harmless():
    data = encode(LABELS)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        with pytest.raises(Malformed):
            decode(changed)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0" * 9])
def test_other_files_are_refused(data):
    with pytest.raises(Malformed, match="empty|not a PNG"):
        decode(data)


def remade(data: bytes, rows: bytes) -> bytes:
    """The same header with other image data."""
    return data[:33] + chunk(b"PLTE", bytes(768)) + chunk(b"IDAT", zlib.compress(rows)) + data[-12:]


@pytest.mark.parametrize("extra", [-1, 1, 400])
def test_image_data_of_another_length_is_refused(extra):
    data = encode(LABELS)
    rows = bytes(9 * 22 + extra)
    with pytest.raises(Malformed, match="fit its size"):
        decode(remade(data, rows))


def test_a_bomb_is_refused_without_being_inflated():
    bomb = remade(encode(LABELS), bytes(200_000_000))
    with pytest.raises(Malformed, match="fit its size"):
        decode(bomb)
    header = b"\x00\x01\x00\x00\x00\x01\x00\x00\x08\x03\x00\x00\x00"
    huge = bomb[:8] + chunk(b"IHDR", header) + bomb[33:]
    with pytest.raises(Malformed, match="65536 x 65536"):
        decode(huge)


def test_plain_zlib_gives_the_same_as_isal(monkeypatch):
    data = encode(np.arange(200).reshape(10, 20))
    expected = decode(data).array()
    monkeypatch.setattr(png, "isal_zlib", None)
    assert np.array_equal(decode(data).array(), expected)
    with pytest.raises(Malformed, match="damaged"):
        decode(data[:33] + chunk(b"PLTE", bytes(768)) + chunk(b"IDAT", b"nonsense") + data[-12:])


def test_files_of_pillow_read_back():
    image = Image.fromarray(LABELS.astype(np.uint8))
    image.putpalette(bytes(768))
    for variant in (saved(image), saved(image, bits=1), saved(image, optimize=True)):
        assert np.array_equal(decode(variant).array(), LABELS)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), changes=st.integers(0, 3))
def test_mutated_files_give_the_labels_of_pillow_or_a_refusal(seed, changes):
    generator = np.random.default_rng(seed)
    data = random_png(generator)
    for _ in range(changes):
        data = mutate(data, generator) if len(data) > 20 else data
    assert compare_decoders(data) in FINE


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(Malformed):
        decode(b"\x89PNG\r\n\x1a\n" + data)
