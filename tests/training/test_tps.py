from __future__ import annotations

import numpy as np
import pytest
import torch
from kornia.geometry import transform
from scipy.interpolate import RBFInterpolator

from vosrepro.training.data import tps


@pytest.mark.parity
@pytest.mark.data
def test_maps_equal_those_of_the_original(golden_stm):
    x, y = tps.warp_maps(golden_stm["tps_src"], golden_stm["tps_dst"], 96, 96)
    np.testing.assert_allclose(x, golden_stm["tps_mapx"], atol=1e-3)
    np.testing.assert_allclose(y, golden_stm["tps_mapy"], atol=1e-3)


@pytest.mark.oracle
def test_maps_equal_scipys_thin_plate_spline():
    source, target = points(0)
    x, y = tps.warp_maps(source, target, 40, 60)
    spline = RBFInterpolator(target, source - target, kernel="thin_plate_spline", degree=1)
    gy, gx = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 60), indexing="ij")
    grid = np.stack([gx.ravel(), gy.ravel()], 1)
    moved = (grid + spline(grid)) * (60, 40)
    np.testing.assert_allclose(x.ravel(), moved[:, 0], atol=1e-3)
    np.testing.assert_allclose(y.ravel(), moved[:, 1], atol=1e-3)


@pytest.mark.oracle
def test_maps_equal_kornias_at_the_control_points():
    """Kornia centers its kernels at the images of the points, so only these are comparable."""
    source, target = points(0)
    target = np.round(target * 100) / 100  # on the pixels of a 101 x 101 grid
    x, y = tps.warp_maps(source, target, 101, 101)
    columns, rows = np.round(target * 100).astype(int).T
    inside = (columns >= 0) & (columns <= 100) & (rows >= 0) & (rows <= 100)
    t = torch.from_numpy
    kernel, affine = transform.get_tps_transform(t(target)[None], t(source)[None])
    moved = transform.warp_points_tps(t(target)[None], t(source)[None], kernel, affine)[0].numpy() * 101
    assert inside.sum() > 8
    at = rows[inside], columns[inside]
    np.testing.assert_allclose(np.stack([x[at], y[at]], 1), moved[inside], atol=1e-2)


def points(seed):
    rng = np.random.default_rng(seed)
    source = rng.random((12, 2))
    return source, source + rng.normal(0, 0.02, source.shape)


def test_control_points_come_from_where_they_were():
    source = np.array([[0.2, 0.3], [0.7, 0.2], [0.5, 0.8], [0.3, 0.6]])
    target = source.copy()
    target[0] += (0.1, 0.0)
    x, y = tps.warp_maps(source, target, 101, 101)
    assert x[30, 30] == pytest.approx(0.2 * 101, abs=0.1)
    assert y[30, 30] == pytest.approx(0.3 * 101, abs=0.1)


def test_random_maps_are_gentle_and_follow_their_generator():
    maps = [tps.random_maps(48, 64, np.random.default_rng(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0][0], maps[1][0])
    assert (maps[0][0] != maps[2][0]).any()
    columns = np.linspace(0, 64, 64)
    assert 0.1 < np.abs(maps[0][0] - columns).mean() < 10


def test_outside_is_black_and_masks_keep_their_values():
    maps = tps.random_maps(48, 48, np.random.default_rng(2))
    moved = maps[0] + 20, maps[1]
    mask = np.full((48, 48), 9, np.uint8)
    warped = tps.warp(mask, moved, smooth=False)
    assert set(np.unique(warped)) == {0, 9}
    image = np.full((48, 48, 3), 200, np.uint8)
    assert tps.warp(image, moved, smooth=True)[:, -1].max() == 0
