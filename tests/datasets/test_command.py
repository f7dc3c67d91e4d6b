from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.commands import data as command


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(arguments)))


@pytest.fixture
def study(tmp_path: Path, in_root: Path) -> Path:
    """A study of the floors on generated data, with a root of its own."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        json.dumps(
            {
                "study": "tiny",
                "title": "t",
                "size": "mini",
                "data": {"root": str(tmp_path / "data"), "generated": True},
                "selection": {"sequences": ["train-28"]},
                "entries": [
                    {"method": "copy", "recipes": ["none"], "variants": ["default"], "benchmarks": ["davis16-val"]}
                ],
            }
        )
    )
    return path


@pytest.fixture
def few(small_root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Make `generate` copy the small root and `is_current` expect it; counts generations."""
    from vosrepro.datasets import generated

    made: list[Path] = []
    current = generated.is_current

    def generate_few(root: Path, *, seed: int) -> None:
        made.append(root)
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(small_root, root)

    monkeypatch.setattr(generated, "generate", generate_few)
    monkeypatch.setattr(generated, "is_current", lambda root, *, seed: current(root, seed=seed, limit=1))
    return made


def test_the_manifest_is_made_once_and_data_only_when_needed(study: Path, few: list[Path], tmp_path: Path):
    out = tmp_path / "results/tiny/data.json"
    for _ in range(2):
        assert _run("manifest", "--study", str(study), "--out", str(out)) == 0
    manifest = json.loads(out.read_text())
    assert len(few) == 1
    assert list(manifest["parts"]) == ["davis16-val"]  # only what the study reads
    assert manifest["provenance"]["libraries"]["numpy"]
    before = manifest["digest"]
    (tmp_path / "data/DAVIS/2016/JPEGImages/480p/val-00/00003.jpg").unlink()
    _run("manifest", "--study", str(study), "--out", str(out))
    assert len(few) == 2
    assert json.loads(out.read_text())["digest"] == before


def test_verify_of_a_study_prints_its_parts(
    study: Path, few: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(DataError, match="vosrepro data generate"):
        _run("verify", "--study", str(study))
    _run("manifest", "--study", str(study), "--out", str(tmp_path / "data.json"))
    assert _run("verify", "--study", str(study)) == 0
    assert "davis16-val" in capsys.readouterr().out


def test_verify_takes_a_set_from_anywhere(small_root: Path, tmp_path: Path):
    elsewhere = f"davis2016={small_root / 'DAVIS/2016'}"
    assert _run("verify", "--root", str(tmp_path), "--set", elsewhere, "davis2016") == 0
    with pytest.raises(ConfigError, match="--set davis=x is not NAME=FOLDER"):
        _run("verify", "--root", str(tmp_path), "--set", "davis=x")


def test_generate_says_when_there_is_nothing_to_do(few: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert _run("generate", "--root", str(tmp_path / "mini")) == 0
    assert len(few) == 1
    assert "complete and up to date" in capsys.readouterr().out
    assert _run("verify", "--root", str(tmp_path / "mini"), "static", "davis2017") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]
