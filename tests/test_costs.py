"""What a study costs, from measured throughput alone."""

from __future__ import annotations

import pytest

from vosrepro.artifacts import write_json
from vosrepro.cli import main
from vosrepro.costs import COLUMNS, Throughput, load_throughput, stage_costs
from vosrepro.errors import ConfigError
from vosrepro.params import load_study
from vosrepro.plan import load_plan


@pytest.fixture
def plan(in_root, tmp_path, monkeypatch):
    study = load_study("params/studies/paper.yaml")
    made = load_plan(study)
    monkeypatch.chdir(tmp_path)  # no results here
    return made


def test_time_and_gpu_hours_follow_from_samples_per_second(plan):
    rate = Throughput(100.0, "some GPU", 2)
    weights = {node.digest: 10 for node in plan.stages}
    costs = stage_costs(plan, {("stm", "full", "s0"): rate}, weights)
    cost = next(c for c in costs if c.node.method == "stm" and c.node.stage == "s0")
    assert cost.seconds == 300_000 * 14 / 100
    assert cost.gpu_hours == pytest.approx(2 * 42_000 / 3600)
    assert cost.disk_bytes == 10 * (6 + 3)  # checkpoints, and the state's three copies


def test_a_stage_that_nobody_measured_has_no_time(plan):
    cost = stage_costs(plan, {}, {})[0]
    assert (cost.seconds, cost.gpu_hours, cost.disk_bytes) == (None, None, None)


def test_a_stage_trained_here_with_these_parameters_counts_first(plan):
    node = plan.stages[0]
    record = {"digest": node.digest, "samples_per_second": 7.0, "world_size": 4, "device": "cuda",
              "provenance": {"hardware": {"gpu": "H200", "cores": 8, "cpu": "x"}}}  # fmt: skip
    write_json(node.folder / "run.json", record)
    measured = {(node.method, "full", node.stage): Throughput(1.0, "other", 0)}
    assert stage_costs(plan, measured, {})[0].throughput == Throughput(7.0, "H200", 4)
    write_json(node.folder / "run.json", {**record, "digest": "changed"})
    assert stage_costs(plan, measured, {})[0].throughput == Throughput(1.0, "other", 0)


def test_the_command_says_what_was_not_measured_and_takes_a_part(in_root, capsys):
    assert main(["plan", "params/studies/paper.yaml", "--method", "gfrtm", "--recipe", "rn18"]) == 0
    shown = capsys.readouterr().out
    assert "gfrtm/rn18/seed0/gate-rn18" in shown
    assert "stm/" not in shown
    assert "time not measured" in shown
    assert "training time of 2 stages: not measured" in shown
    assert "GB; masks and data not counted" in shown
    main(["plan", "params/studies/released.yaml", "--method", "stm"])
    shown = capsys.readouterr().out
    assert "weights/stm/released.pth: propagation_model.pth" in shown


@pytest.mark.parametrize(
    ("row", "message"),
    [("stm,full,s0,H200,2,fast,x", "line 2: gpus and samples_per_second"),
     ("stm,full,s0,H200,2,-1,x", "line 2: .*rates are positive")],
)  # fmt: skip
def test_a_bad_row_names_file_and_line(tmp_path, row, message):
    path = tmp_path / "throughput.csv"
    path.write_text(",".join(COLUMNS) + "\n" + row + "\n")
    with pytest.raises(ConfigError, match=message):
        load_throughput(path)
    path.write_text("a,b\n")
    with pytest.raises(ConfigError, match="line 1: the columns must be"):
        load_throughput(path)


def test_rows_of_a_machine_are_picked(tmp_path):
    path = tmp_path / "throughput.csv"
    rows = ["stm,full,s0,one A100,1,10,x", "stm,full,s0,one H200,1,30,x"]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    assert load_throughput(path)["stm", "full", "s0"].samples_per_second == 10
    assert load_throughput(path, machine="H200")["stm", "full", "s0"].samples_per_second == 30


def test_the_shipped_file_is_sound(in_root):
    assert load_throughput()
