"""What forbids a comparison with a paper, one cause at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabricated import stage_record

from vosrepro.reporting.evidence.deviations import FULL_SIZE, Deviation, blocking, find_deviations
from vosrepro.reporting.evidence.evidence import Evidence, collect
from vosrepro.study.params import load_benchmark
from vosrepro.study.plan import Plan, load_plan


def of_papers(plan: Plan, **data: bool) -> Plan:
    """The plan as if its networks, seeds and data were those of the papers."""
    changes = {"generated": False} | data
    study = plan.study.model_copy(
        update={"size": FULL_SIZE, "seeds": (0, 1, 2), "data": plan.study.data.model_copy(update=changes)}
    )
    return replace(plan, study=study)


def blockers(evidence: Evidence) -> set[str]:
    return {d.scope for d in find_deviations(evidence) if d.blocks}


def test_a_study_like_the_papers_has_no_blocker(unstarted: Plan) -> None:
    assert blockers(collect(of_papers(unstarted))) == set()


def test_generated_data_block_whatever_the_size(unstarted: Plan) -> None:
    (found,) = (d for d in find_deviations(collect(of_papers(unstarted, generated=True))) if d.blocks)
    assert (found.scope, found.text.split(";")[0]) == ("study", "All videos and images are generated")


def test_small_networks_block_whatever_the_data(unstarted: Plan) -> None:
    plan = of_papers(unstarted)
    small = replace(plan, study=plan.study.model_copy(update={"size": "mini"}))
    (found,) = (d for d in find_deviations(collect(small)) if d.blocks)
    assert (found.scope, found.text.split(",")[0]) == ("study", "Networks and schedules have the size 'mini'")


@pytest.mark.parametrize(
    ("name", "blocks", "says"),
    [
        ("ytvos18-jjval", True, "our reading of the YouTube-VOS rules"),
        ("ytvos18-val", False, "challenge server only"),
        ("davis17-val", False, None),
        ("davis16-val", False, None),
    ],
)
def test_only_rules_that_we_had_to_guess_block_a_benchmark(in_root, unstarted, name, blocks, says) -> None:
    plan = of_papers(unstarted)
    benchmark = load_benchmark(name)
    found = find_deviations(replace(collect(plan), plan=replace(plan, benchmarks={name: benchmark})))
    of_it = [d for d in found if d.scope == name]
    late = [
        d for d in of_it if "where an object begins" in d.text
    ]  # the given masks of late objects, which blocks nothing
    assert [d.blocks for d in late] == ([False] if says and benchmark.keep_given else [])
    of_it = [d for d in of_it if d not in late]
    assert [d.blocks for d in of_it] == ([] if says is None else [blocks])
    assert all(says in d.text for d in of_it)
    assert (blocking(found, "elsewhere", name) is not None) is blocks


@pytest.mark.parametrize(
    ("change", "blocks"), [({"status": "FAILED"}, True), ({"data_digest": "f" * 16}, True), ({}, False)]
)
def test_a_training_that_failed_or_saw_other_data_blocks_its_run_alone(own_copy: Plan, change, blocks) -> None:
    node = own_copy.run("stm", "s0", 1).stages[0]
    stage_record(node, **change).write(node.record)
    assert blockers(collect(of_papers(own_copy))) == ({f"stm/{node.recipe}/seed1"} if blocks else set())


def test_blockers_come_first_and_only_those_of_the_scopes_asked_for_count() -> None:
    told, other, blocker = (Deviation("a", "", False), Deviation("b", "", True), Deviation("a", "x", True))
    assert blocking([told, other, blocker], "a") is blocker
    assert blocking([told, other], "a") is None


def test_a_training_on_fewer_devices_than_the_study_names_is_noted_and_blocks_nothing(own_copy: Plan) -> None:
    node = own_copy.run("stm", "s0", 1).stages[0]
    stage_record(node, world_size=2).write(node.record)
    plan = of_papers(own_copy)
    two = replace(plan, study=plan.study.model_copy(update={"gpus_per_training": 2}))
    found = {d.scope: d for d in find_deviations(collect(two)) if "devices that the study names" in d.text}
    assert found and not any(d.blocks for d in found.values())
    assert f"stm/{node.recipe}/seed1" not in found  # it had both
    assert all("trained on 1 of the 2 devices" in d.text for d in found.values())


def test_the_variant_that_chose_a_checkpoint_is_named_where_others_use_it(in_root) -> None:
    plan = load_plan("params/studies/paper.yaml")
    found = {d.scope: d.text for d in find_deviations(collect(plan)) if "is chosen with its variant" in d.text}
    assert found["pml/paper-heldout"] == (
        "The checkpoint of pml/paper-heldout is chosen with its variant adapt-solver, also for plain."
    )
    assert "pml/paper" not in found  # takes its last weights
    assert "stm/s012-heldout" not in found  # has one variant
