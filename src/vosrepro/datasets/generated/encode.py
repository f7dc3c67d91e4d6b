"""Files with fixed bytes: JPEG frames, label PNGs, and boxes as XML.

JPEGs come from libjpeg-turbo with every setting named; its vector code equals its plain code bit for bit.
PNGs are packed here rather than by Pillow or OpenCV, because their zlib-ng searches matches differently
on different processors; a run-length-only stream (Z_RLE) leaves it no choice.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from vosrepro.base.labels import VOID, palette

JPEG_QUALITY = 90
_JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
    *(cv2.IMWRITE_JPEG_PROGRESSIVE, 0),
    *(cv2.IMWRITE_JPEG_OPTIMIZE, 0),
    *(cv2.IMWRITE_JPEG_RST_INTERVAL, 0),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
]
_GREY, _PALETTE = 0, 3  # PNG color types


def jpeg(image: np.ndarray) -> bytes:
    """The bytes of an RGB image uint8 (H, W, 3) as a baseline JPEG."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), _JPEG)
    if not done:  # pragma: no cover  (only a broken OpenCV build)
        raise RuntimeError("OpenCV cannot encode JPEG")
    return data.tobytes()


def label_png(labels: np.ndarray, *, grey: bool = False) -> bytes:
    """The bytes of a label map uint8 (H, W) as an 8-bit PNG.

    Args:
        labels: values 0..255.
        grey: write a grey image (DAVIS 2016, saliency masks) instead of one with the VOC palette.
    """
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 0] = 2  # filter "up": a row that equals the one above becomes zeros
    rows[0, 1:] = labels[0]
    rows[1:, 1:] = labels[1:] - labels[:-1]
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    body = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if grey else _PALETTE, 0, 0, 0)
    colors = b"" if grey else _chunk(b"PLTE", palette())
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            colors,
            _chunk(b"IDAT", body),
            _chunk(b"IEND", b""),
        )
    )


def box_xml(labels: np.ndarray) -> str:
    """The tight boxes of a label map uint8 (H, W) as ImageNet-VID writes them; track = label - 1, void is nobody's."""
    height, width = labels.shape
    objects = []
    for label in np.unique(labels[(labels > 0) & (labels < VOID)]).tolist():
        rows, columns = np.nonzero(labels == label)
        corners = {"xmax": columns.max() + 1, "xmin": columns.min(), "ymax": rows.max() + 1, "ymin": rows.min()}
        box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
        objects.append(
            f"  <object><trackid>{label - 1}</trackid><name>n{91000000 + label:08d}</name>"
            f"<bndbox>{box}</bndbox><occluded>0</occluded><generated>0</generated></object>\n"
        )
    size = f"  <size><width>{width}</width><height>{height}</height></size>\n"
    return f"<annotation>\n{size}{''.join(objects)}</annotation>\n"


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
