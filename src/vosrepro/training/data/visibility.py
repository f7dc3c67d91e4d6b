"""Which frames show an object well enough to start from: the rule by which target models are trained."""

from __future__ import annotations

import numpy as np

_SMALLEST_PX = 100
_REFERENCE_PX = 480 * 854
_SHARE = 0.25
#: Sequences of DAVIS whose objects stay in view although they shrink a lot, and other shares. Source: as below.
_ALWAYS = frozenset(
    [
        "bus",
        "car-turn",
        "drift-turn",
        "kid-football",
        "koala",
        "mallard-fly",
        "motocross-bumps",
        "motorbike",
        "rallye",
        "snowboard",
        "train",
        "upside-down",
    ]
)
_SHARES = {
    "bmx-bumps": 0.5,
    "disk-jockey": 0.5,
    "boxing-fisheye": 0.2,
    "cat-girl": 0.2,
    "dog-gooses": 0.2,
    "tractor-sand": 0.1,
    "drone": 0.1,
}
#: (sequence, object or None for all) -> ranges of frames (first, last) that count in any case.
_FORCED: dict[tuple[str, int | None], tuple[tuple[int, int], ...]] = {
    ("classic-car", None): ((0, 55),),
    ("drone", 1): ((0, 16), (24, 59)),
    ("night-race", None): ((0, 28),),
    ("night-race", 2): ((0, 10_000),),
}


def visible(set_name: str, sequence: str, label: int, areas: np.ndarray, frame_px: int) -> np.ndarray:
    """Frames in which an object is visible enough to train a target model on.

    At least 100 px (at 480 x 854; scaled to other sizes) and, on DAVIS, at least a quarter of the object's
    largest area, with upstream's exceptions by name of the sequence.

    Args:
        set_name: the training set.
        sequence: name of the video.
        label: id of the object.
        areas: integer (T,), the object's pixels in each labeled frame.
        frame_px: pixels of a frame.

    Returns:
        bool (T,).

    Source: andr345/frtm-vos: lib/training_datasets.py.
    """
    enough = areas >= max(1.0, _SMALLEST_PX * frame_px / _REFERENCE_PX)
    if not set_name.startswith("davis") or sequence in _ALWAYS:
        return enough
    shown = areas >= _SHARES.get(sequence, _SHARE) * areas.max(initial=1)
    for owner in (None, label):
        for first, last in _FORCED.get((sequence, owner), ()):
            shown[first : last + 1] = True
    return shown & enough
