"""A classifier in the report: its accuracy is a cell like any other, with its own columns and interval."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vosrepro.reporting.evidence.checks import make_checks
from vosrepro.reporting.evidence.evidence import collect
from vosrepro.reporting.evidence.expected import expected_rows
from vosrepro.reporting.evidence.table import build_table
from vosrepro.reporting.pages.ablation import ablation_table
from vosrepro.reporting.pages.outlets import metrics_tree
from vosrepro.reporting.pages.pages import render_pages
from vosrepro.reporting.pages.provenance import trails
from vosrepro.scoring.classification import Accuracy, wilson
from vosrepro.study.plan import load_plan
from vosrepro.study.published import Key, Published
from vosrepro.study.records import InferenceRecord, Timing, WeightsFile

REPOSITORY = Path(__file__).parents[2]
STAGE = {
    "title": "images",
    "data": [{"set": "imagenet"}],
    "clips": {"kind": "image", "frames": 1, "objects": 1, "size_px": [32, 32]},
    "batch_size": 2,
    "steps": 40,
    "optimizer": {"lr": 0.001},
    "checkpoint_every_steps": 20,
}
METHOD = {
    "method": "parts",
    "title": "Parts",
    "default_variant": "full",
    "variants": {"full": {}, "epoch10": {"checkpoint": 1}},
    "sizes": {
        "full": {
            "crop_px": 32,
            "stages": {"s0": STAGE},
            "recipes": {"s0": {"title": "images", "stages": ["s0"]}},
        }
    },
}
STUDY = {
    "study": "images",
    "title": "Images",
    "size": "full",
    "data": {"root": "data"},
    "seeds": [0, 1, 2],
    "selection": {"sequences": ["ants"]},
    "statistics": {"bootstrap_draws": 50, "permutation_draws": 50},
    "entries": [
        {"method": "parts", "recipes": ["s0"], "variants": ["full"], "benchmarks": ["davis16-val", "imagenet-val"]},
        {"method": "parts", "recipes": ["s0"], "variants": ["epoch10"], "benchmarks": ["imagenet-val"]},
    ],
}
IMAGES, RIGHT = 400, (303, 304, 305)
KEY = Key("parts", "s0", "full", "imagenet-val", "Top1")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Three seeds of `full` with 303 to 305 of 400 images right; nothing else was run."""
    for name, value in (("methods/parts", METHOD), ("studies/images", STUDY)):
        path = tmp_path / "params" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(value))
    shutil.copytree(REPOSITORY / "params/protocols", tmp_path / "params/protocols")
    monkeypatch.chdir(tmp_path)
    found = load_plan("params/studies/images.yaml")
    for entry in found.entries:
        if (entry.variant, entry.benchmark) == ("full", "imagenet-val"):
            _write(entry)
    return found


def _write(entry):
    right = RIGHT[entry.run.seed]
    labels = np.arange(IMAGES) % 4
    best = np.full((IMAGES, 5), -1)
    best[:, 0] = np.where(np.arange(IMAGES) < right, labels, (labels + 1) % 4)
    best[:350, 1] = labels[:350]
    accuracy = Accuracy(("a", "b", "c", "d"), labels, best, ())
    accuracy.write(entry.folder, extra={"predictions_digest": f"{entry.run.seed:016x}"})
    InferenceRecord(
        entry=entry.key,
        timing=Timing(images_per_second=800.0 + entry.run.seed, images=IMAGES, seconds=0.5),
        params={"crop_px": 32},
        data_digest="d" * 16,
        predictions_digest=f"{entry.run.seed:016x}",
        device="cpu",
        precision="fp32",
        weights=WeightsFile(path="w", sha256="ab" * 32, step=40),
    ).write(entry.inference)


def _table(plan, value=75.96):
    number = Published(KEY, value, 2, "a README", "readme", "")
    return build_table(collect(plan), {KEY: number})


def test_an_accuracy_is_compared_with_the_published_one(plan):
    row = _table(plan).by_name[KEY[:4]]
    assert row.headline.mean == pytest.approx(76.0)
    assert row.headline.difference == pytest.approx(0.04)
    assert row.verdict.kind == "reproduced"
    assert _table(plan, 70.0).by_name[KEY[:4]].verdict.kind == "exceeds"
    assert row.cells["Top5"].mean == pytest.approx(87.5)
    assert row.cells["FPS"].mean == pytest.approx(801.0)
    assert row.counted == (IMAGES, 4)


def test_its_interval_is_wilsons_over_images_and_does_not_shrink_with_seeds(plan):
    found = _table(plan).by_name[KEY[:4]].headline.over_sequences
    wanted = wilson(304, IMAGES)
    assert (found.low, found.high) == pytest.approx((100 * wanted.low, 100 * wanted.high))


def test_the_table_of_images_has_no_columns_of_videos(plan):
    overview, page = (path.read_text() for path in render_pages(plan, outlets=False))
    for text in (overview, page):
        part = text[text.index("Results on ImageNet") :]
        head = part[: part.index("</thead>")]
        assert "Wilson interval over images" in head
        assert all(name in head for name in ("Top1", "Top5", "images/s"))
        assert not any(name in head for name in ("J&amp;F", "FPS", "F decay"))
    assert "400 images, 4 classes" in overview
    assert "the one that the variant names" in page


def test_the_trail_names_data_digests_weights_and_integers(plan):
    table = _table(plan)
    steps = trails(table.evidence, table.by_name[KEY[:4]])[1].steps
    infer, score = (dict(step.facts) for step in steps[-2:])
    assert infer["data"] == "d" * 16
    assert infer["predictions digest"] == f"{1:016x}"
    assert infer["weights"].startswith("step 40")
    assert infer["speed"] == "801.0 images/s"
    assert score["right images"] == "Top1 304 of 400, Top5 350 of 400"
    assert score["protocol"].startswith("imagenet ")


def test_references_metrics_and_checks_have_the_accuracy(plan):
    table = _table(plan)
    assert [line[:8] for line in expected_rows(table)[1:]] == [[*KEY, "76.000", "0.250", "3"]]
    assert metrics_tree(table)["parts"]["s0"]["full"]["imagenet-val"]["Top1"] == 76.0
    check = next(c for c in make_checks(table) if "beats guessing" in c.title)
    assert check.passed
    assert check.measured == "76.0 − 25.0 = +51.0"
    row = table.by_name[KEY[:4]]
    weak = replace(row, cells={**row.cells, "Top1": replace(row.headline, seeds={0: 44.9})})
    check = next(c for c in make_checks(replace(table, rows=(weak,))) if "guessing" in c.title)
    assert check.passed is False


def test_differences_to_the_marked_row_are_of_the_same_benchmark(plan):
    lines = {line.variant: line for line in ablation_table(_table(plan), "parts").lines}
    assert lines["full"].primary
    davis, images = lines["epoch10"].cells
    assert davis is None
    assert images is not None and images.delta is None  # not run
