from __future__ import annotations

import numpy as np
import pytest
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.lab.pml import scipy_solver
from vosrepro.methods.pml.bilateral import BilateralGrid, bilateral_filter, solve
from vosrepro.methods.pml.guided import guided_filter
from vosrepro.methods.pml.refine import SEED_CONFIDENCE, Refinement


def scene(height=40, width=56):
    """Two flat colors with a vertical edge at column 30, and a mask whose edge is 3 pixels off."""
    generator = torch.Generator().manual_seed(0)
    guide = torch.full((height, width, 3), 60.0)
    guide[:, 30:] = torch.tensor([200.0, 120.0, 80.0])
    guide += 2 * torch.rand(height, width, 3, generator=generator)
    mask = torch.zeros(1, height, width)
    mask[:, :, 27:] = 1
    truth = torch.zeros(height, width, dtype=torch.bool)
    truth[:, 30:] = True
    return guide, mask, truth


def dense_solution(guide, target, confidence, smoothness):
    """The linear system of Barron & Poole with dense matrices, solved directly."""
    height, width = target.shape
    red, green, blue = guide.double().reshape(-1, 3).T
    y, x = (v.reshape(-1) for v in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    bins = torch.stack(
        [
            x // 8,
            y // 8,
            torch.floor((0.299 * red + 0.587 * green + 0.114 * blue) / 4).long(),
            torch.floor((128 - 0.168736 * red - 0.331264 * green + 0.5 * blue) / 4).long(),
            torch.floor((128 + 0.5 * red - 0.418688 * green - 0.081312 * blue) / 4).long(),
        ],
        dim=1,
    )
    vertices, vertex = torch.unique(bins, dim=0, return_inverse=True)
    count = len(vertices)
    splat = torch.zeros(count, len(vertex), dtype=torch.float64)
    splat[vertex, torch.arange(len(vertex))] = 1
    near = (vertices[:, None] - vertices[None]).abs().sum(2) == 1
    blur = near.double() + 10 * torch.eye(count, dtype=torch.float64)
    mass, n = splat.sum(1), torch.ones(count, dtype=torch.float64)
    for _ in range(10):
        n = (n * mass / (blur @ n)).sqrt()
    smooth = torch.diag(n * (blur @ n)) - n[:, None] * blur * n[None]
    system = smoothness * smooth + torch.diag(splat.sum(1) * confidence)
    right = splat @ (target.double().flatten() * confidence)
    return (splat.T @ torch.linalg.solve(system, right)).reshape(height, width), count


def test_the_solver_converges_to_the_direct_solution_of_the_dense_system():
    guide, mask, _ = scene(24, 40)
    expected, count = dense_solution(guide, mask[0], 1.0, 16.0)
    grid = BilateralGrid(guide)
    found = solve(grid, mask, 1.0, smoothness=16.0, tolerance=1e-12, max_iterations=500)
    assert grid.vertices == count
    assert torch.allclose(found.values[0], expected, atol=1e-9)
    assert found.iterations < 500


def test_a_constant_target_is_reproduced_exactly():
    guide, _, _ = scene()
    values = solve(BilateralGrid(guide), torch.full((1, 40, 56), 0.37), 1.0).values
    assert torch.allclose(values, torch.full_like(values, 0.37), atol=1e-7)
    assert float(values.double().std()) < 1e-9


def test_targets_are_solved_as_if_alone_and_an_empty_one_stays_empty():
    guide, mask, _ = scene()
    grid = BilateralGrid(guide)
    both = solve(grid, torch.cat([mask, torch.zeros_like(mask), 1 - mask]), 1.0).values
    assert torch.equal(both[0], solve(grid, mask, 1.0).values[0])
    assert float(both[1].abs().max()) == 0


def test_a_confidence_map_moves_the_solution_to_the_trusted_pixels():
    guide, mask, _ = scene()
    trust = torch.ones(40, 56)
    trust[:, 27:30] = 1e-3  # the wrong columns
    grid = BilateralGrid(guide)
    doubted = solve(grid, mask, trust).values[0, :, 27:30].mean()
    assert float(doubted) < float(solve(grid, mask, 1.0).values[0, :, 27:30].mean())


@pytest.mark.parametrize("kind", ["solver", "guided"])
def test_refinement_moves_the_boundary_to_the_edge_of_the_image(kind):
    guide, mask, truth = scene()
    frame = guide.permute(2, 0, 1) / 255
    soft = torch.nn.functional.avg_pool2d(mask, (1, 15), 1, (0, 7), count_include_pad=False)
    wrong = ((soft[0] > 0.5) != truth).sum()
    found = Refinement(kind=kind).apply(frame, soft).argmax(0).bool()
    assert int((found != truth).sum()) < 0.5 * int(wrong)


def test_the_filter_is_the_normalized_blur():
    guide, mask, _ = scene()
    grid = BilateralGrid(guide)
    ones = bilateral_filter(grid, torch.ones(1, 40, 56))
    assert torch.allclose(ones, torch.ones_like(ones))
    values = bilateral_filter(grid, mask)
    assert 0 <= float(values.min()) <= float(values.max()) <= 1


def test_grey_pixels_share_their_chroma_bin():
    """128 is a bin edge: rounding must not scatter grey levels over two bins."""
    grey = torch.arange(256).repeat(8, 1)[..., None].expand(-1, -1, 3)
    grid = BilateralGrid(grey, spatial_px=1000.0, luma=1000.0, chroma=4.0)
    assert grid.vertices == 1


def test_colors_on_a_bin_edge_belong_to_the_upper_bin():
    """A grey of 4 k has a luma of exactly 4 k, whatever 0.299 + 0.587 + 0.114 rounds to."""
    grey = torch.arange(0, 256, 4)[None, :, None].expand(1, -1, 3)
    edges = BilateralGrid(torch.cat([grey, grey + 3]), spatial_px=1000.0, luma=4.0, chroma=1000.0)
    assert edges.vertices == 64
    assert torch.equal(edges.vertex[:64], edges.vertex[64:])


def test_the_solver_equals_the_form_with_sparse_matrices():
    guide = torch.randint(0, 256, (5, 7, 3), generator=torch.Generator().manual_seed(0)).float()
    smooth = torch.nn.functional.interpolate(guide.permute(2, 0, 1)[None], (40, 56), mode="bilinear")
    guide = smooth[0].permute(1, 2, 0).to(torch.uint8)
    _, mask, _ = scene()
    expected = torch.from_numpy(scipy_solver(guide.numpy(), mask[0].double().numpy()))
    grid = BilateralGrid(guide)
    assert grid.vertices > 100
    assert torch.allclose(solve(grid, mask, 1.0).values[0], expected, rtol=0, atol=1e-10)


def test_the_guided_filter_equals_its_definition_window_by_window():
    generator = torch.Generator().manual_seed(0)
    guide = torch.rand(3, 7, 9, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 7, 9, generator=generator, dtype=torch.float64)
    found = guided_filter(guide, target, radius_px=2, edge=0.1)
    slope, offset = np.zeros((2, 3, 7, 9)), np.zeros((2, 7, 9))
    image, value = guide.numpy(), target.numpy()
    for y in range(7):
        for x in range(9):
            window = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            colors = image[(slice(None), *window)].reshape(3, -1)
            matrix = np.cov(colors, bias=True) + 0.01 * np.eye(3)
            for t in range(2):
                values = value[t][window].ravel()
                joint = ((colors - colors.mean(1, keepdims=True)) * (values - values.mean())).mean(1)
                slope[t, :, y, x] = np.linalg.solve(matrix, joint)
                offset[t, y, x] = values.mean() - slope[t, :, y, x] @ colors.mean(1)
    for y, x in ((0, 0), (3, 4), (6, 8)):
        window = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        for t in range(2):
            mean = slope[t][(slice(None), *window)].reshape(3, -1).mean(1)
            expected = mean @ image[:, y, x] + offset[t][window].mean()
            assert float(found[t, y, x]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_one_object_wins_exactly_above_the_threshold(threshold):
    maps = torch.linspace(0, 1, 101).view(1, 1, -1)
    probs = Refinement(threshold=threshold).apply(torch.zeros(3, 1, 101), maps)
    assert torch.equal(probs.argmax(0).bool(), maps[0] > threshold)
    assert torch.allclose(probs.sum(0), torch.ones(1, 101))


def test_dividing_by_the_maximum_loses_the_level_as_in_the_seed():
    weak = torch.zeros(1, 40, 56)
    weak[:, 10:20, 10:20] = 0.05
    frame = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    assert int(Refinement().apply(frame, weak).argmax(0).sum()) == 0
    assert int(Refinement(rescale_by_max=True).apply(frame, weak).argmax(0).sum()) == 100
    empty = Refinement(kind="solver", rescale_by_max=True, confidence=SEED_CONFIDENCE, threshold=0.3)
    probs = empty.apply(frame, torch.zeros(1, 40, 56))
    assert int(probs.argmax(0).sum()) == 0
    assert torch.isfinite(probs).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="no post-processing 'crf'"):
        Refinement(kind="crf")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="threshold 1.0 must lie"):
        Refinement(threshold=1.0)
