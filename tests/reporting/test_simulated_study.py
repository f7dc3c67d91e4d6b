"""The full-size studies with results that nobody computed: every verdict of the rule comes out where it should."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from fabricated import fabricate_result, stage_record

from vosrepro.base.files import read_json
from vosrepro.cli import main
from vosrepro.reporting import load_table
from vosrepro.reporting.evidence.summary import published_sentence
from vosrepro.reporting.evidence.table import Row
from vosrepro.reporting.evidence.verdicts import VerdictKind
from vosrepro.study.params import load_study
from vosrepro.study.plan import Plan, load_plan
from vosrepro.study.published import Key, load_published
from vosrepro.study.records import Hardware, Provenance

SEEDS = (0, 1, 2)
#: Our differences to the published numbers by seed, in points, for each verdict of a trained row.
DIFFERENCES = {
    ("s012", "top50", "davis17-val"): ((-0.1, 0.0, 0.1), "reproduced"),
    ("s012", "full", "davis17-val"): ((-2.0, 0.3, 1.5), "within-noise"),
    ("s02", "top50", "davis17-val"): ((4.9, 5.0, 5.1), "exceeds"),
    ("s02", "full", "davis17-val"): ((-6.0, -6.02, -5.98), "not-reproduced"),
    ("s012", "top50", "davis16-val"): ((-8.0, 1.0, 2.5), "inconclusive"),
}


@pytest.fixture
def here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(root / "params")
    return tmp_path


def study(name: str, method: str, seeds: tuple[int, ...] = SEEDS) -> Plan:
    value = load_study(f"params/studies/{name}.yaml")
    only = value.only.model_copy(update={"methods": (method,)})
    entries = tuple(e.model_copy(update={"seeds": seeds}) for e in value.entries)
    return load_plan(value.model_copy(update={"seeds": seeds, "only": only, "entries": entries}))


def row(plan: Plan, recipe: str, variant: str, benchmark: str) -> Row:
    return load_table(plan).by_name[next(iter(plan.methods)), recipe, variant, benchmark]


def give(plan: Plan, name: tuple[str, str, str], differences: tuple[float, ...], *, made: str | None = None) -> None:
    """Results of a row that differ so much from the published numbers, one by seed."""
    method, published = next(iter(plan.methods)), load_published()
    for seed, difference in enumerate(differences):
        key = f"{method}/{name[0]}/seed{seed}/{name[1]}/{name[2]}"
        entry = next(e for e in plan.entries if e.key == key)
        metrics = entry.benchmark_params.primary_metrics
        values = {m: published[Key(*entry.published_name, m)].value + difference for m in metrics}
        fabricate_result(entry, values, made=made)


def answer(folder: Path, plan: Plan, key: str, difference: float) -> Path:
    """scores.txt as the DAVIS server writes it, of an entry's published numbers and so much more."""
    entry = next(e for e in plan.entries if e.key == key)
    numbers = {m: load_published()[Key(*entry.published_name, m)].value for m in ("J-Mean", "F-Mean")}
    region, contour = (value + difference for value in numbers.values())
    lines = {"GlobalMean": (region + contour) / 2, "JMean": region, "JRecall": 80, "JDecay": 5}
    lines |= {"FMean": contour, "FRecall": 85, "FDecay": 6}
    path = folder / "scores.txt"
    path.write_text("".join(f"{name}: {value / 100:.6f}\n" for name, value in lines.items()))
    return path


def test_every_verdict_of_the_rule_comes_out(here: Path) -> None:
    plan = study("paper", "stm")
    for name, (differences, _) in DIFFERENCES.items():
        give(plan, name, differences)
    for entry in plan.entries:  # masks without ground truth, and a recipe of which nothing was published
        if entry.benchmark == "davis17-testdev":
            fabricate_result(entry, None)
        if (entry.run.recipe, entry.benchmark) == ("s01", "davis17-val"):
            fabricate_result(entry, {"J&F-Mean": 70.0, "J-Mean": 70.0, "F-Mean": 70.0})
    for seed in SEEDS:
        key = f"stm/s012/seed{seed}/top50/davis17-testdev"
        path = answer(here, plan, key, 0.1 * seed)
        record_with(plan, key, path)
    kinds = {r.verdict.kind for r in load_table(plan).rows}
    for name, (_, kind) in DIFFERENCES.items():
        assert row(plan, *name).verdict.kind == kind, name
    assert row(plan, "s012", "top50", "davis17-testdev").verdict.kind == "reproduced"
    assert row(plan, "s012", "top50-km", "davis17-testdev").verdict.kind == "waiting"
    assert row(plan, "s01", "top50", "davis17-val").verdict.kind == "unpublished"
    assert row(plan, "s012", "top20", "ytvos18-val").verdict.kind == "not-run"
    stage = plan.run("stm", "s012", 0).stages[-1]
    stage_record(stage, status="KILLED").write(stage.record)
    kinds |= {row(plan, "s012", "top50", "davis17-val").verdict.kind}
    assert kinds == set(get_args(VerdictKind))


def record_with(plan: Plan, key: str, path: Path) -> None:
    from vosrepro.scoring.server import record_answer

    record_answer(next(e for e in plan.entries if e.key == key), path)


