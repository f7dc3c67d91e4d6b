"""A small generated root, made once, and the folder of real data that only developers have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from shared import once

from vosrepro.datasets.generated import generate
from vosrepro.study.params import DataParams

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of each kind; read it only."""
    made = once(tmp_path_factory, "small", lambda folder: generate(folder / "mini", seed=0, limit=1, processes=1))
    return made / "mini"


@pytest.fixture
def small(small_root: Path) -> DataParams:
    return DataParams(root=str(small_root))


@pytest.fixture
def broken(small_root: Path, tmp_path: Path) -> DataParams:
    """A copy that a test may damage."""
    shutil.copytree(small_root, tmp_path / "root")
    return DataParams(root=str(tmp_path / "root"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real data for development, or a skip."""
    shared = Path(os.environ.get("VOSREPRO_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data in {shared}: set VOSREPRO_SHARED to a folder that has them")
    return shared / "data"
