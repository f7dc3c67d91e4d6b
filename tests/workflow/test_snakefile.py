"""The real Snakefile: dry runs of all studies, and the whole chain on a toy data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from real_snakemake import snakemake
from toy_study import make_davis17

from vosrepro.workflow import Jobs

pytestmark = pytest.mark.workflow
ROOT = Path(__file__).resolve().parents[2]


def toy(checkout: Path, **changes: object) -> str:
    make_davis17(checkout / "toydata")
    make_davis17(checkout / "toydata", split="train")
    entry = {"recipes": ["none"], "variants": ["default"], "benchmarks": ["davis17-val"]}
    study = {
        "study": "toy",
        "title": "toy",
        "size": "mini",
        "data": {"root": "toydata"},
        "selection": {"set": "davis17-train", "sequences": ["train-00"]},
        "entries": [{"method": "copy", **entry}, {"method": "flow", **entry}],
        **changes,
    }
    path = checkout / "params/studies/toy.yaml"
    path.write_text(yaml.safe_dump(study))
    return str(path.relative_to(checkout))


@pytest.mark.slow
def test_the_default_study_is_mini_and_its_default_target_the_report(checkout):
    output = snakemake(checkout, "-n", "--cores", "8", "--resources", "gpu=4", "reports/all.html")
    assert "results/mini/stm/s012/seed0/s2/run.json" in output
    assert "\nreport " in output
    assert "reports/all.html" in output


@pytest.mark.parametrize("study", sorted(p.stem for p in (ROOT / "params/studies").glob("*.yaml")))
def test_every_study_has_a_complete_plan(checkout, monkeypatch, study):
    """The inputs that a dry run asks for, without the ten seconds that it takes; mini itself is run dry above."""
    monkeypatch.chdir(checkout)
    jobs = Jobs(yaml.safe_load((ROOT / f"params/studies/{study}.yaml").read_text()), 2)
    for node in jobs.plan.stages:
        stage = SimpleNamespace(method=node.method, recipe=node.recipe, seed=str(node.seed), stage=node.stage)
        assert jobs.train(stage)
        assert jobs.stage_inputs(stage) == ([str(node.parent.folder / "run.json")] if node.parent else [])
    for run in jobs.plan.runs:
        names = SimpleNamespace(method=run.method, recipe=run.recipe, seed=str(run.seed))
        trained = [str(node.folder / "run.json") for node in run.stages]
        assert set(trained[-1:]) <= set(jobs.run_inputs(names))
        assert (jobs.weights(names) == []) is (run.params.weights in ("none", "masks"))
    assert len(jobs.runs()) == len(set(jobs.runs())) >= len(jobs.plan.runs)


@pytest.mark.slow
def test_a_misspelt_key_stops_the_workflow_with_one_sentence(checkout):
    study = toy(checkout, seedz=[1])
    output = snakemake(checkout, "-n", "--configfile", study, "--cores", "1", expect=1)
    assert "params/studies/toy.yaml: unknown key 'seedz': did you mean 'seeds'?" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_value_can_be_overridden_on_the_command_line(checkout):
    study = toy(checkout)
    output = snakemake(checkout, "-n", "--configfile", study, "--config", "seeds=[3]", "--cores", "1")
    assert "results/toy/copy/none/seed3" in output
    assert "seed0" not in output


@pytest.mark.slow
def test_the_whole_chain_runs_a_second_run_does_nothing_and_changes_rerun_what_they_touch(checkout):
    study = ["--configfile", toy(checkout), "--cores", "2", "--"]
    snakemake(checkout, *study, "reports/all.html")
    scores = json.loads((checkout / "results/toy/copy/none/seed0/scores.json").read_text())
    assert 0.3 < scores["entries"]["copy/none/seed0/default/davis17-val"]["J-Mean"] < 0.9
    assert "copy" in (checkout / "reports/all.html").read_text()
    assert "Nothing to be done" in snakemake(checkout, *study, "reports/all.html")
    more = toy(checkout, title="another title")
    output = snakemake(checkout, "-n", "--configfile", more, "--cores", "2", "--", "reports/all.html")
    assert "rule report" in output
    assert "rule infer" not in output


@pytest.mark.slow
def test_missing_data_is_one_sentence_that_says_where(checkout):
    study = toy(checkout)
    shutil.rmtree(checkout / "toydata/DAVIS/2017/trainval/Annotations")
    output = snakemake(checkout, "--configfile", study, "--cores", "1", expect=1)
    assert "Annotations" in output
    assert "Traceback" not in output
