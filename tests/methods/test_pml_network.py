from __future__ import annotations

from functools import cache

import pytest
import torch

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.methods.pml.cells import cell_fractions, cell_labels, own_cells, to_pixels
from vosrepro.methods.pml.convert import build, convert, convert_backbone, transfer
from vosrepro.methods.pml.model import PML
from vosrepro.study.params import load_method
from vosrepro.training.optimize import Optimizer

SEED = {"head": "seed", "coords": "zero", "channel_order": "rgb", "norm": "live"}
SMALL = {"width": 4, "blocks": (1, 1, 1, 1), "hidden_dim": 8, "embedding_dim": 8}


@cache
def published():
    return PML(**SEED)


def seed_state():
    return dict(published().state_dict())


def deeplab_state():
    state = {k.removeprefix("base_extractor."): v for k, v in seed_state().items() if "base_" in k}
    for branch in range(4):
        state[f"layer5.conv2d_list.{branch}.weight"] = torch.zeros(1)
    return state


def test_the_published_network_has_its_published_size():
    model = published()
    state = model.state_dict()
    assert len(state) == 630
    assert sum(key.startswith("base_extractor.") for key in state) == 624
    assert sum(p.numel() for p in model.parameters()) == 44_894_912
    assert sum(p.numel() for p in model.embedding_head.parameters()) == 2_394_752


@pytest.mark.parametrize("side", [16, 23, 31, 33, 40, 47, 55, 64])
def test_the_grid_is_that_of_the_real_features_even_for_sides_of_7_mod_8(side):
    model = PML(**SMALL, coords="ij").eval()
    height, width = model(torch.rand(1, 3, side, 64))[0].shape[1:]
    assert (height, width) == (side // 8 + 1 + (side % 8 == 7), 9)


@pytest.mark.parametrize("head", ["seed", "paper"])
def test_embeddings_are_unit_vectors_and_a_zero_vector_is_no_nan(head):
    torch.manual_seed(0)  # now and then a random network has a cell without any response
    model = PML(**SMALL, head=head, coords="ij", initial_std=None).eval()
    embedded = model(torch.rand(2, 3, 40, 48))
    assert torch.allclose(embedded.square().sum(1), torch.ones(()), atol=1e-5)
    with torch.no_grad():
        model.embedding_head.eh_layer.weight.zero_()
    assert float(model(torch.rand(1, 3, 40, 48)).abs().max()) == 0


def test_coordinates_are_shares_of_the_grid_and_of_the_span():
    model = PML(**SMALL, frame_span=10)
    x = torch.zeros(2, 5, 3, 4)
    found = model.coordinates(x, torch.tensor([5, 25]))
    assert found[0, 0, :, 0].tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert found[0, 1, 0].tolist() == [0, 0.25, 0.5, 0.75]
    assert found[:, 2, 0, 0].tolist() == [0.5, 1.0]
    model.coords = "zero"
    assert float(model.coordinates(x, torch.tensor([5, 25])).abs().max()) == 0


def test_the_channel_order_is_that_of_the_backbone():
    frame = torch.rand(1, 3, 24, 24)
    torch.manual_seed(0)
    bgr = PML(**SMALL, coords="zero", channel_order="bgr").eval()
    torch.manual_seed(0)
    rgb = PML(**SMALL, coords="zero", channel_order="rgb").eval()
    blue_first = frame.flip(1) * 255 - torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)
    assert torch.allclose(bgr(frame), rgb.embed(blue_first), atol=1e-6)


def test_normalization_follows_its_profile():
    image = torch.rand(4, 3, 32, 32)
    for norm, moves, learns in (
        ("live", True, False),
        ("frozen", False, False),
        ("batch", True, True),
    ):
        model = PML(**SMALL, coords="ij", norm=norm).train()
        layer = model.base_extractor.bn1
        before = layer.running_mean.clone()
        model(image)
        assert bool((layer.running_mean != before).any()) is moves
        assert layer.weight.requires_grad is learns


def test_gradients_reach_every_trainable_parameter():
    model = PML(**SMALL, coords="ij", norm="batch", initial_std=None)
    model(torch.rand(4, 3, 32, 32))[:, 0].sum().backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_the_seeds_head_has_no_time():
    with pytest.raises(ConfigError, match="no time coordinate"):
        PML(**SMALL, head="seed", coords="ijt")


def test_a_checkpoint_of_the_seeds_training_is_taken_with_its_prefix():
    state = {f"module.{key}": value for key, value in seed_state().items()}
    assert list(convert({"state_dict": state})) == list(seed_state())


@pytest.mark.parametrize("prefix", ["", "module.", "Scale.", "module.Scale."])
def test_deeplab_weights_are_taken_with_known_prefixes_and_without_counters(prefix):
    state = {prefix + k: v for k, v in deeplab_state().items() if not k.endswith("tracked")}
    found = convert_backbone(state)
    assert len(found) == 624
    assert sum(not key.endswith("num_batches_tracked") for key in found) == 520
    model = published()
    assert transfer(found, model).keys() == model.state_dict().keys()


