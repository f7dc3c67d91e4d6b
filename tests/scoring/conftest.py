"""Fixtures of the scorer's tests."""

from __future__ import annotations

import numpy as np
import pytest
from made_masks import blobs, write_video


@pytest.fixture
def masks(tmp_path):
    """Folders `gt` and `pred` of two sequences, and their arrays."""
    truth = {"ants": blobs(1, 7), "bees": blobs(2, 5, (50, 70), 3)}
    predictions = {
        name: {frame: np.roll(labels, (1, 2), (0, 1)) for frame, labels in video.items()}
        for name, video in truth.items()
    }
    for name in truth:
        write_video(tmp_path / "gt", name, truth[name])
        write_video(tmp_path / "pred", name, predictions[name])
    return tmp_path, truth, predictions
