"""The tables of measured rates and counted work."""

from __future__ import annotations

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import without_start_weights
from vosrepro.costs.rates import (
    RATE_COLUMNS,
    RATE_PLACE,
    WORK_COLUMNS,
    at_objects,
    load_rates,
    load_work,
    named_identities,
    put_rows,
)
from vosrepro.study.params import load_method


def _file(tmp_path, columns, *rows):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("stm,full,train,s0,0,H200,2,fast,x", "line 2: gpus, objects and samples_per_second"),
        ("stm,full,train,s0,0,H200,2,-1,x", "line 2: .*rates are positive"),
        ("stm,full,draw,s0,0,H200,2,1,x", "line 2: kind 'draw' must be one of train, init"),
    ],
)
def test_a_bad_rate_names_file_and_line(tmp_path, row, message):
    with pytest.raises(ConfigError, match=message):
        load_rates(_file(tmp_path, RATE_COLUMNS, row))
    with pytest.raises(ConfigError, match="line 1: the columns must be"):
        load_rates(_file(tmp_path, ("a", "b")))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("stm,full,train,s0,0,abc,much,2,x", "line 2: gflop and objects must be numbers"),
        ("stm,full,score,s0,0,abc,1,2,x", "line 2: kind 'score' must be one of train"),
    ],
)
def test_a_bad_count_names_file_and_line(tmp_path, row, message):
    with pytest.raises(ConfigError, match=message):
        load_work(_file(tmp_path, WORK_COLUMNS, row))


def test_rates_are_found_by_what_determines_the_work(in_root, tmp_path):
    rows = [
        "stm,full,train,s1,0,H200,1,30,x",
        "stm,mini,train,s1,0,H200,1,50,x",
        "stm,full,infer,s01/top50,2,H200,1,9,x",
        "all,all,score,davis2016,1,laptop,0,80,x",
        "stm,full,train,renamed,0,H200,1,30,x",
    ]
    method = load_method("stm")
    found = load_rates(_file(tmp_path, RATE_COLUMNS, *rows)).find({"stm": method}, "full")
    names = named_identities(method, "full")
    assert {key: [r.samples_per_second for r in rates] for key, rates in found.items()} == {
        ("train", names["train", "s2-long"]): [30],
        ("infer", names["infer", "s012/top50"]): [9],
        ("score", "davis2016"): [80],
    }


def test_a_new_row_replaces_the_old_one_about_the_same(tmp_path):
    path = _file(tmp_path, RATE_COLUMNS, "stm,full,train,s0,0,H200,1,30,x", "b,c,train,d,0,e,1,2,y")
    row = dict(
        zip(
            RATE_COLUMNS,
            ["stm", "full", "train", "s0", "0", "H200", "1", "31", "again"],
            strict=True,
        )
    )
    put_rows(path, RATE_COLUMNS, [row, {**row, "machine": "A100"}], same=RATE_PLACE)
    lines = path.read_text().splitlines()[1:]
    assert lines == [
        "stm,full,train,s0,0,H200,1,31,again",
        "b,c,train,d,0,e,1,2,y",
        "stm,full,train,s0,0,A100,1,31,again",
    ]


def test_weights_to_start_from_are_no_part_of_the_work():
    model = {"width": 8, "encoder_weights": "imagenet", "pretrained": True, "start": "a.pth"}
    assert without_start_weights(model) == {"width": 8}


def test_a_quantity_between_and_beyond_the_counted_objects():
    assert at_objects([(1, 10.0), (2, 14.0)], 1.5) == 12
    assert at_objects([(1, 10.0), (2, 14.0)], 3) == 18
    assert at_objects([(2, 14.0), (2, 15.0)], 1) == 14


def test_the_shipped_files_are_sound(in_root):
    assert load_rates()
    assert load_work()
