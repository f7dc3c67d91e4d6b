"""Small clips and masks of a person's own, and the command that segments them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from vosrepro.cli import main

HEIGHT, WIDTH = 33, 46  # odd height: 4:2:0 needs even sizes


def frame(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    image[8:20, 5 + index : 17 + index] = (200, 40, 40)
    return image


def write_video(path: Path, frames: int = 12, *, codec: str = "libx264", width: int = WIDTH) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(24))
        stream.height, stream.width = HEIGHT + 1, width
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(index, HEIGHT + 1, width), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_folder(folder: Path, frames: int = 6, name: str = "{:05d}.png") -> Path:
    folder.mkdir(parents=True)
    for index in range(frames):
        cv2.imwrite(str(folder / name.format(index)), frame(index)[..., ::-1])
    return folder


def mask(*objects: tuple[int, int], height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    for identity, top in objects:
        labels[top : top + 6, 5:15] = identity
    return labels


def copy_clip(*arguments: object, expect: int = 0) -> None:
    assert main(["segment", "--method", "copy", "--device", "cpu", *map(str, arguments)]) == expect
