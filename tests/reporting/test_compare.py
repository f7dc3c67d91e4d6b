"""Two result folders side by side, on changes that the test makes itself."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from vosrepro.base.errors import DataError
from vosrepro.cli import main
from vosrepro.reporting.compare import compare_results
from vosrepro.reporting.results import read_results
from vosrepro.scoring.statistics import holm
from vosrepro.study.plan import Plan

ROW = "stm/s02/top50/davis17-val"


def changed(folder: Path, points: float) -> Path:
    """A copy of the results whose seed 0 of one row scores some points more on every object."""
    copy = folder / "other" / "tiny"
    shutil.copytree("results/tiny", copy)
    table = copy / "stm/s02/seed0/top50/davis17-val/scores.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("J-Mean", "F-Mean"):
            row[name] = str(float(row[name]) + points / 100)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return copy


def test_equal_results_are_equal_in_every_row(finished: Plan):
    found = compare_results(read_results("tiny"), read_results("tiny"))
    assert found.changes == ()
    assert {row.finding for row in found.differences} == {"equal"}
    assert len(found.differences) == len(
        {(e.run.method, e.run.recipe, e.variant, e.benchmark) for e in finished.entries}
    )


def test_a_changed_score_shows_in_its_row_alone_with_the_sign_of_the_second(own_copy: Plan, tmp_path):
    other = changed(tmp_path, 4.0)
    found = compare_results(read_results("tiny"), read_results(other), (0, 0))
    moved = [row for row in found.differences if row.finding != "equal"]
    assert [row.name for row in moved] == [ROW]
    assert moved[0].paired.mean == pytest.approx(4.0)
    assert moved[0].after - moved[0].before == pytest.approx(4.0)
    assert moved[0].finding == "not significant"  # three videos: 2 of 8 sign patterns are as extreme
    assert moved[0].paired.p_value == pytest.approx(0.25)


def test_seeds_are_averaged_unless_one_of_each_is_asked_for(own_copy: Plan, tmp_path):
    other = changed(tmp_path, 4.0)
    both = {row.name: row for row in compare_results(read_results("tiny"), read_results(other)).differences}
    assert both[ROW].paired.mean == pytest.approx(2.0)  # one of two seeds moved
    seeds = compare_results(read_results("tiny"), read_results("tiny"), (0, 1))
    assert (seeds.first, seeds.second) == ("tiny seed 0", "tiny seed 1")
    with pytest.raises(DataError, match="no scores of videos of seed 7"):
        compare_results(read_results("tiny"), read_results("tiny"), (0, 7))


def test_p_values_are_adjusted_for_all_rows(own_copy: Plan, tmp_path):
    found = compare_results(read_results("tiny"), read_results(changed(tmp_path, 4.0)))
    assert [row.adjusted for row in found.differences] == holm([row.paired.p_value for row in found.differences])


def test_changes_of_parameters_code_data_and_machine_are_named_with_where(own_copy: Plan, tmp_path):
    other = changed(tmp_path, 0.0)
    path = other / "stm/s02/seed0/s2/run.json"
    record = json.loads(path.read_text())
    record["params"]["optimizer"]["lr"] = 0.5
    record["data_digest"] = "another"
    record["source_digest"] = "newer"
    record["provenance"]["libraries"]["torch"] = "3.0"
    path.write_text(json.dumps(record))
    found = compare_results(read_results("tiny"), read_results(other), (0, 0))
    told = {(c.kind, c.what): (c.after, c.places) for c in found.changes}
    assert told == {
        ("parameters", "optimizer.lr"): ("0.5", ("stm/s02/s2",)),
        ("code", "digest"): ("newer", ("stm/s02/s2",)),
        ("data", "digest"): ("another", ("stm/s02/s2",)),
        ("machine", "torch"): ("3.0", ("stm/s02/s2",)),
    }
    assert found.summary.startswith("parameters, code, data and machine differ")


def test_rows_of_one_side_only_are_named(own_copy: Plan, tmp_path):
    other = changed(tmp_path, 0.0)
    shutil.rmtree(other / "copy")
    found = compare_results(read_results("tiny"), read_results(other))
    assert found.only_first == ("copy/none/default/davis16-val", "copy/none/default/davis17-val")
    assert found.only_second == ()


def test_the_command_prints_the_comparison_and_writes_a_page_of_its_own(own_copy: Plan, tmp_path, capsys):
    other = changed(tmp_path, 4.0)
    page = tmp_path / "page.html"
    assert main(["compare", "tiny", str(other), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^{ROW} .*\+2\.0 .*not significant$", out, re.M)
    text = page.read_text()
    assert ROW in text and "+2.0" in text and text.count('<svg class="chart"') == 8
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
