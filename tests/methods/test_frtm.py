"""FRTM: stencils, solver, memory, augmentation, segmentation network, cache, import of released files."""

from __future__ import annotations

import collections
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision import models as torchvision_models

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.lab.parity import get_parity
from vosrepro.methods.common.checkpoints import read_checkpoint
from vosrepro.methods.frtm import METHOD
from vosrepro.methods.frtm.augment import augment_first_frame, blur_kernel, limited_scale
from vosrepro.methods.frtm.backbone import Backbone
from vosrepro.methods.frtm.cache import TargetCache
from vosrepro.methods.frtm.memory import initial_weights, updated_weights
from vosrepro.methods.frtm.merging import merge_odds, merged_labels
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.segmenter import FRTMSegmenter
from vosrepro.methods.frtm.stencil import apply_stencil, fold_terms
from vosrepro.methods.frtm.target import (
    TargetModels,
    TargetSettings,
    initial_target,
    pixel_weights,
)
from vosrepro.methods.frtm.train import TRAINING, target_scorer, train_step

SMALL = {"backbone": "resnet10", "width": 8, "channels": 8, "stem_stride": 2, "norm": "group"}
QUICK = {"channels": 4, "init_iterations": [2, 2], "update_iterations": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FRTM(**SMALL).eval()


def _samples(objects=2, views=3, inputs=6, size=(5, 7), large=(20, 30)):
    g = torch.Generator().manual_seed(0)
    features = torch.rand(objects, views, inputs, *size, generator=g)
    masks = (torch.rand(objects, views, *large, generator=g) > 0.7).byte()
    initial = [initial_target(inputs, 4, torch.Generator().manual_seed(i)) for i in range(objects)]
    return features, masks, initial


def _models(**changes):
    changes = {"channels": 4, "dtype": "float64", "capacity": 6, "every": 2, **changes}
    return TargetModels(TargetSettings(**changes), record=True)


def test_the_folded_data_term_equals_the_one_at_image_size():
    g = torch.Generator().manual_seed(0)
    weights, labels = torch.rand(2, 23, 41, 31, generator=g, dtype=torch.float64).unbind()
    score = torch.randn(23, 6, 7, generator=g, dtype=torch.float64)
    wide = F.interpolate(score[:, None], (41, 31), mode="bilinear", align_corners=False)[:, 0]
    wanted = (weights * (wide - labels) ** 2).sum((1, 2))
    terms = fold_terms(weights, labels, (6, 7))
    flat = score.flatten(1)
    product = apply_stencil(terms.stencil, flat, (6, 7))
    found = (flat * (product - 2 * terms.linear)).sum(1) + terms.constant
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("iterations", [(3,), (3, 3)])
def test_folded_and_published_arithmetic_reach_the_same_target_model(iterations):
    samples = _samples()
    found = []
    for backend in ("folded", "autograd"):
        models = _models(backend=backend, init_iterations=iterations, update_iterations=3)
        models.add(*samples)
        found.append((models.objectives[0], *models.weights()))
    for ours, published in zip(*found, strict=True):
        torch.testing.assert_close(ours, published, rtol=1e-7, atol=1e-9)


def test_a_step_lowers_the_objective_and_objects_do_not_mix():
    features, masks, initial = _samples(objects=3)
    short = {"init_iterations": (3,), "update_iterations": 3}  # longer runs amplify rounding
    together = _models(**short)
    together.add(features, masks, initial)
    values = together.objectives[0]
    assert (values[1] < 0.9 * values[0]).all()
    for o in range(3):
        alone = _models(**short)
        alone.add(features[o : o + 1], masks[o : o + 1], initial[o : o + 1])
        torch.testing.assert_close(alone.filters[0], together.filters[o], rtol=1e-6, atol=1e-9)


def test_an_object_that_joins_later_leaves_the_others_as_they_are():
    features, masks, initial = _samples(objects=2)
    soft = torch.zeros(2, 20, 30)
    soft[:, 4:12, 5:20] = 0.9
    short = {"init_iterations": (2,), "update_iterations": 2}  # longer runs amplify rounding
    split, alone = _models(**short), _models(**short)
    for models in (split, alone):
        models.add(features[:1], masks[:1], initial[:1])
    for t in range(4):
        frame = features[:1, t % 3]
        if t == 1:
            split.add(features[1:], masks[1:], initial[1:])
        split.score(frame)
        split.update(soft[: len(split)])
        alone.score(frame)
        alone.update(soft[:1])
    torch.testing.assert_close(split.filters[0], alone.filters[0], rtol=1e-6, atol=1e-9)


def test_a_mask_of_fewer_than_ten_pixels_neither_enters_the_memory_nor_retrains():
    features, masks, initial = _samples(objects=1)
    models = _models(every=1)
    models.add(features, masks, initial)
    before = models.filters.clone(), models.samples.gains.clone()
    models.score(features[:, 0])
    tiny = torch.zeros(1, 20, 30)
    tiny[0, 0, :9] = 1
    models.update(tiny)
    assert torch.equal(models.filters, before[0])
    assert torch.equal(models.samples.gains, before[1])
    tiny[0, 1, 0] = 1  # the tenth pixel
    models.score(features[:, 0])
    models.update(tiny)
    assert not torch.equal(models.filters, before[0])


def test_pixel_weights_balance_small_objects_and_leave_large_ones_alone():
    hard = torch.zeros(3, 20, 20, dtype=torch.bool)
    hard[0, :4, :5] = True  # 5 %
    hard[1, :10] = True  # half
    hard[2] = True  # the whole frame
    weights = pixel_weights(hard, 0.1).square()
    assert weights[0][hard[0]].sum() == pytest.approx(0.1 * 400)
    assert weights[0][~hard[0]].sum() == pytest.approx(0.9 * 400)
    torch.testing.assert_close(weights[1:], torch.ones_like(weights[1:]))


def test_the_annotated_frame_counts_double():
    assert initial_weights(5).tolist() == pytest.approx([2 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize(("growth", "limit", "evicted"), [("divide", 0.1, 93), ("multiply", 0.1 / 1.1, 94)])
def test_the_annotated_frame_is_evicted_when_upstream_does(growth, limit, evicted):
    gains = torch.zeros(1, 80, dtype=torch.float64)
    gains[0, :5] = torch.tensor([2.0, 1, 1, 1, 1]) / 6
    last, count = torch.tensor([-1]), 0
    while True:
        gains, slot = updated_weights(gains, last, rate=0.1, growth=growth)
        count, last = count + 1, slot
        if slot.item() == 0:
            break
    assert count == evicted
    assert gains[0, slot].item() == pytest.approx(limit, abs=1e-3)


def test_a_protected_annotated_frame_stays():
    gains = torch.tensor([[0.01, 0.5, 0.49]])
    _, slot = updated_weights(gains, torch.tensor([1]), rate=0.1, protect_first=True)
    assert slot.item() == 2


def test_views_repeat_with_their_seed_and_begin_with_the_frame_itself():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 1
    runs = [augment_first_frame(image, mask, views=4, rng=np.random.RandomState(s)) for s in (0, 0, 1)]
    assert np.array_equal(runs[0][0], runs[1][0])
    assert not np.array_equal(runs[0][0], runs[2][0])
    assert np.array_equal(runs[0][0][0], image)
    assert np.array_equal(runs[0][1][0], mask)
    assert all(m.any() for m in runs[0][1])


@pytest.mark.parametrize("what", ["one pixel", "everything"])
def test_extreme_objects_have_views(what):
    image = np.full((40, 50, 3), 90, np.uint8)
    mask = np.zeros((40, 50), np.uint8)
    mask[:] = what == "everything"
    mask[20, 20] = 1
    frames, masks = augment_first_frame(image, mask, views=5, rng=np.random.RandomState(0))
    assert frames.shape == (5, 40, 50, 3)
    assert masks.any((1, 2)).all()


def test_an_empty_mask_cannot_be_augmented():
    with pytest.raises(DataError, match="no pixel"):
        augment_first_frame(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9)), views=2, rng=np.random.RandomState(0))


def test_blur_kernels_have_the_published_sizes_and_sum_to_one():
    assert [blur_kernel(b, 45).shape[0] for b in (1, 2, 5)] == [3, 3, 7]
    assert blur_kernel(5, 30).sum() == pytest.approx(1)


def test_a_moved_object_fits_the_frame_and_keeps_ten_pixels():
    assert limited_scale(2.5, (0, 0, 40.0, 30.0), (60, 80)) == pytest.approx(2.0)
    assert limited_scale(0.5, (0, 0, 12.0, 8.0), (60, 80)) == pytest.approx(10 / 8)


def test_the_double_merge_gives_weak_winners_to_the_background():
    objects = torch.tensor([0.51, 0.50, 0.50])[:, None, None]
    soft, masks = merge_odds(objects)
    assert soft.argmax(0).item() == 1
    assert soft[1].item() < 0.5
    assert merged_labels(objects, twice=True)[0].argmax(0).item() == 0
    assert merged_labels(objects, twice=False)[0].argmax(0).item() == 1
    assert masks[1:].sum() == 0


def test_backbone_keys_are_those_of_torchvision():
    for name in ("resnet18", "resnet101"):
        with torch.device("meta"):
            theirs = getattr(torchvision_models, name)(weights=None).state_dict()
            ours = Backbone(name).state_dict()
        shapes = {k: tuple(v.shape) for k, v in theirs.items() if not k.startswith("fc.")}
        assert {k: tuple(v.shape) for k, v in ours.items()} == shapes


def test_a_frozen_backbone_stays_in_evaluation_mode_and_without_gradients():
    network = FRTM(**{**SMALL, "norm": "batch"}).train()
    assert not network.backbone.bn1.training
    assert not any(p.requires_grad for p in network.backbone.parameters())
    assert network.refiner.training


def test_missing_imagenet_weights_stop_the_use_but_not_the_loading(monkeypatch):
    def missing(name):
        raise CheckpointError(f"no weights of {name}")

    monkeypatch.setattr("vosrepro.methods.frtm.model.imagenet_state", missing)
    network = FRTM(pretrained=True, channels=8)
    with pytest.raises(CheckpointError, match="resnet18"):
        FRTMSegmenter(network)
    network.load_state_dict(network.state_dict())
    FRTMSegmenter(network)


def _released(name="resnet18"):
    with torch.device("meta"):
        state = FRTM(backbone=name).state_dict()
    return {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in state.items() if "backbone" not in k}


def _zeros(name):
    return {k: torch.zeros_like(v) for k, v in Backbone(name).state_dict().items()}


def test_a_released_layout_has_140_keys_and_loads_strictly(monkeypatch):
    monkeypatch.setattr(sys.modules["vosrepro.methods.frtm.convert"], "imagenet_state", _zeros)
    released = _released()
    assert len(released) == 140
    parameters = sum(v.numel() for k, v in released.items() if "running" not in k and "num_b" not in k)
    assert parameters == 1_226_129
    FRTM().load_state_dict(METHOD.convert({"model": released, "epoch": 3}))
    released["refiner.extra"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="refiner.extra"):
        METHOD.convert(released)


def test_a_checkpoint_of_another_method_is_refused_in_a_sentence():
    with pytest.raises(CheckpointError, match="not one of FRTM"):
        METHOD.convert({"conv.weight": torch.zeros(1)})


@pytest.mark.parametrize("zipped", [True, False])
def test_released_files_with_foreign_classes_are_read_without_running_them(tmp_path, capsys, zipped):
    module = types.ModuleType("foreign_library")

    class AverageMeter:
        def __init__(self):
            self.sum = 1

    class Bomb:
        def __reduce__(self):
            return print, ("a pickle was run",)

    AverageMeter.__module__, AverageMeter.__qualname__ = "foreign_library", "AverageMeter"
    module.AverageMeter = AverageMeter
    sys.modules["foreign_library"] = module
    stats = collections.defaultdict(AverageMeter)
    stats["loss"].sum = 2
    weights = collections.OrderedDict(w=torch.arange(3.0))
    path, bad = tmp_path / "ok.pth", tmp_path / "bad.pth"
    torch.save({"model": weights, "stats": stats}, path, _use_new_zipfile_serialization=zipped)
    torch.save({"model": weights, "x": Bomb()}, bad, _use_new_zipfile_serialization=zipped)
    del sys.modules["foreign_library"]
    found = read_checkpoint(path)
    assert torch.equal(found.content["model"]["w"], torch.arange(3.0))
    assert "foreign_library.AverageMeter" in found.foreign
    with pytest.raises(CheckpointError, match="print"):
        read_checkpoint(bad)
    assert "a pickle was run" not in capsys.readouterr().out


def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(CheckpointError, match="web page"):
        read_checkpoint(tmp_path / "page.pth")


def test_a_frame_of_another_size_is_refused(network, square_video, square_mask):
    segmenter = FRTMSegmenter(network, views=2, target=QUICK)
    with torch.inference_mode():
        segmenter.init(square_video[0], square_mask)
        with pytest.raises(DataError, match="one size"):
            segmenter.step(square_video[1, :, :-2])


def test_fast_means_fewer_iterations_unless_it_is_ignored_as_upstream_does(network):
    assert FRTMSegmenter(network, fast=True).settings.init_iterations == (5, 10, 10, 10)
    assert FRTMSegmenter(network, fast=True).settings.update_iterations == 5
    ignored = FRTMSegmenter(network, fast=True, ignore_fast=True).settings
    assert ignored == FRTMSegmenter(network).settings


def test_an_unknown_setting_of_the_target_model_is_refused(network):
    with pytest.raises(ConfigError, match="no such setting"):
        FRTMSegmenter(network, target={"chanels": 3})


def test_an_unseeded_first_target_model_differs_between_runs(network, square_video, square_mask):
    found = []
    for _ in range(2):
        segmenter = FRTMSegmenter(network, views=2, target=QUICK, unseeded_first_target=True)
        with torch.inference_mode():
            segmenter.init(square_video[0], square_mask)
        found.append(segmenter.targets["layer4"].projections)
    assert not torch.equal(*found)


def _batch(size=(32, 48)):
    g = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 3, 1, *size)
    masks[..., 8:20, 10:30] = 1
    return {
        "frames": torch.rand(2, 3, 3, *size, generator=g),
        "masks": masks,
        "labels": masks[:, :, 0].long(),
        "selector": torch.ones(2, 1),
    }


