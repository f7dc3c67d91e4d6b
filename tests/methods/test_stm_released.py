"""The layouts of released checkpoints, and parity with recorded outputs of the original code."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.methods.stm import METHOD
from vosrepro.methods.stm.build import fill_encoders
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.original import OriginalSTM


@pytest.fixture(scope="module")
def layouts():
    """State dicts without memory: 5 channels, 4 channels, the original's."""
    with torch.device("meta"):
        return STM().state_dict(), STM(objects=1).state_dict(), OriginalSTM().state_dict()


def test_the_networks_have_the_released_sizes(layouts):
    multi, single, original = layouts
    assert [len(layout) for layout in layouts] == [597, 597, 558]
    assert sum(v.numel() for k, v in multi.items() if "running" not in k and "num" not in k) == 53_685_953
    assert multi["mask_rgb_encoder.conv1.weight"].shape == (64, 5, 7, 7)
    assert single["mask_rgb_encoder.conv1.weight"].shape == (64, 4, 7, 7)
    assert multi["decoder.up_16_8.out_conv.downsample.weight"].shape == (256, 512, 3, 3)
    assert original["Decoder.pred2.weight"].shape == (2, 256, 3, 3)


def test_each_released_wrapping_is_understood(layouts):
    multi, single, original = layouts
    assert list(METHOD.convert(multi)) == list(multi)
    assert METHOD.convert(single)["mask_rgb_encoder.conv1.weight"].shape[1] == 4
    wrapped = {f"module.{key}": value for key, value in original.items()}
    assert list(METHOD.convert(wrapped)) == list(original)
    resume = {"it": 5, "network": multi, "optimizer": {}, "scheduler": {}}
    assert list(METHOD.convert(resume)) == list(multi)


def test_a_renamed_key_is_named_on_both_sides(layouts):
    broken = dict(layouts[0])
    broken["decoder.predict.bias"] = broken.pop("decoder.pred.bias")
    with pytest.raises(CheckpointError) as caught:
        METHOD.convert(broken)
    assert "1 keys are missing (decoder.pred.bias)" in str(caught.value)
    assert "1 keys are unknown (decoder.predict.bias)" in str(caught.value)


def test_something_else_than_a_checkpoint_is_refused():
    with pytest.raises(CheckpointError, match="592 keys are missing|keys are missing"):
        METHOD.convert({"fc.weight": torch.zeros(2)})


def test_an_unknown_argument_of_the_network_is_one_sentence():
    with pytest.raises(ConfigError, match="widht"):
        METHOD.build(widht=16)


def test_an_imagenet_resnet_fills_both_encoders():
    resnet = {
        k.replace("res2.", "layer1."): torch.full_like(v, 0.5) if v.is_floating_point() else v
        for k, v in STM().rgb_encoder.state_dict().items()
    }
    model = STM(objects=1)
    fill_encoders(model, resnet)
    assert (model.rgb_encoder.res2[0].conv1.weight == 0.5).all()
    memory = model.mask_rgb_encoder
    assert (memory.conv1.weight[:, :3] == 0.5).all()
    assert not (memory.conv1.weight[:, 3] == 0.5).any()
    assert not memory.layer2[0].conv1.bias.any()


@pytest.mark.parity
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        r"pad|prob0|q_.*|m_[kv]0|(read|logits|agg)_.*",
        r"masks_.*|prob_.*|problast_.*",
        r"corr_(W|map16|heat)",
        r"(mo|so)_(logits|loss|p|grad).*",
        r"orig_.*",
        r"resize_.*|tps_map.",
    ],
)
def test_parity_with_recorded_outputs(golden, part):
    from vosrepro.lab.parity import get_parity
    from vosrepro.lab.parity.stm import RULES

    fixture = golden / "stm.npz"
    if not fixture.is_file():
        pytest.skip(f"{fixture} is absent")
    given = [rule.compiled for rule in RULES if rule.kind != "compared"]
    with np.load(fixture) as archive:
        wanted = [n for n in archive.files if re.fullmatch(part, n) or any(r.fullmatch(n) for r in given)]
        rows = get_parity("stm")({name: archive[name] for name in wanted})
    assert rows
    failed = [f"{row.array}: {row.error:.2e} > {row.tolerance:.0e}" for row in rows if not row.passed]
    assert not failed
