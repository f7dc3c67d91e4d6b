"""BL30K: rendered videos with several objects, training stage 1.

Source: hkchengrex/MiVOS: README (about 30,000 videos of 160 frames; any subset of its six segments works).
"""

from __future__ import annotations

from vosrepro.datasets.sets.folders import set_folder
from vosrepro.datasets.sets.video import Video, list_videos, open_video
from vosrepro.study.params import DataParams


def training(data: DataParams) -> list[Video]:
    """All videos of the segments that are there, sorted by name."""
    folder = set_folder("bl30k", data)
    images, masks = folder / "JPEGImages", folder / "Annotations"
    return [open_video(name, images / name, masks / name) for name in list_videos(images)]
