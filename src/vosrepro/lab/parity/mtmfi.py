"""MTMFI on key-seeded weights against recorded outputs of the original code; see `vosrepro.lab.parity.frtm`."""

from __future__ import annotations

from typing import Any

from vosrepro.lab.parity.family import Family, RecordedScene
from vosrepro.lab.parity.frtm import family_rules, logit_rules
from vosrepro.lab.parity.rules import Rule
from vosrepro.methods.mtmfi.model import MTMFI
from vosrepro.methods.mtmfi.segmenter import MTMFISegmenter

#: The first part of a scene's name says which network it was made with.
_HEADS = {"mtm": "initial", "fi": "bise"}


def _head(name: str) -> str:
    return _HEADS.get(name.partition(".")[0], "initial")


def _segmenter(net: Any, _: RecordedScene, options: dict[str, Any]) -> MTMFISegmenter:
    return MTMFISegmenter(net, **options)


FAMILY = Family(
    build=lambda name, backbone: MTMFI(head=_head(name), backbone=backbone),  # type: ignore[arg-type]
    segmenter=_segmenter,
    network_of=_head,
    levels=("layer3", "layer4"),
    defaults=(("channels", 64), ("growth", "multiply")),
)
_SCENE = r"(?P<scene>(?:mtm|fi)\.\w+)"
RULES: tuple[Rule, ...] = (*logit_rules(FAMILY, _SCENE), *family_rules(FAMILY, _SCENE))
