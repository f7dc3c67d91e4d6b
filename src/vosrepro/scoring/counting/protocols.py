"""Named protocols: which frames and objects are scored, how labels are read, what is refused.

A protocol never changes once a result used it; a new rule gets a new name.

Sources: davisvideochallenge/davis2017-evaluation, hkchengrex/vos-benchmark, hkchengrex/davis2016-evaluation,
facebookresearch/sam2: sav_dataset, andr345/frtm-vos: lib/evaluation.py; the YouTube-VOS site.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vosrepro.base.errors import ConfigError, nearest


class Protocol(NamedTuple):
    """Rules of scoring.

    Attributes:
        name: what users type.
        title: one line for tables and help.
        frames: "inner": all annotated frames but the first and the last; "after start": those after the
            object's first; "after start, inner": of those not the sequence's last.
        objects: "to maximum": 1..largest label of the first annotation; "single": one; "starts": the
            ids of meta.json, else those of the annotations; "seen": every id of a scored annotation,
            counted from the frame where annotation or prediction first shows it.
        labels: "ids"; "two-valued": {0, 1} or {0, 255} is one object; "non-zero": any label is.
        void: whether annotation label 255 is background (else it is a label like any other).
        extra: what predicting an id that is no object does: "refuse" or "ignore".
        per_object_folders: whether `<sequence>/<object>/<frame>.png` is understood.
    """

    name: str
    title: str
    frames: Literal["inner", "after start", "after start, inner"]
    objects: Literal["to maximum", "single", "starts", "seen"]
    labels: Literal["ids", "two-valued", "non-zero"]
    void: bool
    extra: Literal["refuse", "ignore"]
    per_object_folders: bool = False


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "davis2017",
            "DAVIS 2017 semi-supervised, as the official tool",
            "inner",
            "to maximum",
            "ids",
            True,
            "refuse",
        ),
        Protocol(
            "davis2016",
            "DAVIS 2016, one object, 2016 annotations",
            "inner",
            "single",
            "two-valued",
            False,
            "refuse",
        ),
        Protocol(
            "davis2016-merged17",
            "DAVIS 2016 list, 2017 annotations with all ids merged",
            "inner",
            "single",
            "non-zero",
            True,
            "ignore",
        ),
        Protocol(
            "ytvos-local",
            "YouTube-VOS rule for splits with annotations (approximates the server)",
            "after start",
            "starts",
            "ids",
            True,
            "refuse",
        ),
        Protocol(
            "frtm",
            "as FRTM, MTMFI and Reuse-VOS score",
            "after start, inner",
            "starts",
            "ids",
            False,
            "ignore",
        ),
        Protocol(
            "vos-benchmark",
            "as hkchengrex/vos-benchmark scores",
            "inner",
            "seen",
            "ids",
            False,
            "ignore",
        ),
        Protocol(
            "sav",
            "SA-V, as facebookresearch/sam2's evaluator scores",
            "inner",
            "seen",
            "ids",
            False,
            "ignore",
            True,
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ConfigError: naming the nearest one.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    raise ConfigError(f"there is no scoring protocol '{name}': {nearest(name, PROTOCOLS)}")
