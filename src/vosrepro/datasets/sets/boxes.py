"""Box annotations of ImageNet-VID: one XML file per frame, objects named by their track.

Source: the development kit of ILSVRC2015 (object detection from video); bertinetto/siamese-fc:
ILSVRC15-curation (which fields trackers read).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.labels import VOID


@dataclass(frozen=True)
class FrameBoxes:
    """The boxes of one frame.

    Attributes:
        size: (height, width) of the frame in pixels, as the file states it.
        boxes: track number (from 0) -> (x0, y0, x1, y1) in pixels, half-open, inside the frame.
    """

    size: tuple[int, int]
    boxes: dict[int, tuple[int, int, int, int]]


def read_boxes(path: Path) -> FrameBoxes:
    """Read an annotation; boxes without area, of objects at the very edge, are left out.

    Raises:
        DataError: if the file is missing or no annotation, or an object is given twice.
    """
    try:
        root = ElementTree.parse(path).getroot()  # expat bounds entity expansion itself
        height, width = (_number(root, f"size/{side}") for side in ("height", "width"))
        boxes: dict[int, tuple[int, int, int, int]] = {}
        for item in root.findall("object"):
            track = _number(item, "trackid")
            corners = (_number(item, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax"))
            x0, y0, x1, y1 = corners
            if not 0 <= track < VOID - 1:
                raise ValueError(f"track {track}")
            if track in boxes:
                raise ValueError(f"track {track} is given twice")
            inside = (max(0, x0), max(0, y0), min(width, x1), min(height, y1))
            if inside[0] < inside[2] and inside[1] < inside[3]:
                boxes[track] = inside
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is not a box annotation of ImageNet-VID ({error}): extract it again") from error
    return FrameBoxes((height, width), boxes)


def box_labels(path: Path) -> np.ndarray:
    """An annotation as a label map: filled boxes, uint8 (H, W), track number + 1, 0 where there is none.

    Where boxes overlap the smaller one lies on top, so a box may be cut by a smaller one on its edge.

    Raises:
        DataError: see `read_boxes`.
    """
    found = read_boxes(path)
    labels = np.zeros(found.size, np.uint8)
    by_area = sorted(found.boxes.items(), key=lambda item: _area(item[1]), reverse=True)
    for track, (x0, y0, x1, y1) in by_area:
        labels[y0:y1, x0:x1] = track + 1
    return labels


def _area(box: tuple[int, int, int, int]) -> int:
    x0, y0, x1, y1 = box
    return (x1 - x0) * (y1 - y0)


def _number(element: ElementTree.Element, name: str) -> int:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    return int(text)
