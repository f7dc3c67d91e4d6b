"""Why one object in one frame scored what it did: its counts, and a picture of the boundaries.

The counts are made twice, by the fast core and by plain pixel operations, and must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vosrepro.base.errors import ConfigError, ProtocolError
from vosrepro.base.files import atomic
from vosrepro.scoring.counting.counting import COUNTS, Counter
from vosrepro.scoring.counting.disc import half_widths, radius
from vosrepro.scoring.counting.jobs import plan_jobs
from vosrepro.scoring.counting.protocols import find_protocol
from vosrepro.scoring.counting.readers import PairReader, ids_in_words
from vosrepro.scoring.counting.trees import open_tree
from vosrepro.scoring.measures import contour_accuracy, region_similarity
from vosrepro.scoring.scorer import Meta

#: RGB of each kind of pixel, and what it means.
LEGEND = {
    "both": ((96, 96, 96), "in both masks"),
    "missed": ((20, 60, 120), "only in the annotation"),
    "wrong": ((120, 40, 20), "only in the prediction"),
    "true_matched": ((120, 220, 255), "annotated boundary, matched"),
    "true_unmatched": ((255, 235, 0), "annotated boundary, not matched: costs recall"),
    "predicted_matched": ((150, 255, 150), "predicted boundary, matched"),
    "predicted_unmatched": ((255, 0, 200), "predicted boundary, not matched: costs precision"),
}
_MARGIN_PX = 12
_PICTURE_PX = 900  # the longer side is enlarged to about this


class Explanation(NamedTuple):
    """One object in one frame.

    Attributes:
        counts: by name, see `vosrepro.scoring.counting.counting.COUNTS`.
        radius: boundary tolerance in pixels.
        j: region similarity.
        precision: of the boundary.
        recall: of the boundary.
        f: contour accuracy.
        scored: whether the protocol scores this frame of this object.
        picture: uint8 (h, w, 3), the object's surroundings, enlarged.
    """

    counts: dict[str, int]
    radius: int
    j: float
    precision: float
    recall: float
    f: float
    scored: bool
    picture: np.ndarray


def explain(
    results: Path | str,
    truth: Path | str,
    protocol: str,
    sequence: str,
    frame: str,
    object_id: int,
    *,
    meta: Path | str | None = None,
) -> Explanation:
    """Count one object in one frame.

    Raises:
        ConfigError: if there is no such object.
        DataError: if a file is missing or unreadable.
        ProtocolError: if the protocol refuses the prediction.
    """
    rules = find_protocol(protocol)
    annotations, predictions = open_tree(truth), open_tree(results)
    jobs = plan_jobs(rules, annotations, sequence, Meta(meta, None).starts(sequence))
    job = next((j for j in jobs if j.object_id in (None, object_id)), jobs[0])
    reader = PairReader(rules, annotations, predictions, job)
    pair = reader.pair(frame)
    plane = 1 if job.object_id == object_id else object_id
    if plane not in pair[0].ids:
        raise ConfigError(
            f"sequence '{sequence}', frame '{frame}' has no object {object_id} under protocol "
            f"'{protocol}': there are {ids_in_words(pair[0].ids)}"
        )
    counter = Counter()
    rows = np.zeros((len(pair[0].ids), len(COUNTS)), np.int64)
    counter.add(*pair, rows)
    counter.flush()
    row = rows[pair[0].ids.index(plane)]
    g, p = (packed.plane(plane) for packed in pair)
    reach = radius(*g.shape)
    layers = _layers(g, p, reach)
    if [int(n) for n in row] != _recount(layers):
        raise ProtocolError(
            f"sequence '{sequence}', frame '{frame}', object {object_id}: two ways of counting disagree "
            f"({row.tolist()} and {_recount(layers)}): please report this"
        )
    counts: dict[str, int] = dict(zip(COUNTS, row.tolist(), strict=True))
    return Explanation(
        counts,
        reach,
        float(region_similarity(row[None])[0]),
        _share(counts["pred_match"], counts["pred_boundary"], counts["gt_boundary"]),
        _share(counts["gt_match"], counts["gt_boundary"], counts["pred_boundary"]),
        float(contour_accuracy(row[None])[0]),
        frame in job.frames,
        _picture(layers),
    )


def write_picture(path: Path | str, picture: np.ndarray) -> None:
    """Write an RGB picture as PNG, atomically."""
    from PIL import Image

    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def boundary(mask: np.ndarray) -> np.ndarray:
    """Boundary map of a bool mask (H, W) by plain comparison with its neighbors."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def dilate(mask: np.ndarray, reach: int) -> np.ndarray:
    """A bool mask (H, W) dilated by the closed disc, row by row."""
    height, width = mask.shape
    padded = np.pad(mask, reach)
    out = np.zeros_like(mask)
    for dy, half in enumerate(half_widths(reach)):
        for dx in range(-half, half + 1):
            for row in {reach + dy, reach - dy}:
                column = reach + dx
                out |= padded[row : row + height, column : column + width]
    return out


def _layers(g: np.ndarray, p: np.ndarray, reach: int) -> dict[str, np.ndarray]:
    true_boundary, predicted_boundary = boundary(g), boundary(p)
    near_truth, near_prediction = dilate(true_boundary, reach), dilate(predicted_boundary, reach)
    return {
        "both": g & p,
        "missed": g & ~p,
        "wrong": p & ~g,
        "true_matched": true_boundary & near_prediction,
        "true_unmatched": true_boundary & ~near_prediction,
        "predicted_matched": predicted_boundary & near_truth,
        "predicted_unmatched": predicted_boundary & ~near_truth,
    }


def _recount(layers: dict[str, np.ndarray]) -> list[int]:
    n = {name: int(layer.sum()) for name, layer in layers.items()}
    return [
        n["both"],
        n["both"] + n["missed"],
        n["both"] + n["wrong"],
        n["true_matched"] + n["true_unmatched"],
        n["predicted_matched"] + n["predicted_unmatched"],
        n["true_matched"],
        n["predicted_matched"],
    ]


def _share(matched: int, own: int, other: int) -> float:
    """Precision or recall with the corner cases of empty boundaries."""
    if own and other:
        return matched / own
    return 0.0 if own else 1.0


def _picture(layers: dict[str, np.ndarray]) -> np.ndarray:
    used = np.logical_or.reduce(list(layers.values()))
    picture = np.zeros((*used.shape, 3), np.uint8)
    for name, layer in layers.items():
        picture[layer] = LEGEND[name][0]
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    if rows.size:
        top, left = max(rows[0] - _MARGIN_PX, 0), max(columns[0] - _MARGIN_PX, 0)
        picture = picture[top : rows[-1] + _MARGIN_PX + 1, left : columns[-1] + _MARGIN_PX + 1]
    scale = max(1, _PICTURE_PX // max(picture.shape[:2]))
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
