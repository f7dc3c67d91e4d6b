"""Real data sets as targets of the DAG."""

from __future__ import annotations

import csv
import json

import pytest
import yaml
from real_snakemake import snakemake

from vosrepro.datasets.generated import generate

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_sets_are_prepared_listed_and_converted(checkout):
    generate(checkout / "toydata", seed=0, limit=1, processes=1)
    study = {
        "study": "sets",
        "title": "toy",
        "size": "mini",
        "data": {"root": "toydata"},
        "selection": {"sequences": []},
        "entries": [{"method": "copy", "recipes": ["none"], "variants": ["default"], "benchmarks": ["davis17-val"]}],
    }
    (checkout / "params/studies/sets.yaml").write_text(yaml.safe_dump(study))
    call = ["--configfile", "params/studies/sets.yaml", "--cores", "2", "--"]
    targets = ["results/sets/imagenet-vid.csv", "results/sets/converted/youtube-480p.json"]
    snakemake(checkout, *call, *targets)
    with (checkout / targets[0]).open() as file:
        folders = [row["folder"] for row in csv.DictReader(file)]
    assert "Data/VID/val/ILSVRC2015_val_00000000" in folders
    manifest = json.loads((checkout / "results/sets/ytvos.json").read_text())
    assert set(manifest["parts"]) == {"ytvos-train", "ytvos-valid", "ytvos-valid-all"}
    made = json.loads((checkout / targets[1]).read_text())["made"]
    assert made["toydata/YouTube/train_480p"]["count"] == 2 * (8 + 8)
    assert "Nothing to be done" in snakemake(checkout, *call, *targets)


def test_a_set_that_is_not_there_is_explained_in_the_log(checkout):
    call = ["--configfile", "params/studies/paper.yaml", "--cores", "1", "--"]
    snakemake(checkout, *call, "results/sets/bl30k.json", expect=1)
    said = (checkout / "logs/paper/prepare-bl30k.log").read_text()
    assert "data set 'bl30k' is not there: put BL30K_a.tar" in said
