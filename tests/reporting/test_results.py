"""Results as data frames and as the figures of a paper, against the files that they were read from."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vosrepro
from vosrepro.base.errors import DataError
from vosrepro.cli import main
from vosrepro.reporting.results import FRAMES, read_results
from vosrepro.study.plan import Plan


def test_scores_are_those_of_the_records_in_points(finished: Plan):
    frame = vosrepro.results("tiny").scores
    files = sorted(Path("results/tiny").glob("*/*/*/*/*/score.json"))
    expected = {
        (*path.parts[2:4], int(path.parts[4][4:]), *path.parts[5:7], metric): 100 * value
        for path in files
        for metric, value in json.loads(path.read_text())["global"].items()
    }
    assert dict(zip(frame.iloc[:, :6].itertuples(index=False, name=None), frame["value"], strict=True)) == expected
    assert len(files) == len(finished.entries)


def test_frames_average_to_the_objects_and_these_to_the_scores(finished: Plan):
    found = read_results("tiny")
    key = ["method", "recipe", "seed", "variant", "benchmark"]
    objects = found.frames.groupby([*key, "sequence", "object"])[["J", "F"]].mean()
    tables = found.sequences.set_index([*key, "sequence", "object"])[["J-Mean", "F-Mean"]]
    assert objects.to_numpy() == pytest.approx(tables.reindex(objects.index).to_numpy())
    means = found.sequences.groupby(key)["J&F-Mean"].mean()
    scores = found.scores[found.scores["metric"] == "J&F-Mean"].set_index(key)["value"]
    assert means.to_dict() == pytest.approx(scores.to_dict())


def test_curves_checkpoints_and_speeds_are_those_of_their_files(finished: Plan):
    found = read_results("tiny")
    node = finished.stages[0]
    events = [json.loads(line) for line in node.metrics.read_text().splitlines()]
    losses = [e["metrics"]["train/loss"] for e in events if e["event"] == "metrics"]
    own = found.training.query("recipe == @node.recipe and seed == @node.seed and stage == @node.stage")
    assert own[own["quantity"] == "train/loss"]["value"].tolist() == losses
    run = finished.run("stm", "s02", 0)
    with run.candidates.open(newline="") as file:
        steps = [int(float(row["step"])) for row in csv.DictReader(file)]
    chosen = found.selection.query("recipe == 's02' and seed == 0")
    assert chosen["step"].tolist() == steps and chosen["selected"].sum() == 1
    assert set(found.timing["fps_amortised"]) == {
        json.loads(path.read_text())["timing"]["fps_amortised"] for path in Path("results").glob("**/infer.json")
    }


def test_a_folder_of_another_checkout_reads_as_well_as_a_name(finished: Plan, monkeypatch, tmp_path):
    folder = Path("results/tiny").resolve()
    here = read_results("tiny").scores
    monkeypatch.chdir(tmp_path)
    assert read_results(folder).scores.equals(here)
    assert read_results(folder).study == "tiny"


def test_an_unknown_study_is_named_with_the_one_that_was_meant(finished: Plan):
    with pytest.raises(DataError, match="did you mean 'tiny'"):
        read_results("tinny")


def test_a_study_without_results_gives_empty_frames_with_their_key_columns(tmp_path: Path):
    found = read_results(tmp_path)
    for name in FRAMES:
        frame = getattr(found, name)
        assert len(frame) == 0 and list(frame.columns[:3]) == ["method", "recipe", "seed"]


def test_results_need_no_torch(finished: Plan):
    code = "import sys, vosrepro; vosrepro.results('tiny').sequences; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_command_prints_one_table_or_writes_all(finished: Plan, tmp_path, capsys):
    assert main(["results", "tiny", "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == len(read_results("tiny").scores)
    assert main(["results", "tiny", "--csv", str(tmp_path)]) == 0
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(FRAMES)


@pytest.mark.slow
def test_figures_have_text_as_text_and_come_out_equal_twice(own_copy: Plan, tmp_path):
    call = ["report", "--study", "params/studies/tiny.yaml", "--figures"]
    assert main([*call, str(tmp_path / "a")]) == 0
    assert main([*call, str(tmp_path / "b")]) == 0
    names = {p.name for p in (tmp_path / "a").iterdir()}
    for kind in ("speed-davis17-val", "sequences-davis17-val", "training-stm", "selection-stm", "ablation-stm"):
        assert {f"{kind}.pdf", f"{kind}.png"} <= names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"/FontFile2" in (tmp_path / "a" / "ablation-stm.pdf").read_bytes()  # TrueType, not outlines
    assert not Path("reports").exists()  # figures only
