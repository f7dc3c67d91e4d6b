from __future__ import annotations

import pytest
import torch

from vosrepro.methods.parts import regions
from vosrepro.methods.parts.combine import blend_parts, combine_parts, favos_combination, paste
from vosrepro.methods.parts.matching import (
    SearchParams,
    cell_weights,
    correlate,
    locate,
    peak_offset,
    positive_cells,
)
from vosrepro.methods.parts.regions import roi_align


def _boxes(count, generator):
    corner = torch.rand(count, 2, generator=generator) * 60 - 15  # some leave the frame
    side = 5 + 40 * torch.rand(count, 1, generator=generator)
    return torch.cat([corner, corner + side], dim=1)


@pytest.mark.oracle
@pytest.mark.slow
def test_regions_equal_torchvisions_also_outside_of_the_frame():
    from torchvision.ops import roi_align as theirs

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 17, 23, generator=generator)
    boxes, image = _boxes(24, generator), torch.arange(24) % 3
    ours = roi_align(features, boxes, image, cells=7, stride=4)
    indexed = torch.cat([image[:, None].float(), boxes], dim=1)
    expected = theirs(features, indexed, 7, 0.25, sampling_ratio=2, aligned=True)
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_regions_of_half_precision_maps_lie_where_those_of_single_precision_do(monkeypatch, on_gpu):
    """A map of column numbers says where it was sampled; bfloat16 boxes would be off by a fourth of a cell."""
    monkeypatch.setattr(regions, "_on_gpu", lambda _: on_gpu)
    boxes = torch.tensor([[301.3, 101.7, 389.9, 190.3], [517.6, 250.2, 601.1, 333.7]])
    middle = ((boxes[:, 0] + boxes[:, 2]) / 2 / 4 - 0.5).round()
    ramps = torch.arange(160.0).expand(2, 1, 96, 160) - middle.view(2, 1, 1, 1)  # small near the regions
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-3)):
        found = regions.roi_align(ramps.to(dtype), boxes, torch.tensor([0, 1]), cells=7, stride=4)
        assert found.dtype == dtype
        places = (boxes[:, 0] + boxes[:, 2]) / 2 / 4 - 0.5 - middle
        assert torch.allclose(found[:, 0, 3, 3].float(), places, atol=tolerance)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_regions_pass_gradients_to_half_precision_maps(monkeypatch, on_gpu):
    monkeypatch.setattr(regions, "_on_gpu", lambda _: on_gpu)
    features = torch.rand(1, 2, 24, 40, dtype=torch.bfloat16).requires_grad_()
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    regions.roi_align(features, boxes, torch.zeros(1, dtype=torch.int64), cells=3, stride=4).sum().backward()
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.abs().sum() > 0


def test_no_region_gives_an_empty_result():
    found = roi_align(torch.rand(1, 2, 8, 8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), cells=3, stride=1)
    assert found.shape == (0, 2, 3, 3)


def test_one_grouped_correlation_equals_a_loop_over_parts_channels_and_scales():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 3, 5, 5, generator=generator)
    x = torch.randn(8, 3, 9, 9, generator=generator)
    found = correlate(z, x)
    assert found.shape == (8, 3, 5, 5)
    for n in range(8):
        for c in range(3):
            one = torch.nn.functional.conv2d(x[None, n, c : c + 1], z[None, n % 4, c : c + 1])
            assert torch.allclose(found[n, c], one[0, 0], atol=1e-4)


def test_joining_by_products_equals_pasting_every_part():
    generator = torch.Generator().manual_seed(1)
    values, weights = torch.rand(6, 28, 28, generator=generator), torch.rand(6, generator=generator)
    boxes = _boxes(6, generator)
    joined, covered = combine_parts(values, weights, boxes, (41, 53))
    maps, covers = paste(values, boxes, (41, 53))
    total = (covers * weights[:, None, None]).sum(0)
    expected = (maps * weights[:, None, None]).sum(0) / total.clamp_min(1e-12)
    assert torch.allclose(joined, expected, atol=1e-5)
    assert torch.equal(covered, total > 0)


def test_parts_without_weight_and_no_parts_at_all_cover_nothing():
    boxes = torch.tensor([[2.0, 2, 9, 9]])
    joined, covered = combine_parts(torch.ones(1, 4, 4), torch.zeros(1), boxes, (12, 12))
    assert not covered.any()
    assert not combine_parts(torch.zeros(0, 4, 4), torch.zeros(0), torch.zeros(0, 4), (12, 12))[1].any()
    whole = torch.rand(12, 12)
    assert torch.equal(blend_parts(whole, joined, covered, share=0.4), whole)


def test_favos_rule_divides_by_the_maximum():
    mean, both = favos_combination(
        torch.full((1, 4, 4), 0.5), torch.tensor([[0.0, 0, 6, 6]]), torch.zeros(8, 8), ratio=0.25
    )
    assert float(mean.max()) == 1
    assert float(both.max()) == 0.75


def test_a_peak_is_found_between_cells():
    grid = torch.arange(9.0)
    target = torch.tensor([5.3, 2.6])
    distance = (grid[:, None] - target[0]) ** 2 + (grid[None] - target[1]) ** 2
    offset = peak_offset(torch.exp(-distance / 2)[None], window=0.0)
    assert torch.allclose(offset[0], target - 4, atol=0.08)


def test_the_thesis_convention_moves_six_percent_too_far_and_ignores_the_window():
    grid = torch.arange(17.0)
    distance = (grid[:, None] - 14) ** 2 + (grid[None] - 8) ** 2
    maps = torch.exp(-distance / 4)[None].double()
    plain = peak_offset(maps, window=0.0)[0, 0]
    thesis = peak_offset(maps, window=0.0, convention="thesis")[0, 0]
    assert float(plain) == pytest.approx(6, abs=0.05)
    assert float(thesis / plain) == pytest.approx(16.94 / 16, abs=0.015)
    windowed = peak_offset(maps, window=0.176, convention="thesis")[0, 0]
    assert float(windowed) == float(thesis)
    assert float(peak_offset(maps, window=0.9)[0, 0]) < float(plain) - 0.5


def test_a_change_of_scale_needs_more_confidence():
    maps = torch.zeros(3, 2, 9, 9)
    maps[1, :, 4, 4] = 0.80
    maps[2, 0, 4, 4] = 0.81  # not enough after the penalty
    maps[2, 1, 4, 4] = 0.90
    found = locate(maps, SearchParams())
    assert found.scale.tolist() == [1, 2]
    assert found.confidence.tolist() == pytest.approx([0.80, 0.90])


def test_label_weights_of_the_seed_leave_most_positives_out():
    center = torch.tensor([[8, 8]])
    positive = positive_cells(center.float(), size=17, radius=2, norm="l1")
    assert int(positive.sum()) == 13
    assert torch.equal(positive, positive_cells(center.float(), size=17, radius=2))
    balanced = cell_weights(positive)
    assert float(balanced[positive].sum()) == pytest.approx(0.5)
    assert float(balanced[~positive].sum()) == pytest.approx(0.5)
    thesis = cell_weights(positive, kind="thesis", center=center)
    fixed = cell_weights(positive, kind="thesis-fixed", center=center)
    assert int((thesis != fixed).sum()) == 12