def test_the_cache_gives_the_same_loss_and_is_hit_the_second_time(network, tmp_path, monkeypatch):
    options = {"views": 2, "target": QUICK}
    plain = train_step(network, _batch(), iteration=0, **options)["loss"]
    cached = {**options, "target_cache": str(tmp_path)}
    first = train_step(network, _batch(), iteration=0, **cached)["loss"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    monkeypatch.setattr("vosrepro.methods.frtm.train._solve", None)  # a miss would call it
    second = train_step(network, _batch(), iteration=0, **cached)["loss"]
    torch.testing.assert_close(first, plain)
    torch.testing.assert_close(second, plain)


def test_a_damaged_cache_entry_is_made_anew_with_a_warning(network, tmp_path, caplog):
    options = {"views": 2, "target": QUICK, "target_cache": str(tmp_path)}
    wanted = train_step(network, _batch(), iteration=0, **options)["loss"]
    broken = next(tmp_path.rglob("*.safetensors"))
    broken.write_bytes(b"broken")
    found = train_step(network, _batch(), iteration=0, **options)["loss"]
    assert "damaged" in caplog.text
    torch.testing.assert_close(found, wanted)
    assert broken.stat().st_size > 100


def test_a_cache_of_another_configuration_is_never_hit(network, tmp_path):
    frame, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
    torch.manual_seed(1)
    other = FRTM(**SMALL)
    paths = {
        TargetCache(tmp_path, network.backbone, 5, TRAINING).path(frame, mask),
        TargetCache(tmp_path, network.backbone, 6, TRAINING).path(frame, mask),
        TargetCache(tmp_path, network.backbone, 5, TargetSettings()).path(frame, mask),
        TargetCache(tmp_path, other.backbone, 5, TRAINING).path(frame, mask),
        TargetCache(tmp_path, network.backbone, 5, TRAINING).path(frame + 1, mask),
    }
    assert len(paths) == 5


def test_a_cache_with_a_trained_backbone_is_refused(tmp_path):
    network = FRTM(**SMALL, frozen=False)
    with pytest.raises(ConfigError, match="frozen"):
        train_step(network, _batch(), iteration=0, target_cache=str(tmp_path))


def test_the_last_bias_can_start_above_zero():
    assert FRTM(**SMALL, logit_bias=1.5).refiner.project.conv2.bias.item() == 1.5
    torch.manual_seed(0)
    drawn = FRTM(**SMALL).refiner.project.conv2.bias.item()
    assert 0 < abs(drawn) < 1


def test_an_object_that_is_hidden_at_the_start_scores_zero(network):
    batch = _batch()
    batch["masks"][0, 0] = 0
    from vosrepro.methods.frtm.train import object_clips

    scorer = target_scorer(network, object_clips(batch), views=2, target=QUICK)
    score = scorer(network.view_features(batch["frames"][:, 1]), 1)[0]
    assert score[0].abs().max() == 0
    assert score[1].abs().max() > 0


@pytest.mark.parity
@pytest.mark.slow
def test_recorded_upstream_outputs_are_reproduced(golden):
    rows = get_parity("frtm")(dict(np.load(golden / "frtm.npz")))
    assert len(rows) > 50
    assert [(r.array, r.error, r.tolerance) for r in rows if not r.passed] == []
