from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from vosrepro import workflow
from vosrepro.base.errors import ConfigError
from vosrepro.costs.memory import training_mb
from vosrepro.workflow import Jobs


@pytest.fixture
def config(root):
    return yaml.safe_load((root / "params/studies/mini.yaml").read_text())


@pytest.fixture
def jobs(root, config, tmp_path, monkeypatch):
    (tmp_path / "params").symlink_to(root / "params")
    monkeypatch.chdir(tmp_path)
    return Jobs(config, 8)


def names(**fields):
    return SimpleNamespace(**({"method": "stm", "recipe": "s012", "seed": "0"} | fields))


def test_a_study_file_is_resolved_once_and_left_alone_when_equal(jobs, config):
    before = jobs.file.stat().st_mtime_ns
    assert Jobs(config, 2).file.stat().st_mtime_ns == before
    Jobs(config | {"title": "other"}, 2)
    assert jobs.file.stat().st_mtime_ns != before


def test_a_misspelt_key_in_the_configuration_is_explained(config, in_root):
    with pytest.raises(ConfigError, match="did you mean 'seeds'"):
        Jobs({**config, "seedz": [1]}, 1)


def test_a_stage_depends_on_the_stage_before_it(jobs):
    stages = {n.stage: n for n in jobs.plan.run("stm", "s012", 0).stages}
    assert jobs.stage_inputs(names(recipe=stages["s0"].recipe, stage="s0")) == []
    assert jobs.stage_inputs(names(stage="s2")) == [str(stages["s1"].folder / "run.json")]


def test_changing_a_variant_reruns_inference_but_not_training(jobs, config):
    other = Jobs(config, 8)
    entry = next(e for e in other.plan.entries if e.key.startswith("stm/s012"))
    before = (jobs.train(names(stage="s2")), jobs.infer(names()))
    entry.variant_params["top_k"] = 7  # pyright: ignore[reportIndexIssue]
    assert other.train(names(stage="s2")) == before[0]
    assert other.infer(names()) != before[1]


def test_a_method_without_weights_needs_no_selection(jobs):
    assert jobs.weights(names(method="copy", recipe="none")) == []
    assert jobs.weights(names())[0].endswith("stm/s012/seed0/selected.safetensors")


@pytest.mark.parametrize(("usable", "cores", "expected"), [(2, 8, 4), (2, 2, 1), (8, 8, 1), (16, 8, 1), (3, 8, 3)])
def test_more_cores_than_the_machine_has_never_start_more_jobs_than_cores(jobs, monkeypatch, usable, cores, expected):
    monkeypatch.setattr(workflow, "usable_cores", lambda: usable)
    jobs._cores = cores
    assert jobs.threads(1)(names()) == expected
    assert cores // jobs.threads(1)(names()) <= max(usable, cores if cores <= usable else 0)


def test_on_a_cluster_jobs_ask_for_what_they_use_and_not_for_a_share_of_the_machine_that_submits(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(workflow, "_renew", lambda *_: None)
    monkeypatch.setattr(workflow, "usable_cores", lambda: 2)
    paper = yaml.safe_load((root / "params/studies/paper.yaml").read_text())
    cluster = False
    jobs = Jobs(paper, None, cluster=lambda: cluster)
    of_rule = jobs.threads(1, cluster=4)
    cluster = True  # Snakemake knows only after it has read the rules
    node = next(n for n in jobs.plan.stages if n.params.loader_workers == 12)
    which = names(method=node.method, recipe=node.recipe, stage=node.stage, seed=str(node.seed))
    ranks = paper["gpus_per_training"]
    assert jobs.train_threads(which) == ranks * 13
    assert jobs.real_threads(which, 26) == 26
    assert of_rule(which) == 4
    assert jobs.threads(1)(which) == 1
    # Within a job that was given fewer (--cores of the submitter) more would be refused.
    given = Jobs(paper, None, cluster=lambda: True, allocated="3")
    assert given.train_threads(which) == given.threads(1, cluster=4)(which) == 3
    # Each of so many workers may keep half a GB of decoded frames.
    assert ranks * 12 * 900 < jobs.train_mem_mb(which) < 100_000
    here = Jobs(paper, 64)
    assert here.train_threads(which) == here.threads(1)(which) == 32


def test_mini_asks_for_more_memory_than_two_of_its_ranks_were_measured_to_hold(jobs):
    params = next(n for n in jobs.plan.stages if n.method == "pml").params.model_copy(update={"loader_workers": 2})
    assert 4279 < training_mb(params, 2) < 20_000


def test_checkpoints_are_selected_anew_when_the_default_variant_changes(jobs, config):
    other = Jobs(config, 8)
    run = other.plan.run("stm", "s012", 0)
    run.method_params.variants[run.method_params.default_variant]["top_k"] = 7
    assert other.select(names()) != jobs.select(names())
    assert other.train(names(stage="s2")) == jobs.train(names(stage="s2"))


def test_another_crop_reruns_the_inference_of_images_only(jobs, config):
    other = Jobs(config, 8)
    other.plan.methods["parts"].sizes["mini"].__dict__["crop_px"] = 40
    changed, same = (names(method="parts", recipe=recipe) for recipe in ("s0", "s01"))
    assert other.infer(changed) != jobs.infer(changed)
    assert other.infer(same) == jobs.infer(same)
