"""What a run shows beside its masks: the page of correspondences, and the animation of tracked parts.

Correspondences are pairs of frames and, for each source cell, its weights in the target. A script reads the
weights out of a grey image, which is why the image is inside the page: browsers let no script read the pixels
of a file.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vosrepro.base.errors import VosreproError
from vosrepro.datasets import read_frame
from vosrepro.reporting.evidence.table import Row
from vosrepro.study.records import FramePair, PairsRecord

_JPEG_QUALITY = 85


def load_pairs(row: Row | None) -> dict[str, Any] | None:
    """The pairs of a row's run, ready for templates/correspondences.js; None if it has none.

    Args:
        row: the method's marked row; its first seed is taken.
    """
    if row is None or not row.entries:
        return None
    run = row.entries[0].entry.run
    try:
        pairs = [_shown(pair, run.correspondences) for pair in PairsRecord.read(run.pairs).pairs]
    except (VosreproError, OSError):
        return None
    return {"run": run.key, "pairs": pairs}


def load_parts(row: Row | None) -> str | None:
    """The animation of a row's run as a data URL; None if it has none."""
    if row is None or not row.entries:
        return None
    path = row.entries[0].entry.run.parts_animation
    return _url("image/gif", path.read_bytes()) if path.is_file() else None


def _shown(pair: FramePair, folder: Path) -> dict[str, Any]:
    weights = (folder / f"{pair.video}.png").read_bytes()
    frames = [Path(pair.source), Path(pair.target)]
    return {
        **pair.stated(),
        "weights": _url("image/png", weights),
        "frames": [_jpeg(frame, (pair.size[1], pair.size[0])) for frame in frames],
        "names": [frame.stem for frame in frames],
    }


def _jpeg(path: Path, size: tuple[int, int]) -> str:
    image = Image.fromarray(np.ascontiguousarray(read_frame(path)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return _url("image/jpeg", buffer.getvalue())


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
