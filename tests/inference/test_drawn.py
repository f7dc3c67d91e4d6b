"""Masks that people draw: ids stay what they are, white is one object, and nothing changes without a word."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vosrepro.base.errors import DataError
from vosrepro.base.labels import write_labels
from vosrepro.inference.own.drawn import read_mask
from vosrepro.inference.own.own_clip import OwnClip, open_images

HEIGHT, WIDTH = 64, 96


def squares(*values: int, side: int = 14) -> np.ndarray:
    """One square of each value on black, apart from each other."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    per_row = WIDTH // (side + 4)
    for place, value in enumerate(values):
        top, left = 4 + place // per_row * (side + 4), 4 + place % per_row * (side + 4)
        image[top : top + side, left : left + side] = value
    return image


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    Image.fromarray(image).save(path, **options)
    return path


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits per pixel, which Pillow cannot write."""
    per_byte = 8 // bits
    lines = values.reshape(values.shape[0], -1, per_byte).astype(np.uint8)
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * bits
    packed = (lines << shifts).sum(axis=2, dtype=np.uint8)
    raw = b"".join(b"\0" + line.tobytes() for line in packed)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def ids(path: Path) -> list[int]:
    return [int(value) for value in np.unique(read_mask(path)) if value]


SOFT = {
    "smoothed": cv2.GaussianBlur(squares(255), (3, 3), 0),
    "enlarged": cv2.resize(squares(255)[::2, ::2], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR),
    "shrunk": cv2.resize(
        cv2.resize(squares(255), (250, 170), interpolation=cv2.INTER_NEAREST),
        (WIDTH, HEIGHT),
        interpolation=cv2.INTER_AREA,
    ),
}


@pytest.mark.parametrize("how", SOFT)
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_one_white_object_with_soft_edges_is_one_object_and_a_line_says_how(how, ending, tmp_path, caplog):
    path = save(tmp_path / f"m{ending}", SOFT[how], **({"quality": 90} if ending == ".jpg" else {}))
    mask = read_mask(path)
    assert set(np.unique(mask)) == {0, 1}
    difference = (mask > 0) != (SOFT[how] >= 128)
    assert difference.sum() <= (0 if ending == ".png" else 4)
    assert "white with soft edges is read as one object, from grey 128 on (0: " in caplog.text


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA"])
def test_plain_white_is_one_object_in_every_kind_of_image(mode, tmp_path, caplog):
    Image.fromarray(squares(255)).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), squares(1))
    assert not caplog.text


def test_what_is_transparent_is_background(tmp_path):
    white = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    white[..., 3] = squares(255)
    assert np.array_equal(read_mask(save(tmp_path / "m.png", white)), squares(1))


def test_a_palette_that_begins_with_white_is_read_by_its_greys(tmp_path, caplog):
    image = Image.fromarray((squares(255) == 0).astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), squares(1))
    assert "its greys are read, not its indices" in caplog.text


@pytest.mark.parametrize("values", [(127, 255), (7, 200, 254), (1, 2, 3, 255), (1,), (3, 9)])
def test_ids_of_a_grey_mask_are_what_they_are(values, tmp_path, caplog):
    assert ids(save(tmp_path / "m.png", squares(*values))) == list(values)
    assert ("255 is an object here" in caplog.text) == (255 in values)


def test_hundreds_of_ids_are_ids_whatever_their_file(tmp_path):
    many = np.zeros((160, 240), np.uint8)
    for value in range(1, 201):
        row, column = divmod(value - 1, 20)
        many[2 + row * 15 : 7 + row * 15, 2 + column * 11 : 8 + column * 11] = value
    write_labels(tmp_path / "palette.png", many)
    for path in (tmp_path / "palette.png", save(tmp_path / "grey.png", many)):
        assert ids(path) == list(range(1, 201))
    save(tmp_path / "deep.png", many.astype(np.uint16))
    assert ids(tmp_path / "deep.png") == list(range(1, 201))
    save(tmp_path / "deeper.png", many.astype(np.uint16) * 10)
    with pytest.raises(DataError, match="deeper.png has ids up to 2000: ids go from 1 to 255"):
        read_mask(tmp_path / "deeper.png")


def test_void_of_a_palette_is_background_with_a_line(tmp_path, caplog):
    write_labels(tmp_path / "m.png", squares(255, 3))
    assert ids(tmp_path / "m.png") == [3]
    assert "255 is void beside other ids of a palette: it becomes background (0: 5752 px, 3: 196 px, 255: 196 px)" in (
        caplog.text
    )


def test_several_soft_objects_are_refused_with_their_counts(tmp_path):
    soft = cv2.GaussianBlur(squares(100, 200, 255), (5, 5), 0)
    for name in ("m.png", "m.jpg"):
        with pytest.raises(DataError, match=r"different values, so it is a picture or has soft edges \(0: \d+ px"):
            read_mask(save(tmp_path / name, soft))


def test_tiny_objects_are_objects(tmp_path):
    assert ids(save(tmp_path / "m.png", squares(1, 2, 3, side=1))) == [1, 2, 3]
    write_labels(tmp_path / "p.png", squares(*range(1, 9), side=1))
    assert ids(tmp_path / "p.png") == list(range(1, 9))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_what_is_stored(bits, tmp_path):
    wanted = squares(*range(1, min(2**bits, 4)))
    (tmp_path / "m.png").write_bytes(grey_png(wanted, bits))
    assert np.array_equal(read_mask(tmp_path / "m.png"), wanted)


def test_a_clip_begins_where_its_first_object_does(tmp_path, caplog):
    for frame in range(4):
        cv2.imwrite(str(tmp_path / f"{frame}.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_labels(tmp_path / "masks/0.png", squares())
    write_labels(tmp_path / "masks/2.png", squares(5))
    clip = OwnClip(open_images(tmp_path), {"0": tmp_path / "masks/0.png", "2": tmp_path / "masks/2.png"})
    assert clip.starts == {5: "2"}
    assert "0.png has no object pixel: it is left out" in caplog.text
