"""MTMFI: two levels, two heads, the import of its checkpoints."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.lab.parity import get_parity
from vosrepro.methods.frtm.backbone import Backbone
from vosrepro.methods.mtmfi import METHOD
from vosrepro.methods.mtmfi.convert import head_of
from vosrepro.methods.mtmfi.model import MTMFI
from vosrepro.methods.mtmfi.segmenter import MTMFISegmenter

SMALL = {"backbone": "resnet10", "width": 8, "channels": 8, "stem_stride": 2, "norm": "group"}
QUICK = {"channels": 4, "init_iterations": [2, 2], "update_iterations": 2}


@pytest.mark.parametrize("head", ["initial", "bise", "bise-large"])
def test_both_levels_are_scored_and_updated(head, square_video, square_mask):
    torch.manual_seed(0)
    segmenter = MTMFISegmenter(MTMFI(head=head, **SMALL).eval(), views=2, update_every=1, target=QUICK)
    with torch.inference_mode():
        segmenter.init(square_video[0], square_mask)
        before = {k: t.samples.gains.clone() for k, t in segmenter.targets.items()}
        segmenter.targets["layer3"].score(segmenter.model.backbone(square_video[:1])["layer3"])
        segmenter.step(square_video[1])
        segmenter._probabilities(square_video[2][:])
        segmenter._update(square_mask[None].float())
    assert list(segmenter.targets) == ["layer3", "layer4"]
    sizes = [t.size for t in segmenter.targets.values()]
    assert sizes[0] == (2 * sizes[1][0], 2 * sizes[1][1])
    assert all(not torch.equal(before[k], t.samples.gains) for k, t in segmenter.targets.items())


def test_a_variant_of_the_other_head_is_refused():
    network = MTMFI(head="initial", **SMALL)
    with pytest.raises(ConfigError, match="use the variant of that name"):
        MTMFISegmenter(network, head="bise")


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match="cbam"):
        MTMFI(head="cbam")


@pytest.mark.parametrize(("head", "keys", "parameters"), [("initial", 140, 1_422_193), ("bise", 112, 1_144_985)])
def test_released_layouts_are_told_apart_by_their_keys(monkeypatch, head, keys, parameters):
    def zeros(name):
        return {k: torch.zeros_like(v) for k, v in Backbone(name).state_dict().items()}

    monkeypatch.setattr(sys.modules["vosrepro.methods.frtm.convert"], "imagenet_state", zeros)
    with torch.device("meta"):
        network = MTMFI(backbone="resnet101", head=head)
    assert sum(p.numel() for p in network.refiner.parameters()) == parameters
    released = {
        k: torch.zeros(v.shape, dtype=v.dtype) for k, v in network.state_dict().items() if k.startswith("refiner.")
    }
    assert len(released) == keys
    assert head_of(released) == head
    assert set(METHOD.convert({"model": released})) == set(network.state_dict())


@pytest.mark.parity
@pytest.mark.slow
def test_recorded_upstream_outputs_are_reproduced(golden):
    rows = get_parity("mtmfi")(dict(np.load(golden / "mtmfi.npz")))
    assert len(rows) > 70
    assert [(r.array, r.error, r.tolerance) for r in rows if not r.passed] == []
