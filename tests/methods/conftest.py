"""Fixtures of the method tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recordings import recordings


@pytest.fixture
def golden() -> Path:
    """Folder of recorded upstream outputs."""
    return recordings()


@pytest.fixture
def square_video():
    """float32 (6, 3, 40, 56): a bright square on dark ground, moving right by two pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.rand(3, 40, 56, generator=generator) * 0.3
    patch = 0.6 + 0.4 * torch.rand(3, 14, 14, generator=generator)
    frames = ground.repeat(6, 1, 1, 1)
    for t in range(6):
        frames[t, :, 12:26, 8 + 2 * t : 22 + 2 * t] = patch
    return frames


@pytest.fixture
def square_mask():
    """uint8 (40, 56): the square in the first frame."""
    mask = torch.zeros(40, 56, dtype=torch.uint8)
    mask[12:26, 8:22] = 1
    return mask
