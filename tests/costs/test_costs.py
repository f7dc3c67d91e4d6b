"""What a study costs: from measured rates, from counted work where that is asked for, and from nothing else."""

from __future__ import annotations

import json

import pytest
from fabricated import stage_record

from vosrepro.cli import main
from vosrepro.costs.jobs import MASK_BYTES, job_costs, training_bytes
from vosrepro.costs.rates import Rate, Work, frame_identity, sample_identity
from vosrepro.costs.times import Extent, Known
from vosrepro.study.params import OptimizerParams, load_study
from vosrepro.study.plan import load_plan
from vosrepro.study.records import Hardware, Provenance

H200, OTHER = Rate(100.0, "one H200", 2), Rate(2.0, "a laptop", 0)


@pytest.fixture(scope="module")
def paper(root):
    study = load_study(root / "params/studies/paper.yaml")
    return load_plan(study, root=root / "params")


@pytest.fixture
def plan(paper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no results here
    return paper


def _stage(plan, stage):
    return next(n for n in plan.stages if n.method == "stm" and n.stage == stage)


def _identity(node):
    return sample_identity(node.method, node.model, node.params)


def _job(plan, name, **known):
    return next(job for job in job_costs(plan, Known(**known)) if job.name == name)


def test_time_device_hours_and_disk_follow_from_samples_per_second(plan):
    node = _stage(plan, "s0")
    rates = {("train", _identity(node)): [H200]}
    cost = _job(plan, "stm/s0/seed0/s0", rates=rates, weight_bytes={node.digest: 10})
    assert cost.time.seconds == 300_000 * 14 / 100
    assert cost.device_hours == pytest.approx(2 * 42_000 / 3600)
    assert cost.time.basis == "measured on one H200"
    assert cost.disk_bytes == 10 * (6 + 3)  # checkpoints, and the state's three copies


def test_a_stage_of_equal_work_shares_the_rate_but_not_the_steps(plan):
    one, two = _stage(plan, "s1"), _stage(plan, "s2-long")
    assert _identity(one) == _identity(two) != _identity(_stage(plan, "s0"))
    rates = {("train", _identity(one)): [H200]}
    cost = _job(plan, "stm/s02/seed0/s2-long", rates=rates)
    assert cost.time.seconds == 300_000 * 8 / 100


def test_nothing_is_guessed(plan):
    for cost in job_costs(plan, Known()):
        if cost.kind in ("train", "infer"):
            assert (cost.time.seconds, cost.device_hours) == (None, None), cost.name
            assert not cost.complete


def test_the_wanted_machine_then_an_estimate_then_another_machine(plan):
    key = ("train", _identity(_stage(plan, "s0")))
    rates, work = {key: [OTHER, H200]}, {key: [Work(1000.0)]}
    name, samples = "stm/s0/seed0/s0", 300_000 * 14

    def time(**known):
        return _job(plan, name, rates=rates, work=work, gpus=4, **known).time

    assert time(machine="H200").basis == "measured on one H200"
    assert time(machine="H200", tflops=50.0).seconds == samples / 100
    estimate = time(tflops=50.0)
    assert estimate.basis == "estimate at 50 TFLOP/s per device, not measured"
    assert "--sustained" in _job(plan, name, work=work).time.basis
    assert estimate.devices == 2  # of one training, though there are four
    assert estimate.seconds == pytest.approx(samples * 1000 / 50_000 / 2)
    assert time(machine="A100", tflops=50.0).basis.startswith("estimate at")
    assert time(machine="A100").basis == "measured on a laptop, not on A100"
    assert time().basis == "measured on a laptop"
    assert _job(plan, name, rates=rates, tflops=50.0).time.basis == "measured on a laptop, another machine"


def test_a_stage_trained_here_with_these_parameters_counts_first(plan):
    node = _stage(plan, "s0")
    machine = Provenance(hardware=Hardware(gpu="A100", cores=8, cpu="x"))
    record = stage_record(node, samples_per_second=7.0, world_size=4, device="cuda", provenance=machine)
    record.write(node.record)
    known = {"rates": {("train", _identity(node)): [H200]}}
    assert _job(plan, "stm/s0/seed0/s0", **known).time.basis == "measured on A100"
    assert _job(plan, "stm/s0/seed0/s0", machine="H200", **known).time.basis.endswith("H200")
    record.model_copy(update={"digest": "changed"}).write(node.record)
    assert _job(plan, "stm/s0/seed0/s0", **known).time.basis == "measured on one H200"


def test_inference_selection_scoring_and_masks_follow_from_frames(plan):
    run = plan.run("stm", "s012", 0)
    frame = frame_identity("stm", "full", run.model, run.default_variant_params)
    work = {("init", frame): [Work(300.0, 1), Work(500.0, 2)], ("infer", frame): [Work(500.0, 1), Work(700.0, 2)]}
    extents = {
        "davis16-val": Extent(20, 1376, 20, "x"),
        "davis17-val": Extent(30, 1020, 60, "x"),
        "selection": Extent(8, 608, 8, "x"),
    }
    rates = {("score", "davis2016"): [Rate(100.0, "a laptop", 0, 1)]}
    known = {"rates": rates, "work": work, "extents": extents, "tflops": 10.0}
    infer = _job(plan, "stm/s012/seed0/infer", **known)
    costs = {(e.entry.variant, e.entry.benchmark): e for e in infer.entries}
    one = costs["top50", "davis16-val"]
    assert one.infer.seconds == pytest.approx((20 * 300 + 1356 * 500) / 10_000)
    assert one.score.seconds == pytest.approx(13.76)
    assert one.disk_bytes == 1376 * MASK_BYTES
    two = costs["top50", "davis17-val"]
    assert two.infer.seconds == pytest.approx((30 * 500 + 990 * 700) / 10_000)  # two objects each
    assert two.score.seconds is None
    assert costs["full", "davis16-val"].infer.basis.endswith("as variant top50")
    alone = {**known, "work": {key: rows[:1] for key, rows in work.items()}}
    entries = _job(plan, "stm/s012/seed0/infer", **alone).entries
    two = next(e for e in entries if e.entry.benchmark == "davis17-val")
    assert two.infer.basis.endswith("not measured, for 1 object instead of 2.0")
    unknown = costs["top50", "davis17-testdev"]
    assert unknown.infer == (None, 1, "frames of davis17-testdev not known")
    assert unknown.frame.seconds == pytest.approx(0.05)
    assert not infer.complete
    assert infer.disk_bytes == 2 * (1376 + 1020) * MASK_BYTES
    assert _job(plan, "stm/s012/seed0/select", **known).time.seconds == 0.0  # takes the last checkpoint
    selection = _job(plan, "stm/s012-heldout/seed0/select", **known)
    assert selection.time.seconds == pytest.approx(3 * (8 * 300 + 600 * 500) / 10_000)
    assert selection.after == ("stm/s012-heldout/seed0/s2",)
    assert infer.after == ("stm/s012/seed0/select",)


@pytest.mark.parametrize(
    ("name", "change", "copies"),
    [("adam", {}, 3), ("adam", {"amsgrad": True}, 4), ("sgd", {}, 2), ("adamw", {}, 3)],
)
def test_a_resume_state_holds_weights_moments_and_average(plan, name, change, copies):
    params = _stage(plan, "s0").params
    params = params.model_copy(update={"optimizer": OptimizerParams(name=name, lr=1, **change)})
    assert training_bytes(params, 10) == (10 * (6 + copies), 10 * (6 + 2 * copies))
    assert training_bytes(params, 10, done=250_000) == (10 * (1 + copies), 10 * (1 + 2 * copies))
    averaged = params.model_copy(update={"average_decay": 0.9})
    assert training_bytes(averaged, 10)[0] == 10 * (6 + copies + 1)


def test_the_command_says_what_was_not_measured_and_takes_a_part(in_root, tmp_path, capsys):
    empty = tmp_path / "rates.csv"
    empty.write_text((in_root / "params/throughput.csv").read_text().splitlines()[0] + "\n")
    part = ["params/studies/paper.yaml", "--method", "gfrtm", "--recipe", "rn18"]
    assert main(["plan", *part, "--throughput", str(empty)]) == 0
    shown = capsys.readouterr().out
    assert "gfrtm/rn18/seed0/gate-rn18" in shown
    assert "stm/" not in shown
    assert "not measured" in shown
    assert "estimate at" not in shown
    assert "frames of davis17-val not known" in shown
    assert "--sustained TFLOPS estimates it" in shown
    main(["plan", "params/studies/mini.yaml", "--method", "copy", "--frames", "davis16-val=9/3/3"])
    assert "davis16-val: 9 frames of 3 videos" in capsys.readouterr().out
    main(["plan", "params/studies/mini.yaml", "--method", "copy"])
    assert "1376" not in capsys.readouterr().out  # of the official set, not of the generated one
    main(["plan", "params/studies/released.yaml", "--method", "stm"])
    assert "weights/stm/released.pth: propagation_model.pth" in capsys.readouterr().out


def test_an_estimate_is_labeled_and_machine_readable(in_root, capsys):
    part = ["plan", "params/studies/paper.yaml", "--method", "stm", "--recipe", "s012"]
    options = ["--sustained", "40", "--gpus", "4", "--frames", "davis17-val=2000"]
    assert main([*part, *options]) == 0
    shown = capsys.readouterr().out
    assert "a  estimate at 40 TFLOP/s per device, not measured" in shown
    assert "estimates take one rate for everything" in shown
    assert "longest chain: " in shown
    assert "davis17-val: 2000 frames of 30 videos, 61 objects (--frames)" in shown
    assert main([*part, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jobs = {job["name"]: job for job in found["jobs"]}
    assert jobs["stm/s012/seed0/s2"]["after"] == ["stm/s01/seed0/s1"]
    seconds = [jobs[name]["seconds"] for name in found["longest_chain"]["jobs"]]
    assert found["longest_chain"]["seconds"] == pytest.approx(sum(s or 0 for s in seconds))
    assert found["sums"]["by_kind"]["train"]["unknown"] == 0
    train = found["sums"]["by_kind"]["train"]["device_hours"]
    hours = [j["device_hours"] for j in found["jobs"] if j["kind"] == "train"]
    assert train == pytest.approx(sum(hours))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sustained", "0"], "--sustained is a positive number"),
        (["--gpus", "0"], "--gpus is at least 1"),
        (["--frames", "davis17-val=many"], "write NAME=FRAMES"),
        (["--frames", "davis18=10/1/1"], "'davis18' is neither"),
        (["--frames", "davis17-testdev=10"], "write davis17-testdev=FRAMES/VIDEOS/OBJECTS"),
    ],
)
def test_a_mistake_is_one_sentence(in_root, capsys, options, sentence):
    study = ["params/studies/paper.yaml", "--method", "stm"]
    assert main(["plan", *study, *options]) == 2
    assert sentence in capsys.readouterr().err
