from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import recordings

from vosrepro.commands.parity import read_fixture
from vosrepro.lab.parity import get_parity
from vosrepro.methods.parts.resnet import ResNet50v2, same_max_pool, tiled_shortcut

pytestmark = pytest.mark.parity

GROUPS = (
    "siam",
    "xcorr",
    "label",
    "geom",
    "parts",
    "agg",
    "sim",
    "rgmp",
    "maskloss",
    "bnstat",
    "lr",
)


@pytest.fixture(scope="module")
def arrays():
    return read_fixture(recordings() / "parts.npz")


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_agrees_with_the_reference(arrays, group):
    own = {name: value for name, value in arrays.items() if name.startswith(f"{group}/")}
    rows = get_parity("parts")(own)
    assert rows
    assert [row.array for row in rows if not row.passed] == []


@pytest.mark.slow
def test_resnet_50_v2_agrees_with_the_reference(arrays):
    own = {name: value for name, value in arrays.items() if name.startswith("r50v2/")}
    rows = get_parity("parts")(own)
    assert [row.array for row in rows if not row.passed] == []
    assert len(rows) == len(own) - 1  # all but the input; three large arrays are left out of the cropped recording


def test_every_array_of_the_fixture_is_an_input_or_compared(arrays):
    rows = get_parity("parts")({k: v for k, v in arrays.items() if not k.startswith("r50v2")})
    compared = {row.array for row in rows}
    inputs = {
        "siam/x",
        "xcorr/z",
        "xcorr/x",
        "label/center_yx",
        "label/logits",
        "geom/boxes",
        "geom/part_side",
        "parts/mask",
        "parts/boxes",
        "agg/boxes",
        "agg/part_logits",
        "agg/part_weight",
        "agg/object_box",
        "agg/object_logits",
        "agg/multi_S",
        "sim/feat0",
        "sim/feat_t",
        "sim/m0",
        "sim/mt",
        "rgmp/gc_x",
        "rgmp/refine_f",
        "maskloss/logits63",
        "maskloss/gt",
        "bnstat/x",
        "lr/imagenet_steps",
        "lr/track_epoch",
    }
    others = {name for name in arrays if not name.startswith("r50v2/")}
    assert others == compared | inputs


def test_a_damaged_array_fails(arrays):
    own = {name: value for name, value in arrays.items() if name.startswith("geom/")}
    own["geom/cell_px"] = own["geom/cell_px"] + 0.01
    assert not all(row.passed for row in get_parity("parts")(own))


def test_resnet_50_v2_has_the_published_number_of_weights():
    from vosrepro.methods.parts.resnet import ClassHead

    with torch.device("meta"):
        network, head = ResNet50v2(), ClassHead(2048, 1001)
    count = sum(p.numel() for part in (network, head) for p in part.parameters())
    assert count == 25_551_401


@pytest.mark.parametrize(("side", "padded"), [(8, (0, 1)), (7, (1, 1))])
def test_pooling_pads_as_tensorflow_does(side, padded):
    x = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    framed = np.pad(x[0, 0].numpy(), (padded, padded), constant_values=-np.inf)
    out = same_max_pool(x)[0, 0]
    assert out.shape == (-(-side // 2),) * 2
    assert float(out[0, 0]) == framed[:3, :3].max()
    assert float(out[-1, -1]) == framed[-3:, -3:].max()


def test_the_seeds_tiled_shortcut_is_nine_times_too_strong():
    kernel = torch.rand(4, 3, 1, 1)
    x = torch.ones(1, 3, 5, 5)
    plain = torch.nn.functional.conv2d(x, kernel)[..., 0, 0]
    fixed = torch.nn.functional.conv2d(x, tiled_shortcut(kernel, divide=True))[..., 0, 0]
    seed = torch.nn.functional.conv2d(x, tiled_shortcut(kernel, divide=False))[..., 0, 0]
    assert torch.allclose(fixed, plain)
    assert torch.allclose(seed, 9 * plain)
