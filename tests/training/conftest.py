"""Fixtures of the training tests: a working folder with a tiny method and a tiny data set."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_training
from recordings import recordings


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The module `tiny_training`, installed, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    tiny_training.install(monkeypatch)
    return tiny_training


@pytest.fixture(scope="session")
def golden_stm():
    """Arrays computed with the original code of Mask-Propagation."""
    return np.load(recordings() / "stm.npz")
