"""Recorded outputs of the original codes: whole beside the repository, the most telling arrays in tests/fixtures."""

from __future__ import annotations

from pathlib import Path

from made_masks import shared_path

FIXTURES = Path(__file__).parents[1] / "fixtures"


def recordings() -> Path:
    """The folder with stm.npz, frtm.npz, ...: everybody has at least the cropped ones."""
    whole = shared_path("golden")
    return whole if whole.is_dir() else FIXTURES
