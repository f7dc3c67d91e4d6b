"""Size and soundness of JPEG and PNG files from their bytes, without decoding pixels."""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_TAIL = 4096  # bytes at the end of a JPEG in which its end marker is looked for
# Frame headers of all JPEG processes: 0xC0..0xCF without DHT, JPG and DAC.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Defect(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG or PNG file that is complete.

    A PNG's checksums are verified; of a JPEG only the headers and the end marker are.

    Raises:
        Defect: if the file is empty, cut off, damaged, or of another kind.
    """
    if not data:
        raise Defect("is empty")
    if data.startswith(_PNG):
        return _png_size(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    raise Defect("is neither a JPEG nor a PNG")


def _png_size(data: bytes) -> tuple[int, int]:
    place, size = len(_PNG), None
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise Defect("is damaged (a checksum does not fit)")
        if kind == b"IHDR":
            size = struct.unpack_from(">II", data, place + 8)
        if kind == b"IEND" and size is not None:
            return size[0], size[1]
        place = end + 4
    raise Defect("is truncated")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    if b"\xff\xd9" not in data[-_TAIL:]:
        raise Defect("is truncated")
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    raise Defect("is damaged (no frame header)")
