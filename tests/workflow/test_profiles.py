"""The profiles are read by the real Snakemake, and the command line wins over them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
rule report:
    output: "reports/all.html"
    resources: gpu=2
    shell: "echo {resources.gpu} > {output}"
"""


def dry_run(folder: Path, *words: str) -> str:
    (folder / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", *words, "--", "reports/all.html"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_without_an_option_jobs_run_on_the_cpu(tmp_path: Path) -> None:
    output = dry_run(tmp_path)
    assert "profiles/default" in output
    assert "gpu=0" in output
    assert "echo 0 > reports/all.html" in output


@pytest.mark.slow
def test_the_command_line_wins_over_the_profile(tmp_path: Path) -> None:
    assert "echo 2 > reports/all.html" in dry_run(tmp_path, "--cores", "8", "--resources", "gpu=4")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="the extra 'slurm' is not installed",
)
def test_the_slurm_profile_is_understood(tmp_path: Path) -> None:
    output = dry_run(tmp_path, "--workflow-profile", "profiles/slurm")
    assert "slurm_partition=main" in output
    assert "gpu=2" in output


@pytest.mark.parametrize("name", ["default", "slurm"])
def test_a_changed_comment_in_a_rule_never_retrains(name: str) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    assert profile["rerun-triggers"] == ["mtime", "input", "params"]
    assert profile["rerun-incomplete"] is True
