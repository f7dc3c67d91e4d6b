from __future__ import annotations

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.study.params import load_study
from vosrepro.study.plan import load_plan


@pytest.fixture
def study(in_root):
    return load_study("params/studies/mini.yaml")


def test_evaluation_size_frames_and_ground_truth_are_those_of_who_published(in_root):
    plans = [load_plan(f"params/studies/{name}.yaml") for name in ("paper", "released")]
    entries = [e for plan in plans for e in plan.entries]
    youtube = [e for e in entries if e.benchmark.startswith("ytvos1") and "-val" in e.benchmark]
    assert {(e.run.method, e.input_short_side_px) for e in youtube if "jj" not in e.benchmark} == {
        ("stm", 480),
        ("frtm", None),
        ("gfrtm", None),
        ("mtmfi", None),
    }
    merged = {e.run.method for e in entries if e.benchmark == "davis16-val-merged17"}
    own = {e.run.method for e in entries if e.benchmark == "davis16-val"}
    assert merged == {"frtm", "gfrtm", "mtmfi"}
    assert own & merged == set()
    sparse = [e for e in entries if e.benchmark == "ytvos18-val-sparse"]
    assert {e.run.method for e in sparse} == {"gfrtm"}
    assert {e.benchmark_params.frame_source for e in sparse} == {"annotated"}


def test_a_stage_shared_by_recipes_is_trained_once(study):
    plan = load_plan(study)
    folders = [node.folder for node in plan.stages]
    assert len(folders) == len(set(folders))
    s02, s012 = plan.run("stm", "s02", 0), plan.run("stm", "s012", 0)
    assert s02.stages[0].folder == s012.stages[0].folder
    assert s02.stages[-1].folder != s012.stages[-1].folder


def test_each_stage_starts_from_the_one_before(study):
    chain = load_plan(study).run("stm", "s012", 0).stages
    assert [node.stage for node in chain] == ["s0", "s1", "s2"]
    assert chain[0].parent is None
    assert chain[1].parent == chain[0]
    assert chain[2].parent == chain[1]


def test_a_changed_data_seed_changes_every_digest(study):
    other = study.model_copy(update={"data": study.data.model_copy(update={"seed": 7})})
    ours = {n.folder: n.digest for n in load_plan(study).stages}
    theirs = {n.folder: n.digest for n in load_plan(other).stages}
    assert all(ours[folder] != theirs[folder] for folder in ours)


def test_seeds_make_separate_runs_that_share_nothing(study):
    plan = load_plan(study.model_copy(update={"seeds": (0, 1)}))
    zero = {n.digest for n in plan.stages if n.seed == 0}
    one = {n.digest for n in plan.stages if n.seed == 1}
    assert zero
    assert len(zero) == len(one)
    assert not zero & one


def test_an_entry_listed_twice_is_refused(study):
    twice = study.model_copy(update={"entries": (study.entries[0], study.entries[0])})
    with pytest.raises(ConfigError, match="twice"):
        load_plan(twice)


def test_an_unknown_variant_names_the_nearest(study):
    stm = next(e for e in study.entries if e.method == "stm")
    wrong = stm.model_copy(update={"variants": ("top5",)})
    with pytest.raises(ConfigError, match="did you mean 'top50'"):
        load_plan(study.model_copy(update={"entries": (wrong,)}))


def test_every_shipped_study_expands(root, in_root):
    for path in (root / "params/studies").glob("*.yaml"):
        assert load_plan(path).entries, path


def test_a_size_has_its_own_crop_of_single_images_and_videos_have_none(in_root):
    for study, crop in (("mini", 48), ("paper", 224)):
        plan = load_plan(f"params/studies/{study}.yaml")
        run = plan.run("parts", "s0", 0)
        crops = {e.benchmark: e.crop_px for e in plan.entries_of(run)}
        assert crops.pop("imagenet-val") == crop
        assert crops and set(crops.values()) == {None}
        assert {e.benchmark for e in plan.video_entries_of(run)} == set(crops)


def test_no_name_of_generated_data_can_be_taken_for_the_real_benchmark(study, in_root, capsys):
    from vosrepro.cli import main

    plan = load_plan(study)
    for name, benchmark in plan.benchmarks.items():
        assert benchmark.title.startswith(("generated videos in the layout of ", "generated images in the layout of "))
        assert plan.shown_benchmark(name) == f"generated-{name}"
    real = load_plan("params/studies/davis16-cpu.yaml")
    assert {b.title for b in real.benchmarks.values()} == {"DAVIS 2016 val"}
    assert real.shown_benchmark("davis16-val") == "davis16-val"
    assert main(["plan", "params/studies/mini.yaml"]) == 0
    assert "  davis16-val: generated videos in the layout of DAVIS 2016 val" in capsys.readouterr().out
