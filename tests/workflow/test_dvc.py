"""dvc.yaml with the real DVC and Snakemake, on a workflow that makes the same files in no time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())

SNAKEFILE = """
import pathlib
import yaml
CODE = pathlib.Path("results/mini/code.json")  # renewed whenever the Snakefile is read
CODE.parent.mkdir(parents=True, exist_ok=True)
CODE.write_text(pathlib.Path("code-digests").read_text() if pathlib.Path("code-digests").exists() else "{}")
STEPS = yaml.safe_load(open("params/methods/stm.yaml"))["sizes"]["mini"]["stages"]["s0"]["steps"]

rule all:
    input: "reports/all.html"

rule data:
    output: "results/mini/data.json"
    shell: "mkdir -p data/mini; echo frames > data/mini/a.txt; echo data > {output}"

rule prepare:
    output: "results/sets/{set}.csv"
    shell: "mkdir -p results/sets; cat archives/{wildcards.set} > {output}"

rule report:
    input: "results/mini/data.json"
    output: "reports/all.html", "results/mini/metrics.json"
    params: steps=STEPS
    shell:
        "echo '{{\\"stm\\": {{\\"J\\": {params.steps}}}}}' > results/mini/metrics.json;"
        "mkdir -p results/mini/plots; cd results/mini/plots;"
        "printf 'run,step,loss,iou\\\\na,1,0.5,0.5\\\\na,2,0.4,0.6\\\\n' > training.csv;"
        "printf 'run,step,J&F-Mean,selected,last\\\\na,1,50,1,1\\\\n' > selection.csv;"
        "printf 'method,recipe,variant,benchmark,metric,ours,published,verdict\\\\n' > scores.csv;"
        "printf 'stm,s0,full,davis16-val,J&F-Mean,50,,\\\\n' >> scores.csv;"
        "cd ../../..; echo page > reports/all.html; echo ran >> results/runs.log"
"""


#: Stages by name; those of a loop without their names in it.
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


def paths(stage: dict[str, Any], key: str) -> dict[str, dict[str, Any]]:
    items = [item if isinstance(item, dict) else {item: {}} for item in stage.get(key, [])]
    return {path: settings or {} for item in items for path, settings in item.items()}


def test_no_stage_names_the_data_folder_and_every_output_persists() -> None:
    for stage in STAGES.values():
        outputs = paths(stage, "outs") | paths(stage, "metrics")
        assert all(settings.get("persist") for settings in outputs.values())
        named = {*outputs, *stage.get("deps", [])}
        assert not any(path == "data" or path.startswith("data/") for path in named)


def test_every_stage_calls_snakemake_and_every_source_exists() -> None:
    for stage in STAGES.values():
        command = stage["cmd"] if isinstance(stage["cmd"], str) else stage["cmd"][0]
        assert command.startswith("snakemake ")
        sources = [path for path in stage.get("deps", []) if not path.startswith("results/")]
        assert [path for path in sources if not (ROOT / path).exists()] == []


def test_a_changed_parameter_of_any_method_is_seen() -> None:
    study = yaml.safe_load((ROOT / "params/studies/mini.yaml").read_text())
    wanted = {f"params/methods/{entry['method']}.yaml" for entry in study["entries"]}
    listed = {path for item in PIPELINE["stages"]["mini"]["params"] for path in item}
    assert listed == wanted | {"params/studies/mini.yaml"}


def test_plots_read_what_the_study_makes_with_templates_that_exist() -> None:
    folder = next(p for p in paths(PIPELINE["stages"]["mini"], "outs") if p.endswith("plots"))
    for item in PIPELINE["plots"]:
        ((_, plot),) = item.items()
        template = json.loads((ROOT / ".dvc/plots" / f"{plot['template']}.json").read_text())
        assert template["data"] == {"values": "<DVC_METRIC_DATA>"}
        assert all(path.startswith(f"{folder}/") for path in plot["y"])


def call(folder: Path, *command: str) -> str:
    tools = Path(sys.executable).parent
    settings = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=170,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A committed copy of the parts of this repository that DVC looks at."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in (".dvc/plots", "params", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for name in ("workflow/rules/a.smk", "src/vosrepro/datasets/a.py", "reports/.gitkeep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# nothing\n")
    (tmp_path / "data/mini").mkdir(parents=True)
    (tmp_path / "data/mini/a.txt").write_text("frames\n")
    call(tmp_path, "git", "init", "--quiet")
    for name, value in (("user.email", "a@example.org"), ("user.name", "a")):
        call(tmp_path, "git", "config", name, value)
    call(tmp_path, "dvc", "add", "--quiet", "data")
    shutil.rmtree(tmp_path / "data")  # a fresh clone has neither the data nor a cache
    shutil.rmtree(tmp_path / ".dvc/cache")
    call(tmp_path, "git", "add", "--all")
    call(tmp_path, "git", "commit", "--quiet", "--message", "one")
    return tmp_path


@pytest.mark.slow
def test_reproducing_is_recorded_and_a_changed_parameter_shows_in_the_metrics(clone: Path) -> None:
    call(clone, "dvc", "repro")
    assert (clone / "data/mini/a.txt").read_text() == "frames\n"
    assert json.loads(call(clone, "dvc", "status", "--json")) == {}
    call(clone, "git", "commit", "--all", "--quiet", "--message", "two")
    assert call(clone, "git", "status", "--porcelain") == ""

    assert "didn't change, skipping" in call(clone, "dvc", "repro")
    assert (clone / "results/runs.log").read_text() == "ran\n"

    change = "params/methods/stm.yaml:sizes.mini.stages.s0.steps=120"
    call(clone, "dvc", "exp", "run", "--set-param", change)
    assert (clone / "results/runs.log").read_text() == "ran\nran\n"
    difference = json.loads(call(clone, "dvc", "metrics", "diff", "--json"))
    assert difference["results/mini/metrics.json"]["stm.J"]["new"] == 120
    assert difference["results/mini/metrics.json"]["stm.J"]["old"] != 120

    plots = json.loads(call(clone, "dvc", "plots", "diff", "HEAD", "--json"))
    assert set(plots["data"]) == {name for item in PIPELINE["plots"] for name in item}
    assert all(entry for entry in plots["data"].values())


@pytest.mark.slow
def test_real_sets_that_are_named_are_recorded_by_their_listing(clone: Path) -> None:
    listing = clone / "archives/davis2017"
    listing.parent.mkdir()
    listing.write_text("part,folder\n")
    (clone / "params/real_sets.yaml").write_text("sets: [davis2017]\n")
    call(clone, "dvc", "repro", "set@davis2017")
    assert json.loads(call(clone, "dvc", "status", "set@davis2017", "--json")) == {}
    recorded = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]["set@davis2017"]["outs"]
    assert [(out["path"], out["size"]) for out in recorded] == [("results/sets/davis2017.csv", 12)]
    call(clone, "git", "add", "--all")
    call(clone, "git", "commit", "--quiet", "--message", "two")
    listing.write_text("part,folder\nmore,more\n")  # the data changed
    call(clone, "dvc", "repro", "--force", "--single-item", "set@davis2017")
    assert "results/sets/davis2017.csv" in call(clone, "dvc", "diff")
