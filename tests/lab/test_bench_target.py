"""`vosrepro bench target`: equal work in every way, and honest columns."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from vosrepro.base.errors import VosreproError
from vosrepro.lab import target as bench_target

SMALL = {"size": (32, 48), "objects": 2, "device": torch.device("cpu")}
QUICK = {"channels": 4, "init_iterations": (2, 2), "update_iterations": 2}


def test_all_ways_start_from_one_objective_and_agree_in_short_runs():
    rows = bench_target.solver_table(**SMALL, inputs=6, dtype="float64", samples=7, settings=QUICK)
    first = {round(row["objective_first"], 6) for row in rows}
    assert len(first) == 1
    assert all(row["objective_last"] < row["objective_first"] for row in rows)
    assert rows[-1]["init_speed_up"] == 1


def test_ways_that_disagree_are_an_error():
    rows = [{"way": "a", "_short": [2.0, 1.01]}, {"way": "b", "_short": [2.0, 1.0]}]
    with pytest.raises(VosreproError, match="differ by 1.0e-02"):
        bench_target._agree(rows, tolerance=1e-3)


def test_object_by_object_gives_the_probabilities_of_all_objects_at_once():
    torch.manual_seed(0)
    network = bench_target.FRTM(backbone="resnet10", width=8, channels=8, stem_stride=2, norm="group").eval()
    video, mask = bench_target.generated_video(4, (32, 48), objects=2, device=torch.device("cpu"))
    options = {
        "views": 2,
        "update_every": 1,
        "dtype": "float64",
        "target": {"channels": 4, "init_iterations": [2], "update_iterations": 2},
    }
    found = []
    for build in (bench_target.FRTMSegmenter, bench_target.ObjectByObject):
        segmenter = build(network, **options)
        with torch.inference_mode():
            segmenter.init(video[0], mask)
            found.append(torch.stack([segmenter.step(frame) for frame in video[1:]]))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 0), (0.5, 2), (1.0, 5)])
def test_a_forced_gate_reuses_the_share_that_was_asked_for(share, wanted):
    torch.manual_seed(0)
    network = bench_target.GFRTM(
        backbone="resnet10", width=8, channels=8, stem_stride=2, norm="group", gate_dim=8
    ).eval()
    video, mask = bench_target.generated_video(6, (32, 48), objects=1, device=torch.device("cpu"))
    segmenter = bench_target.ForcedGate(network, reuse=share, views=2, target={"channels": 4, "init_iterations": [2]})
    bench_target._pass(segmenter, video, mask)
    assert segmenter.counts == {"tracked": 5, "reused": wanted}


@pytest.mark.slow
def test_the_command_prints_what_it_measured(capsys):
    parser = argparse.ArgumentParser()
    bench_target.add_arguments(parser)
    flags = ["--size", "48x64", "--objects", "1", "--frames", "4", "--device", "cpu", "--json"]
    assert bench_target.run(parser.parse_args(flags)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["size"] == "48x64"
    gate = printed["tables"]["G-FRTM, 1 objects"]
    assert [("gain_of_reuse" in row) for row in gate] == [False, False, True, False, True]
