"""Fixtures of the workflow tests."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def checkout(root, tmp_path):
    """A folder with the workflow, parameters and profiles of this repository, and nothing made."""
    for name in ("workflow", "profiles"):
        (tmp_path / name).symlink_to(root / name)
    shutil.copytree(root / "params", tmp_path / "params")
    (tmp_path / "Snakefile").symlink_to(root / "Snakefile")
    return tmp_path