def test_three_copies_of_one_deterministic_result_are_one(here: Path) -> None:
    plan = study("released", "stm")
    give(plan, ("released", "top50", "davis17-val"), (0.0, 0.0, 0.0), made="same masks")
    verdict = row(plan, "released", "top50", "davis17-val").verdict
    assert verdict.kind == "reproduced"
    assert "1 result of one set of weights; 2 more gave the same masks and count as none" in verdict.text
    for difference, kind in ((0.04, "reproduced"), (0.4, "within-noise"), (-1.2, "not-reproduced"), (3.0, "exceeds")):
        give(plan, ("released", "full", "davis17-val"), (difference,) * 3, made="same masks")
        assert row(plan, "released", "full", "davis17-val").verdict.kind == kind


def test_copies_of_one_training_are_no_seeds(here: Path) -> None:
    plan = study("paper", "stm")
    give(plan, ("s012", "top50", "davis17-val"), (0.0, 0.0, 0.0), made="same masks")
    found = row(plan, "s012", "top50", "davis17-val")
    assert found.verdict.kind == "within-noise"
    assert len(found.headline.seeds) == 3


def test_released_weights_of_a_method_that_draws_are_judged_by_their_own_spread(here: Path) -> None:
    plan = study("released", "frtm")
    name = ("released-rn101-dv", "full", "davis17-val")
    give(plan, name, (0.3, 0.6, 0.9))  # 0.6 away, sd 0.3: one more repetition may be 4.30 * 0.3 * 1.15 = 1.49 away
    assert row(plan, *name).verdict.kind == "reproduced"
    give(plan, name, (0.55, 0.60, 0.65))  # the same mean, sd 0.05: 0.25
    assert row(plan, *name).verdict.kind == "within-noise"
    assert {e.variant_params["seed"] for e in plan.entries if e.run.seed == 2} == {2}
    alone = study("released", "frtm", seeds=(0,))
    give(alone, name, (0.0,))
    assert row(alone, *name).verdict.kind == "within-noise"


def test_too_few_seeds_say_how_many_more_and_what_they_cost(here: Path) -> None:
    plan = study("paper", "stm", seeds=(0,))
    give(plan, ("s012", "top50", "davis17-val"), (0.0,))
    text = row(plan, "s012", "top50", "davis17-val").verdict.text
    assert "2 more seeds would allow a verdict, at a cost that `vosrepro plan` lists" in text
    for node in plan.run("stm", "s012", 0).stages:
        machine = Provenance(hardware=Hardware(gpu="a GPU"))
        trained = stage_record(node, world_size=2, device="cuda:0", samples_per_second=100.0, provenance=machine)
        trained.write(node.record)
    text = row(plan, "s012", "top50", "davis17-val").verdict.text
    steps = {"s0": 300_000 * 14, "s1": 500_000 * 8, "s2": 150_000 * 8}
    hours = 2 * sum(steps.values()) / 100 / 3600  # of two devices
    assert f"about {hours:.2g} device hours of training each" in text
    said = [d.text for d in load_table(plan).deviations if "2 more of all" in d.text]
    assert len(said) == 1


def test_speeds_are_counted_apart_and_carry_no_verdict(here: Path) -> None:
    plan = study("paper", "frtm")
    rows = load_table(plan).rows
    assert {r.cells["FPS"].verdict for r in rows} == {None}
    give(plan, ("rn101-dv", "full", "davis17-val"), (0.0, 0.1, 0.0))
    sentence = published_sentence(load_table(plan).rows)
    scores = {k[:4] for k in load_published() if k.method == "frtm" and k.metric != "FPS"}
    assert f"Of {len(scores)} rows with published scores" in sentence
    assert "2 published speeds are of other hardware and carry no verdict." in sentence


def test_an_answer_is_recorded_with_its_digest_and_only_of_todays_masks(here: Path, capsys) -> None:
    plan = study("paper", "stm", seeds=(0,))
    key = "stm/s012/seed0/top50/davis17-testdev"
    entry = next(e for e in plan.entries if e.key == key)
    fabricate_result(entry, None, made="first masks")
    path = answer(here, plan, key, 0.0)
    assert main(["submit", "record", key, str(path), "--study", "params/studies/paper.yaml"]) == 0
    assert "J-Mean 72.7" in capsys.readouterr().out
    record = read_json(entry.server_scores)
    assert len(record["answer_sha256"]) == 64
    found = row(plan, "s012", "top50", "davis17-testdev")
    assert found.headline.mean == pytest.approx(76.45)
    assert found.verdict.kind == "within-noise"
    fabricate_result(entry, None, made="other masks")
    table = load_table(plan)
    assert table.by_name["stm", "s012", "top50", "davis17-testdev"].verdict.kind == "waiting"
    assert any("of other masks" in p for p in table.evidence.entries[key].problems)


def test_an_entry_with_public_truth_takes_no_answer(here: Path, capsys) -> None:
    arguments = ["submit", "record", "stm/s012/seed0/top50/davis17-val", "scores.txt"]
    assert main([*arguments, "--study", "params/studies/paper.yaml"]) == 2
    assert "no entry that a server scores" in capsys.readouterr().err


def test_weights_from_the_middle_of_a_training_are_held_to_what_two_runs_differ(here: Path) -> None:
    plan = study("paper", "parts", seeds=(0,))
    margins = {e.variant: e.margin_points["Top1"] for e in plan.entries if e.benchmark == "imagenet-val"}
    first, again = 47.87, 49.92  # runs C and B, one recipe, at epoch 10
    assert margins["epoch10"] >= again - first
    assert margins["full"] == 0.5