def test_a_truncated_deeplab_file_is_refused_with_counts():
    state = deeplab_state()
    del state["layer3.22.bn3.running_var"]
    with pytest.raises(CheckpointError, match=r"519 of 520 tensors fit; 1 missing .*layer3.22.bn3"):
        convert_backbone(state)


def test_a_file_that_matches_nothing_is_refused():
    with pytest.raises(CheckpointError, match="0 of 520 tensors fit"):
        convert_backbone({"encoder.0.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="no embedding head"):
        convert(deeplab_state())
    with pytest.raises(CheckpointError, match="unknown"):
        convert({**seed_state(), "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 misshapen"):
        convert({**seed_state(), "embedding_head.conv1.bias": torch.zeros(3)})


def test_a_backbone_with_missing_tensors_does_not_start_a_training():
    model = published()
    with pytest.raises(CheckpointError, match="1 backbone tensors are missing"):
        transfer(
            {k: v for k, v in seed_state().items() if "base_" in k and "layer4.2.conv3" not in k},
            model,
        )


def test_a_training_starts_from_a_deeplab_file(tmp_path):
    path = tmp_path / "deeplab.pth"
    torch.save({f"Scale.{k}": v + 1 for k, v in deeplab_state().items()}, path)
    found = build(start=str(path)).base_extractor.state_dict()
    assert torch.equal(found["conv1.weight"], deeplab_state()["conv1.weight"] + 1)


@pytest.mark.parametrize("content", [None, {"encoder.0.weight": torch.zeros(3)}])
def test_without_the_file_to_start_from_the_network_waits_for_other_weights(content, tmp_path):
    path = tmp_path / "deeplab.pth"
    if content is not None:
        torch.save(content, path)
    network = build(start=str(path), head="seed", coords="zero")
    expected = "there is no checkpoint" if content is None else "0 of 520 tensors fit"
    with pytest.raises(CheckpointError, match=expected):
        network(torch.zeros(1, 3, 16, 16))
    network.load_state_dict(seed_state())
    assert torch.isfinite(network.eval()(torch.zeros(1, 3, 16, 16))).all()


def test_a_small_network_cannot_start_from_the_published_backbone():
    with pytest.raises(ConfigError, match="leave out width"):
        build(start="deeplab.pth", **SMALL)


def test_the_seeds_parameters_are_updated_as_often_as_its_generators_yield_them(in_root):
    params = load_method("pml").sizes["full"].stages["seed"]
    network = published()
    optimizer = Optimizer(params.optimizer, network.named_parameters())
    names = {id(p): name for name, p in network.named_parameters()}
    updates = {
        names[id(optimizer.parameters[place])]: group.updates for group in optimizer._groups for place in group.places
    }
    assert updates["base_extractor.conv1.weight"] == 2
    assert updates["base_extractor.layer3.22.conv2.weight"] == 4
    assert updates["base_extractor.layer4.0.downsample.0.weight"] == 5
    assert {n for k, n in updates.items() if k.startswith("embedding_head.")} == {2}
    assert len(updates) == 104 + 6  # scales and shifts of the normalization are frozen


def test_half_pixel_labels_equal_pillows_nearest():
    from PIL import Image

    labels = torch.randint(0, 4, (53, 91), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = cell_labels(labels, (7, 12), geometry="half-pixel", cell_px=8)
    expected = Image.fromarray(labels.numpy()).resize((12, 7), Image.Resampling.NEAREST)
    assert found.tolist() == [list(row) for row in torch.tensor(list(expected.tobytes())).view(7, 12).tolist()]


@pytest.mark.parametrize("geometry", ["half-pixel", "aligned"])
@pytest.mark.parametrize("side", [33, 34, 40, 46, 47])
def test_labels_survive_the_way_to_cells_and_back(geometry, side):
    cells = side // 8 + 1 + (side % 8 == 7)
    mask = torch.zeros(1, side, 48)
    mask[:, :, 24:] = 1
    fractions = cell_fractions(mask, (cells, 7), geometry=geometry, cell_px=8)
    assert fractions.shape == (1, cells, 7)
    assert torch.allclose(cell_fractions(1 - mask, (cells, 7), geometry=geometry, cell_px=8), 1 - fractions)
    back = to_pixels(fractions, (side, 48), geometry=geometry, cell_px=8)
    assert back.shape == mask.shape
    wrong = ((back > 0.5) != (mask > 0.5))[0].any(0).sum()
    assert int(wrong) <= 2


def test_an_object_smaller_than_a_cell_gets_the_cell_it_covers_most():
    fractions = torch.zeros(3, 2, 2)
    fractions[0] = 1
    fractions[1, 1, 0] = 0.1
    labels = own_cells(fractions, torch.zeros(2, 2, dtype=torch.int64))
    assert labels.tolist() == [[0, 0], [1, 0]]  # label 2 covers nothing
