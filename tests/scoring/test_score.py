"""The files that a score writes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from made_masks import blobs

from vosrepro.scoring import score_arrays
from vosrepro.scoring.counting.counting import COUNTS


@pytest.fixture
def score():
    truth = {"ants": blobs(1, 7), "bees": blobs(2, 5, (50, 70), 3)}
    moved = {s: {f: np.roll(a, 2, 0) for f, a in v.items()} for s, v in truth.items()}
    return score_arrays(moved, truth, "davis2017")


def test_written_counts_give_the_scores_back(score, tmp_path):
    score.write(tmp_path, extra={})
    table = pd.read_parquet(tmp_path / "counts.parquet")
    assert list(table) == ["sequence", "object", "frame", *COUNTS, "H", "W"]
    assert len(table) == 2 * 5 + 3 * 3
    table["J"] = table["inter"] / (table["gt"] + table["pred"] - table["inter"])
    table["J"] = table["J"].fillna(1.0)  # nothing annotated, nothing predicted
    means = table.groupby(["sequence", "object"]).J.mean()
    assert means.mean() == pytest.approx(score.global_["J-Mean"], abs=1e-12)
    assert set(table.H[table.sequence == "bees"]) == {50}
    for name in score.counts:
        assert table[name].tolist() == score.counts[name].tolist()


def test_scores_csv_keeps_all_digits(score, tmp_path):
    score.write(tmp_path, extra={})
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table) == [
        "sequence",
        "object",
        "frames",
        "J-Mean",
        "J-Recall",
        "J-Decay",
        "F-Mean",
        "F-Recall",
        "F-Decay",
    ]
    assert np.array_equal(table["F-Mean"], [r.values[3] for r in score.rows])
    assert table.equals(score.objects)


def test_score_json_holds_protocol_means_and_extras(score, tmp_path):
    score.write(tmp_path, extra={"entry": "stm/s012"})
    value = json.loads((tmp_path / "score.json").read_text())
    assert (value["protocol"], value["objects"], value["sequences"], value["frames"]) == (
        "davis2017",
        5,
        2,
        8,
    )
    assert value["entry"] == "stm/s012"
    assert value["global"] == score.global_


def test_official_tables_have_the_official_names_and_digits(score, tmp_path):
    score.write(tmp_path, split="test-dev")
    means = (tmp_path / "global_results-test-dev.csv").read_text().splitlines()
    assert means[0] == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert means[1].split(",")[0] == f"{score.global_['J&F-Mean']:.3f}"
    rows = (tmp_path / "per-sequence_results-test-dev.csv").read_text().splitlines()
    assert rows[0] == "Sequence,J-Mean,F-Mean"
    assert rows[1] == f"ants_1,{score.rows[0].values[0]:.3f},{score.rows[0].values[3]:.3f}"


def test_without_pyarrow_counts_go_to_csv(score, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        score.write(tmp_path)
    assert not (tmp_path / "counts.parquet").exists()
    assert len(pd.read_csv(tmp_path / "counts.csv")) == 19


def test_sequences_beyond_the_official_range_warn():
    video = {f"{k:05d}": np.eye(8, dtype=np.uint8) for k in range(260)}
    score = score_arrays({"long": video}, {"long": video}, "davis2017")
    assert score.rows[0].values[2] == 0
    assert "255 scored frames" in score.warnings[0]
