"""G-FRTM: the gate online and in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.lab.parity import get_parity
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.segmenter import FRTMSegmenter
from vosrepro.methods.gfrtm.model import GFRTM
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter
from vosrepro.methods.gfrtm.train import _iou, train_step

SMALL = {"backbone": "resnet10", "width": 8, "channels": 8, "stem_stride": 2, "norm": "group"}
QUICK = {"channels": 4, "init_iterations": [2, 2], "update_iterations": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GFRTM(**SMALL, gate_dim=8, gate_bias=(1.0, 0.1)).eval()


def _segment(segmenter, video, mask):
    with torch.inference_mode():
        segmenter.init(video[0], mask)
        return torch.stack([segmenter.step(frame) for frame in video[1:]])


def test_without_reuse_the_result_is_that_of_frtm(network, square_video, square_mask):
    plain = FRTM(**SMALL).eval()
    shared = {k: v for k, v in network.state_dict().items() if k in plain.state_dict()}
    plain.load_state_dict(shared)
    options = {"views": 2, "update_every": 100, "target": QUICK}
    gated = GFRTMSegmenter(network, tau=1.0, **options)
    found = _segment(gated, square_video, square_mask)
    wanted = _segment(FRTMSegmenter(plain, **options), square_video, square_mask)
    torch.testing.assert_close(found, wanted)
    assert gated.reuse_rate == 0


def test_a_low_threshold_reuses_always_and_never_updates(network, square_video, square_mask):
    segmenter = GFRTMSegmenter(network, tau=1e-6, views=2, update_every=1, target=QUICK)
    _segment(segmenter, square_video, square_mask)
    assert segmenter.reuse_rate == 1
    assert segmenter.targets["layer4"].tracked == [1]  # the start frame only


def test_computing_and_reusing_objects_may_be_mixed(network, square_video, square_mask):
    mask = square_mask.clone()
    mask[30:38, 30:50] = 2
    probe = GFRTMSegmenter(network, tau=1.0, views=2, target=QUICK, record_gate=True)
    _segment(probe, square_video[:2], mask)
    both = probe.gates[0].probabilities[:, 0]
    segmenter = GFRTMSegmenter(network, tau=float(both.mean()), views=2, target=QUICK)
    found = _segment(segmenter, square_video[:2], mask)
    assert sorted(segmenter.reused[0]) == [False, True]
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("tau", [0, -0.1, 1.01])
def test_a_threshold_outside_of_its_range_is_refused(network, tau):
    with pytest.raises(ConfigError, match="0 < tau <= 1"):
        GFRTMSegmenter(network, tau=tau)


def _batch():
    g = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 4, 1, 32, 48)
    for t in range(4):
        masks[:, t, :, 8:20, 10 + t : 30 + t] = 1
    return {
        "frames": torch.rand(2, 4, 3, 32, 48, generator=g),
        "masks": masks,
        "labels": masks[:, :, 0].long(),
        "selector": torch.ones(2, 1),
    }


def _losses(network, **options):
    options = {"views": 2, "target": QUICK, **options}
    return train_step(network, _batch(), iteration=10, **options)


def test_margin_m1_has_no_effect_unless_its_clamp_is_switched_on(network):
    assert _losses(network, m1=1.0)["loss"] == _losses(network, m1=0.0)["loss"]
    on = [_losses(network, m1=m, clamp_reuse_target=True)["loss_gate"] for m in (0.0, 1.0)]
    assert on[0] != on[1]


def test_margin_m2_forgives_small_errors_of_the_gate(network):
    assert _losses(network, m2=1.0)["loss_gate"] == 0
    assert _losses(network, m2=0.0)["loss_gate"] > 0


def test_the_stored_feature_flag_changes_the_result_where_frames_are_reused(network):
    with torch.no_grad():
        network.convGS[4].bias.copy_(torch.tensor([50.0, 0.0]))
        for level in network.refiner.TSE.values():
            level.transform[0].weight[:, 8:] *= 100  # a random network hardly looks at the scores
    found = [_losses(network, fix_prevx=flag)["loss"] for flag in (False, True)]
    assert found[0] != found[1]


def test_the_gate_is_trained_through_its_hard_decision(network):
    network.train()
    values = _losses(network, m2=1.0)  # the gate's own loss is silent
    (values["loss"] - values["loss_gate"]).backward()
    assert network.convGS[4].weight.grad.abs().sum() > 0


def test_slack_counts_masks_that_are_close_as_overlapping(network):
    a, b = torch.zeros(2, 1, 20, 30)
    a[:, 5:15, 5:15] = 1
    b[:, 5:15, 7:17] = 1
    plain, slack = (_iou(a, b, px).item() for px in (0, 2))
    assert plain == pytest.approx(8 / 12)
    assert slack == 1
    assert _iou(torch.zeros_like(a), torch.zeros_like(a), 2).item() == 0


def test_a_frozen_base_keeps_its_weights_statistics_and_masks(square_video, square_mask):
    torch.manual_seed(0)
    network = GFRTM(**{**SMALL, "norm": "batch"}, gate_dim=8, train_base=False).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    _losses(network)["loss"].backward()
    optimizer.step()
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    gate = ("Tmatching.", "convGS.", "Convert_Diff.", "refiner.Diff_process.")
    assert changed
    assert all(key.startswith(gate) for key in changed)


def test_tracked_and_reused_frames_are_counted_per_object(network, square_video, square_mask):
    segmenter = GFRTMSegmenter(network, tau=1e-6, views=2, target=QUICK)
    _segment(segmenter, square_video, square_mask)
    assert segmenter.counts == {"tracked": 5, "reused": 5}


@pytest.mark.parity
@pytest.mark.slow
def test_recorded_upstream_outputs_are_reproduced(golden):
    rows = get_parity("gfrtm")(dict(np.load(golden / "gfrtm.npz")))
    assert len(rows) > 40
    assert [(r.array, r.error, r.tolerance) for r in rows if not r.passed] == []
