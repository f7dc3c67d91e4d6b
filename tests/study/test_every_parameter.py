"""Every key of the parameter files is either part of what a result is, or may be changed without doing it again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import BaseModel

from vosrepro.study.digests import asked_entry, asked_scores, asked_selection, asked_stage
from vosrepro.study.params import (
    BenchmarkParams,
    ClipParams,
    DataSource,
    ExtentParams,
    OptimizerParams,
    ParameterGroup,
    SelectionParams,
    StageParams,
    TruthParams,
)
from vosrepro.study.plan import load_plan

#: Another value of each key, and whether the stage is then trained anew.
STAGE = {
    "title": ("another", False),
    "data": ((DataSource(set="bl30k"),), True),
    "clips": (ClipParams(kind="another"), True),
    "model": ({"width": 9}, True),
    "loss": ({"factor": 2.0}, True),
    "batch_size": (96, True),
    "micro_batch": (1, False),  # the same gradient, in smaller pieces
    "steps": (96, True),
    "epochs": (7, True),
    "steps_per_epoch": (7, True),
    "optimizer": (OptimizerParams(lr=7.0), True),
    "precision": ("bf16", True),
    "average_decay": (0.7, True),
    "checkpoint_every_steps": (7, True),  # the checkpoints that selection chooses from
    "state_every_steps": (7, False),
    "log_every_steps": (7, False),
    "loader_workers": (7, False),
    "revision": (7, True),
}
CLIPS = {
    "kind": "another",
    "frames": 7,
    "objects": 7,
    "size_px": (70, 70),
    "augment": "another",
    "pick": "anywhere",
    "max_jump": ((0.0, 7),),
    "options": {"another": 7},
}
SOURCE = {"set": "bl30k", "repeat": 7, "min_labels": 7}
GROUP = {"prefixes": ("another",), "lr_factor": 7.0, "weight_decay": 0.7, "updates_per_step": 7, "vectors": True}
OPTIMIZER = {
    "name": "sgd",
    "lr": 7.0,
    "weight_decay": 0.7,
    "momentum": 0.7,
    "amsgrad": True,
    "groups": (ParameterGroup(prefixes=("another",)),),
    "lr_warmup_steps": 7,
    "lr_drop_steps": (7,),
    "lr_drop_factor": 0.7,
    "schedule": "poly",
    "gradient_clip": 0.7,
}
SELECTION = {
    "set": "another",
    "sequences": ("another",),
    "held_out_of": ("another",),
    "columns": ("another",),  # its table has more columns then
    "scoring": "another",
    "metric": "another",
}
#: Another value of each key, and what is then done again.
BENCHMARK = {
    "benchmark": ("another", "masks"),
    "title": ("another", ""),
    "version": (7, "scores"),
    "dataset": ("another", "masks and scores"),
    "split": ("another", "masks and scores"),
    "scoring": ("another", "scores"),
    "frame_source": ("annotated", "masks"),
    "keep_given": (False, "masks"),
    "beside": (TruthParams(title="t", dataset="another", split="s", scoring="s"), "scores"),
    "fit_px": ((7, 7), "masks"),
    "extent": (None, ""),
    "crop_px": (7, "masks"),
    "primary_metrics": (("another",), ""),
    "margin_points": ({"another": 7.0}, ""),
    "margin_points_on_the_way": ({"another": 7.0}, ""),
}


@pytest.fixture(scope="module")
def plan(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return load_plan("params/studies/mini.yaml")


@pytest.mark.parametrize(
    ("model", "table"),
    [
        (StageParams, STAGE),
        (ClipParams, CLIPS),
        (DataSource, SOURCE),
        (OptimizerParams, OPTIMIZER),
        (ParameterGroup, GROUP),
        (SelectionParams, SELECTION),
        (BenchmarkParams, BENCHMARK),
    ],
)
def test_the_tables_hold_every_key(model: type[BaseModel], table: dict):
    assert set(table) == set(model.model_fields)


def trained_anew(plan, **change: object) -> bool:
    """Whether a stage is trained anew after a change of its parameters."""
    node = next(n for n in plan.stages if (n.method, n.stage) == ("stm", "s0"))
    key, data = (node.method, node.seed, node.stage), plan.study.data
    assert all(getattr(node.params, name) != value for name, value in change.items())
    before, after = (
        asked_stage(key, params, node.model, data, (), None)
        for params in (node.params, node.params.model_copy(update=change))
    )
    return before != after


@pytest.mark.parametrize("name", STAGE)
def test_a_stage_is_trained_anew_for_what_it_learns_from_and_for_nothing_else(plan, name):
    value, anew = STAGE[name]
    assert trained_anew(plan, **{name: value}) is anew


@pytest.mark.parametrize("name", CLIPS)
def test_every_key_of_its_clips_counts(plan, name):
    stage = next(n for n in plan.stages if (n.method, n.stage) == ("stm", "s0")).params
    assert getattr(stage.clips, name) != CLIPS[name]
    assert trained_anew(plan, clips=stage.clips.model_copy(update={name: CLIPS[name]}))


@pytest.mark.parametrize("name", SOURCE)
def test_every_key_of_its_data_counts(plan, name):
    stage = next(n for n in plan.stages if (n.method, n.stage) == ("stm", "s0")).params
    assert getattr(stage.data[0], name) != SOURCE[name]
    assert trained_anew(plan, data=(stage.data[0].model_copy(update={name: SOURCE[name]}), *stage.data[1:]))


@pytest.mark.parametrize("name", [*OPTIMIZER, *GROUP])
def test_every_key_of_its_optimizer_counts(plan, name):
    stage = next(n for n in plan.stages if (n.method, n.stage) == ("stm", "s0")).params
    grouped = stage.optimizer.model_copy(update={"groups": (ParameterGroup(prefixes=("a",)),)})
    after = grouped.groups[0].model_copy(update={name: GROUP[name]}) if name in GROUP else None
    changes = [{"groups": (after,)}] if after else []
    changes += [{name: OPTIMIZER[name]}] if name in OPTIMIZER else []
    assert all(grouped.model_copy(update=change) != grouped for change in changes)
    node = next(n for n in plan.stages if (n.method, n.stage) == ("stm", "s0"))
    asked = [
        asked_stage(("stm", 0, "s0"), stage.model_copy(update={"optimizer": o}), node.model, plan.study.data, (), None)
        for o in (grouped, *(grouped.model_copy(update=change) for change in changes))
    ]
    assert len(set(asked)) == 1 + len(changes)


@pytest.mark.parametrize("name", SELECTION)
def test_every_key_of_the_selection_counts(plan, name):
    run, selection = plan.run("stm", "s012", 0), plan.study.selection
    assert getattr(selection, name) != SELECTION[name]
    after = asked_selection(run, selection.model_copy(update={name: SELECTION[name]}))
    assert after != asked_selection(run, selection)


@pytest.mark.parametrize("name", BENCHMARK)
def test_masks_and_scores_are_made_again_for_what_a_benchmark_is_and_not_for_how_it_is_shown(plan, name):
    value, again = BENCHMARK[name]
    entry = next(e for e in plan.entries if e.key.startswith("stm/s012"))
    counted = ExtentParams(videos=1, objects=1, source="somebody")
    before = replace(entry, benchmark_params=entry.benchmark_params.model_copy(update={"extent": counted}))
    after = replace(before, benchmark_params=before.benchmark_params.model_copy(update={name: value}))
    assert after.benchmark_params != before.benchmark_params
    assert (asked_entry(after) != asked_entry(before)) is ("masks" in again)
    assert (asked_scores([after]) != asked_scores([before])) is ("scores" in again)
