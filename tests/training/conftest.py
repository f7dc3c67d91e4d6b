"""Fixtures of the training tests: a working folder with a tiny method and a tiny data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny_training


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The module `tiny_training`, installed, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    tiny_training.install(monkeypatch)
    return tiny_training


@pytest.fixture(scope="session")
def golden_stm():
    """Arrays computed with the original code of Mask-Propagation."""
    root = Path(os.environ.get("VOSREPRO_SHARED", Path(__file__).parents[3] / "shared"))
    path = root / "golden" / "stm.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent (set VOSREPRO_SHARED)")
    return np.load(path)
