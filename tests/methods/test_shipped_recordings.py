"""The cropped recordings of the original codes that the repository keeps."""

from __future__ import annotations

import numpy as np
import pytest
from made_masks import shared
from recordings import FIXTURES

SHIPPED = ("stm", "frtm", "mtmfi", "gfrtm", "parts")


@pytest.mark.parametrize("method", SHIPPED)
def test_a_cropped_recording_is_small(method):
    assert (FIXTURES / f"{method}.npz").stat().st_size < 1e6


@pytest.mark.data
def test_cropped_recordings_hold_what_was_recorded():
    whole_folder = shared("golden")
    for method in SHIPPED:
        with np.load(FIXTURES / f"{method}.npz") as cropped, np.load(whole_folder / f"{method}.npz") as whole:
            for name in cropped.files:
                np.testing.assert_array_equal(cropped[name], whole[name], err_msg=f"{method}: {name}")
                assert cropped[name].dtype == whole[name].dtype
