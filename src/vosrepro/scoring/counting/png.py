"""Reading label PNGs fast and never wrongly: a strict parser for the plain files, Pillow for the rest.

Nearly all result masks are non-interlaced, 8-bit or 1-bit, and use no row filter; for those the pixels are
the inflated bytes. Every other file that Pillow reads as a palette, grey or 1-bit image goes through
Pillow; color images, 16-bit images, damaged and oversized files are refused.

Source: PNG specification, third edition (W3C), sections 5, 7, 9 and 11.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # the same bytes, four times slower
    isal_zlib = None
    igzip_lib = None

MAX_PIXELS = 1 << 26  # 8192 x 8192: larger than any annotation, smaller than a bomb
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SLACK = 64  # room behind the last row, so that the inflater need not grow its buffer
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_KINDS = {2: "an RGB", 4: "a grey + alpha", 6: "an RGBA"}


class Malformed(ValueError):
    """Why a file is refused; callers add which file it was."""


class LabelImage(NamedTuple):
    """A decoded file: either pixel values or, for plain 1-bit files, packed bits.

    Attributes:
        height: rows.
        width: columns.
        values: uint8 (H, W), perhaps a strided view; None if `bits` is given.
        bits: uint8 (H, ceil(W / 8)), most significant bit first, padding bits undefined.
        raw: the bytes of `values` with one zero byte before each row, if they are at hand.
    """

    height: int
    width: int
    values: np.ndarray | None
    bits: np.ndarray | None = None
    raw: bytes | None = None

    def maximum(self) -> int:
        """The largest label."""
        if self.raw is not None:  # contiguous: three times as fast
            return int(np.frombuffer(self.raw, np.uint8).max())
        return int(self.array().max())

    def rows(self, maximum: int) -> tuple[int, int]:
        """First row with a label and the one after the last, of an image with `raw`; (0, 0) if none."""
        assert self.raw is not None
        first, last = len(self.raw), -1
        for label in range(1, maximum + 1):
            found = self.raw.find(label, 0, first)
            if found >= 0:
                first = found
            last = max(last, self.raw.rfind(label, last + 1))
        if last < 0:
            return 0, 0
        return first // (self.width + 1), last // (self.width + 1) + 1

    def array(self) -> np.ndarray:
        """Labels as uint8 (H, W)."""
        if self.values is not None:
            return self.values
        assert self.bits is not None
        return np.unpackbits(self.bits, axis=1, count=self.width)


def decode(data: bytes) -> LabelImage:
    """Decode a label PNG.

    Raises:
        Malformed: if it is not a whole palette, grey or 1-bit PNG of a sane size, with a reason.
    """
    header, palette, stream = _chunks(data)
    width, height, depth, color, interlace = header
    if color in _KINDS:
        raise Malformed(f"it is {_KINDS[color]} image, not a label map: save object ids as 8-bit palette")
    if depth == 16:
        raise Malformed("it is a 16-bit image: save object ids as 8-bit palette")
    plain = interlace == 0 and (depth in (1, 8) or color == 3) and (color == 0 or palette)
    stride = (width * depth + 7) // 8 + 1
    raw = inflate(stream, height * stride) if plain else b"\4"
    filters = raw[::stride]
    if filters.count(0) < height:
        if depth == 8 and max(filters) <= 2:
            return LabelImage(height, width, _unfiltered(raw, height, stride))
        return LabelImage(height, width, _pillow(data, height, width))
    rows = np.frombuffer(raw, np.uint8).reshape(height, stride)[:, 1:]
    if depth == 8:
        return LabelImage(height, width, rows, None, raw)
    if depth == 1:
        return LabelImage(height, width, None, rows)
    return LabelImage(height, width, _unpack(rows, depth, width))


def image_data(data: bytes) -> tuple[bytes, int]:
    """The compressed rows of a non-interlaced PNG, and the bytes that they inflate to."""
    (width, height, depth, color, _), _, stream = _chunks(data)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    return stream, height * ((width * depth * channels + 7) // 8 + 1)


def _chunks(data: bytes) -> tuple[tuple[int, int, int, int, int], bool, bytes]:
    """Header, whether there is a palette, and the compressed stream; checks order, lengths and CRCs."""
    if data[:8] != _SIGNATURE:
        raise Malformed("it is not a PNG file" if data else "the file is empty")
    header = None
    palette = False
    parts: list[bytes] = []
    closed = False
    position, size = 8, len(data)
    while position + 12 <= size:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > size:
            break
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise Malformed(f"its {kind.decode('latin-1')!r} chunk is damaged (wrong checksum)")
        if header is None:
            header = _header(kind, data[position + 8 : end])
        elif kind == b"IDAT":
            if closed:
                raise Malformed("its data chunks are not consecutive")
            parts.append(data[position + 8 : end])
        elif kind == b"IEND":
            if not parts:
                raise Malformed("it has no image data")
            return header, palette, parts[0] if len(parts) == 1 else b"".join(parts)
        else:
            closed = bool(parts)
            palette = palette or (kind == b"PLTE" and not parts)
            if kind in (b"IHDR", b"acTL") or (kind[0] < 97 and kind != b"PLTE"):
                raise Malformed(f"it has an unexpected {kind.decode('latin-1')!r} chunk")
        position = end + 4
    raise Malformed("it is truncated")


def _header(kind: bytes, body: bytes) -> tuple[int, int, int, int, int]:
    if kind != b"IHDR" or len(body) != 13:
        raise Malformed("its header is damaged")
    width, height, depth, color, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(color, ()) or compression or filtering or interlace > 1:
        raise Malformed("its header is damaged")
    if not width or not height or width * height > MAX_PIXELS:
        raise Malformed(f"its size {width} x {height} is not one of a video frame")
    return width, height, depth, color, interlace


def inflate(stream: bytes, size: int) -> bytes:
    """Inflate a zlib stream that must hold exactly `size` bytes.

    Raises:
        Malformed: if it is damaged, shorter or longer; a bomb is never inflated beyond a bound.
    """
    module = isal_zlib or zlib
    try:
        if len(stream) > 1 << 16 and len(stream) * 1032 > 4 * size:
            machine = module.decompressobj()
            out = machine.decompress(stream, size + 1)
            if not machine.eof and len(out) == size:  # the checksum may be left over
                out += machine.decompress(machine.unconsumed_tail, 1)
            complete = machine.eof
        else:  # deflate expands at most 1032 times, so this is bounded
            out = module.decompress(stream, 15, size + _SLACK)
            complete = True
    except _INFLATE_ERRORS as error:
        raise Malformed(f"its image data is damaged ({error})") from error
    if len(out) != size or not complete:
        raise Malformed("its image data does not fit its size")
    return out


_INFLATE_ERRORS: tuple[type[Exception], ...] = (zlib.error,)
if igzip_lib is not None:
    _INFLATE_ERRORS += (igzip_lib.IsalError,)  # pyright: ignore[reportAssignmentType]


def _unfiltered(raw: bytes, height: int, stride: int) -> np.ndarray:
    """Values of 8-bit rows that are stored as they are, or as differences to the left or upper pixel.

    These three are what libpng's usual strategies leave of label maps (OpenCV writes the second only).
    """
    rows = np.frombuffer(raw, np.uint8).reshape(height, stride)
    filters, values = rows[:, 0], rows[:, 1:].copy()
    if (filters == 1).all():
        return np.add.accumulate(values, axis=1, dtype=np.uint8, out=values)
    left = filters == 1
    values[left] = np.add.accumulate(values[left], axis=1, dtype=np.uint8)
    for y in np.flatnonzero(filters == 2):
        if y:
            values[y] += values[y - 1]
    return values


def _unpack(rows: np.ndarray, depth: int, width: int) -> np.ndarray:
    """Indices of a 2- or 4-bit palette image, uint8 (H, W); the first pixel is in the high bits."""
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    values = (rows[:, :, None] >> shifts) & np.uint8((1 << depth) - 1)
    return values.reshape(len(rows), -1)[:, :width]


def _pillow(data: bytes, height: int, width: int) -> np.ndarray:
    """Labels as uint8 (H, W) by Pillow, for interlaced and filtered files."""
    import io
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.mode not in ("P", "L", "1"):
                    raise Malformed(f"it is a {image.mode} image, not a label map")
                values = np.asarray(image, dtype=np.uint8)
    except Malformed:
        raise
    except Exception as error:  # a damaged file can raise nearly anything in a decoder
        raise Malformed(f"it cannot be decoded ({error})") from error
    if values.shape != (height, width):
        raise Malformed("its image data does not fit its size")
    return values
