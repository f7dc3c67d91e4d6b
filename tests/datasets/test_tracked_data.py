from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vosrepro.datasets.generated import generate


@pytest.mark.all_data
def test_a_fresh_generation_has_the_hash_that_data_dvc_records(root: Path, tmp_path: Path):
    """After a wanted change: raise REVISION, generate, `dvc commit -f data.dvc`."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    generate(tmp_path / "data/mini", seed=0)
    disk = LocalFileSystem()
    cache = HashFileDB(disk, str(tmp_path / "cache"))
    _, meta, tree = build(cache, str(tmp_path / "data"), disk, "md5", dry_run=True)
    (recorded,) = yaml.safe_load((root / "data.dvc").read_text())["outs"]
    found = {"md5": tree.hash_info.value, "size": meta.size, "nfiles": meta.nfiles}
    assert found == {key: recorded[key] for key in found}
    assert recorded["path"] == "data"
    assert meta.size < 40e6


def test_dvc_sends_nothing_home_and_ignores_leftovers(root: Path):
    import configparser

    config = configparser.ConfigParser()
    config.read(root / ".dvc/config")
    assert config["core"]["analytics"] == config["core"]["check_update"] == "false"
    ignored = (root / ".dvcignore").read_text().split("\n")
    assert {"__pycache__", ".snakemake_timestamp", ".*.partial"} <= set(ignored)
