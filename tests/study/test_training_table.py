"""Published training beside ours: the table is read strictly, and no difference of the study `paper` is unexplained."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.cli import main
from vosrepro.study.params import load_study
from vosrepro.study.plan import load_plan
from vosrepro.study.training_table import COLUMNS, Compared, _loaded, compare_training, named_deviations

GOOD = 'stm,s0,steps,300000,code,a repository,"a note",yes'


@pytest.fixture
def paper(in_root):
    return load_plan("params/studies/paper.yaml")


def compared(plan, method: str, recipe: str) -> dict[tuple[str, str], Compared]:
    rows = compare_training(plan.study, plan.run(method, recipe, plan.study.seeds[0]))
    return {(row.stage, row.published.parameter): row for row in rows}


def changed(plan, path: Path, *rows: str):
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    _loaded.cache_clear()
    return compare_training(plan.study, plan.run("stm", "s012", 0), path)


def test_every_difference_of_the_study_paper_is_explained_and_none_hides_in_the_schedule(paper) -> None:
    found = [row for run in paper.runs for row in compare_training(paper.study, run)]
    different = [row for row in found if row.verdict == "different"]
    twins = [row for row in different if row.published.parameter == "selection"]
    assert {row.run.recipe for row in twins} == {"s012-heldout", "rn18-all-heldout"}
    others = {(row.run.method, row.published.parameter) for row in different if row not in twins}
    of_s2 = {"optimizer.lr", "optimizer.weight_decay", "batch_size"}  # a stage of ours, without a published score
    assert others == {("parts", name) for name in {"precision", "devices"} | of_s2}
    assert {row.stage for row in different if row.published.parameter in of_s2} == {"s2"}
    assert all(row.published.note for row in different if row not in twins)
    assert {row.published.evidence for row in found if row.verdict == "equal"} <= {"code", "readme", "derived"}


def test_every_trained_recipe_with_published_numbers_has_its_parameters_compared(paper) -> None:
    published = {"stm", "frtm", "gfrtm", "pml"}
    for run in paper.runs:
        if run.stages and run.method in published:
            stages = {row.stage for row in compare_training(paper.study, run)}
            assert stages == {node.stage for node in run.stages}, run.key


@pytest.mark.parametrize(
    ("method", "recipe", "stage", "epochs", "iterations", "drops"),
    [
        # iterations: (8 x 144 objects of DAVIS, 4000 of YouTube-VOS) / batch; drops every 127 epochs
        ("frtm", "rn18-all", "rn18-all", 260, (1152 + 4000) // 16, 127),
        ("frtm", "rn101-ytvos", "rn101-ytvos", 260, 4000 // 16, 127),
        ("frtm", "rn101-dv", "rn101-dv", 260, 1152 // 16, 127),
        ("gfrtm", "rn18-ytvos", "base-rn18-ytvos", 260, 4000 // 16, 127),
        ("gfrtm", "rn18-ytvos", "gate-rn18-ytvos", 260, 4000 // 8, 127),
        ("gfrtm", "rn101", "gate-rn101", 260, (1152 + 4000) // 8, 127),
        ("mtmfi", "mtm-all", "mtm-all", 260, (1152 + 4000) // 8, 127),
        ("mtmfi", "mtmfi-dv", "mtmfi-dv", 260, 1152 // 8, 127),
    ],
)
def test_schedules_are_epochs_of_the_recipes_own_data(paper, method, recipe, stage, epochs, iterations, drops) -> None:
    node = next(n for n in paper.run(method, recipe, 0).stages if n.stage == stage)
    assert node.params.steps == epochs * iterations
    assert node.params.optimizer.lr_drop_steps == (drops * iterations, 2 * drops * iterations)
    if "gate" in stage:
        assert node.params.loss["margin_steps"] == 120 * iterations


def test_a_difference_becomes_a_sentence_and_says_whether_it_moves_a_score(paper, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    (equal,) = changed(paper, path, GOOD)
    assert (equal.verdict, equal.sentence) == ("equal", "")
    (row,) = changed(paper, path, GOOD.replace("300000", "200000"))
    assert row.sentence == "stm/s012, s0: steps is 300000; published is 200000 (a note)."
    run = paper.run("stm", "s012", 0)
    assert named_deviations(paper.study, run, path) == ((row.sentence, True),)
    (row,) = changed(paper, path, GOOD.replace("300000,code", ",none"))
    assert row.verdict == "assumed"
    ((sentence, moves),) = named_deviations(paper.study, run, path)
    assert sentence == "Of the training of stm/s012 these were not published, ours are assumptions: steps."
    assert not moves


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.replace("code", "rumor"), "line 2: unknown evidence 'rumor'"),
        (GOOD.replace("300000", ""), "line 2: a value needs evidence"),
        (GOOD.replace("300000", "adam"), "line 2: value adam is not JSON"),
        (GOOD.replace(",yes", ",perhaps"), "line 2: moves is 'perhaps'"),
        (GOOD.replace("steps", "stepz"), "stm/s0 has no parameter 'stepz'"),
    ],
)
def test_a_bad_row_is_named(paper, tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(paper, tmp_path / "table.csv", row)


def test_weights_that_were_not_trained_here_are_run_at_the_published_size(in_root) -> None:
    plan = load_plan("params/studies/released.yaml")
    rows = {run.key: compare_training(plan.study, run) for run in plan.runs if run.method != "others"}
    shown = {key: [(row.published.parameter, row.stage, row.verdict) for row in found] for key, found in rows.items()}
    assumed = {"stm/stm2019/seed0"}
    for key, found in shown.items():
        verdict = "assumed" if key in assumed else "equal"
        assert found == [("input_short_side_px", "inference", verdict)], key
    run = plan.run("stm", "stm2019", 0)
    assert [text for text, _ in named_deviations(plan.study, run)] == [
        "Of stm/stm2019 these were not published, ours are assumptions: input_short_side_px."
    ]


def test_a_row_of_released_weights_cannot_name_a_training_parameter(in_root, tmp_path: Path) -> None:
    plan = load_plan("params/studies/released.yaml")
    path = tmp_path / "table.csv"
    path.write_text("\n".join([",".join(COLUMNS), GOOD.replace(",s0,", ",released,")]) + "\n")
    _loaded.cache_clear()
    with pytest.raises(ConfigError, match="stm/released has no stage with 'steps'"):
        compare_training(plan.study, plan.run("stm", "released", 0), path)


def test_recalled_numbers_never_stand_in_the_table(in_root) -> None:
    assert "recalled" not in Path("params/published_training.csv").read_text()


def test_the_table_is_printed_by_plan(in_root, capsys) -> None:
    assert (
        main(["plan", "params/studies/paper.yaml", "--published", "--method", "gfrtm", "--recipe", "rn18-ytvos"]) == 0
    )
    shown = capsys.readouterr().out
    assert "gfrtm/rn18-ytvos: ResNet-18, YouTube-VOS" in shown
    assert [line.split()[2:5] for line in shown.splitlines() if "loss.margin_steps" in line] == [
        ["60000", "60000", "equal"]
    ]


def test_held_out_twins_leave_out_what_published_recipes_train_on(paper) -> None:
    twin, own = paper.run("stm", "s012-heldout", 0), paper.run("stm", "s012", 0)
    assert [a is b for a, b in zip(twin.stages, own.stages, strict=True)] == [True, True, False]
    assert own.stages[-1].held_out == ()
    assert twin.stages[-1].held_out == load_study("params/studies/paper.yaml").selection.sequences
    assert own.candidate_steps == (150_000,)
    assert twin.candidate_steps == (50_000, 100_000, 150_000)


def test_epochs_and_steps_must_agree(paper) -> None:
    stage = paper.run("frtm", "rn18-all", 0).stages[0].params
    with pytest.raises(ValueError, match="260 epochs of 322 steps are not the 83721"):
        type(stage).model_validate(stage.model_dump() | {"steps": 83721})
    with pytest.raises(ValueError, match="come together"):
        type(stage).model_validate(stage.model_dump() | {"epochs": None})


def test_the_plan_lists_the_deviations_of_every_row_with_published_numbers(in_root, capsys):
    from vosrepro.cli import main

    assert main(["plan", "params/studies/paper.yaml", "--method", "stm", "--deviations"]) == 0
    shown = capsys.readouterr().out
    assert "stm/s012-heldout: top50/davis16-val, top50/davis17-val" in shown
    assert "  ≠ stm/s012-heldout, s2: selection is held-out; published is last" in shown
    assert main(["plan", "params/studies/paper.yaml", "--method", "pml", "--deviations"]) == 0
    assert "Of the training of pml/paper these were not published, ours are assumptions: " in capsys.readouterr().out
