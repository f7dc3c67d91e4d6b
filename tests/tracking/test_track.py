from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.commands import track as tracking_command
from vosrepro.tracking.journal import Journal

STUDY = """
study: mini
title: a study
size: mini
data: {root: data}
selection: {sequences: [a]}
entries: []
"""


def run(*words: str) -> int:
    Path("mini.yaml").write_text(STUDY)
    parser = argparse.ArgumentParser()
    tracking_command.add_arguments(parser)
    return tracking_command.run(parser.parse_args(["--study", "mini.yaml", *words]))


@pytest.mark.workflow
def test_complete_writes_the_record_of_the_study(store: SimpleNamespace, begin: Callable[..., Journal]) -> None:
    begin().end()
    assert run() == 0
    assert not Path("results").exists()
    assert run("--complete") == 0
    assert json.loads(Path("results/mini/mlflow.json").read_text())["status"] == "complete"


def test_a_broken_store_is_no_error_of_the_workflow(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://host")
    assert run("--complete", "--out", "out.json") == 0
    assert json.loads(Path("out.json").read_text())["status"] == "broken"


def test_following_nobody_is_refused(workplace: Path) -> None:
    with pytest.raises(ConfigError, match="--parent-pid"):
        run("--follow")


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys; import vosrepro.commands.track, vosrepro.tracking.follower;"
        "print([m for m in ('mlflow', 'pandas', 'torch', 'snakemake') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
