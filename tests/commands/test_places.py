"""Commands, rules, records and the environment do not depend on where they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vosrepro.base.labels import write_labels
from vosrepro.base.provenance import git_state
from vosrepro.cli import main
from vosrepro.study.params import load_method, load_study, shipped

SOURCE = Path(git_state.__wrapped__.__code__.co_filename).parents[1]


@pytest.mark.parametrize("place", ["elsewhere", "with blanks; and 'quotes'"])
def test_a_clip_is_segmented_from_any_folder(place, tmp_path, monkeypatch):
    (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path / place)
    for frame in range(2):
        (Path("clip")).mkdir(exist_ok=True)
        cv2.imwrite(f"clip/{frame}.png", np.zeros((24, 32, 3), np.uint8))
    write_labels("first.png", np.eye(24, 32, dtype=np.uint8))
    assert main(["segment", "clip", "first.png", "--method", "copy", "--device", "cpu"]) == 0
    assert Path("clip-copy-masks/1.png").is_file()


@pytest.mark.parametrize("more", [[], ["--published"]])
def test_a_plan_is_listed_from_any_folder(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "params/studies/paper.yaml", "--method", "pml", *more]) == 0
    shown = capsys.readouterr().out
    assert ("davis16-train" in shown) if more else ("pml" in shown)
    assert list(tmp_path.iterdir()) == []


def test_parameters_of_the_working_folder_come_first(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    assert load_study("params/studies/mini.yaml").study == "mini"
    assert load_method("stm").sizes
    assert shipped("params/methods") == root / "params/methods"
    (tmp_path / "params/methods").mkdir(parents=True)
    assert shipped("params/methods") == Path("params/methods")
    assert shipped("params/studies") == Path("params/studies")  # never a mixture of two


def test_the_recorded_commit_is_that_of_the_package_whatever_git_is_told(tmp_path, monkeypatch, root):
    shown = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert git_state.__wrapped__()["commit"] == (shown or None)


def test_a_package_inside_of_another_repository_has_no_commit(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    place = tmp_path / "lib/site-packages/vosrepro"
    shutil.copytree(SOURCE / "base", place / "base")
    shutil.copy(SOURCE / "__init__.py", place)
    code = "from vosrepro.base import provenance as p; print(p.__file__, p.git_state())"
    environment = {**os.environ, "PYTHONPATH": str(place.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{place / 'base/provenance.py'} {{'commit': None, 'dirty': None}}"


def test_rules_quote_the_paths_that_people_choose(root):
    texts = {path.name: path.read_text() for path in (root / "workflow").rglob("*.smk")}
    chosen = [
        field for text in texts.values() for field in re.findall(r"\{(?:params|input)\.(?:root|file)[^}]*\}", text)
    ]
    assert chosen
    assert [field for field in chosen if not field.endswith(":q}")] == []


def test_make_renews_the_environment_of_a_checkout_that_was_moved(root, tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".tools/bin").mkdir(parents=True)
    (tmp_path / ".tools/bin/uv").touch()
    for place, renewed in ((tmp_path, False), (Path("/somewhere/else"), True)):
        (tmp_path / ".venv/bin/activate").write_text(f"VIRTUAL_ENV='{place}/.venv'\n")
        (tmp_path / ".venv/.ready").touch()
        done = subprocess.run(["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ("rm -rf .venv" in done.stdout) is renewed
        assert ("uv pip sync" in done.stdout) is renewed
