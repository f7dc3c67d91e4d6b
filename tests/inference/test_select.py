"""The choice of a checkpoint, by a method whose only weight is how fast it believes that everything moves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml
from fabricated import stage_record
from toy_study import infer_run, make_davis17, write_manifest, write_study

from vosrepro.base.errors import CheckpointError, ConfigError, DamagedError, DataError
from vosrepro.base.files import file_digest, read_json
from vosrepro.base.types import Method
from vosrepro.inference.select import held_out, select_run
from vosrepro.methods import REGISTRY
from vosrepro.reporting.evidence.candidates import choices
from vosrepro.reporting.evidence.evidence import read_run
from vosrepro.scoring import score_arrays
from vosrepro.study.plan import load_plan
from vosrepro.study.records import WeightsFile
from vosrepro.weights.files import load_weights, save_weights

CPU = torch.device("cpu")
TRUTH = 2.0  # pixels a frame, see `make_davis17`


class Drift(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.speed = torch.nn.Parameter(torch.zeros(()))
        self.mark = torch.nn.Parameter(torch.zeros(()))  # tells equally good checkpoints apart


class Drifting:
    """Moves the first mask to the right by `speed` pixels a frame."""

    def __init__(self, model: Drift) -> None:
        self.speed = round(float(model.speed))

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        self.mask, self.frame = mask.long(), 0

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        self.frame += 1
        moved = self.mask.roll(self.speed * self.frame, 1)
        return torch.nn.functional.one_hot(moved, int(self.mask.max()) + 1).permute(2, 0, 1).float()


METHOD = Method(name="drift", summary="For tests.", segmenter=Drifting, build=Drift)
STAGE = {
    "title": "a stage",
    "data": [{"set": "davis17-train"}],
    "clips": {"kind": "video", "size_px": [16, 16]},
    "batch_size": 1,
    "steps": 30,
    "optimizer": {"lr": 0.001},
    "checkpoint_every_steps": 10,
}
SIZE = {"stages": {"s": STAGE}, "recipes": {"s": {"title": "s", "stages": ["s"]}}}
PARAMS = {"method": "drift", "title": "drift", "default_variant": "v", "variants": {"v": {}}, "sizes": {"mini": SIZE}}


@pytest.fixture
def study(root, tmp_path, monkeypatch):
    """Makes the plan, with a checkpoint for each speed; keys of the study file may be replaced."""

    def make(*speeds, **changes):
        for mark, speed in enumerate(speeds):
            state = {"speed": torch.tensor(speed), "mark": torch.tensor(float(mark))}
            save_weights(stage.weights(10 * (mark + 1)), state)
        made = [(step, stage.weights(step)) for step in range(10, 10 * len(speeds) + 1, 10)]
        files = [WeightsFile(path=str(path), sha256=file_digest(path), step=step) for step, path in made]
        stage_record(stage).model_copy(update={"checkpoints": tuple(files)}).write(stage.record)
        return load_plan(write_study(tmp_path, [ENTRY], **changes))

    monkeypatch.chdir(tmp_path)
    place = f"{__name__}:METHOD"
    monkeypatch.setitem(REGISTRY, "drift", place)
    monkeypatch.setattr("vosrepro.base.extensions.foreign_methods", lambda: {"drift": place})
    (tmp_path / "params/methods").mkdir(parents=True)
    (tmp_path / "params/protocols").symlink_to(root / "params/protocols")
    (tmp_path / "params/methods/drift.yaml").write_text(yaml.safe_dump(PARAMS))
    make_davis17(tmp_path / "data", split="train")
    write_manifest()
    stage = load_plan(write_study(tmp_path, [ENTRY])).stages[0]
    return make


ENTRY = {"method": "drift", "recipes": ["s"], "variants": ["v"], "benchmarks": ["davis17-val"]}


def selected(plan):
    """Select, then: the record, the table, and which of the checkpoints was copied."""
    run = plan.runs[0]
    select_run(plan, run, device=CPU, score=score_arrays)
    with (run.folder / "selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    return read_json(run.folder / "selected.json"), rows, int(load_weights(run.folder / "selected.safetensors")["mark"])


def test_the_best_checkpoint_is_recorded_marked_and_copied(study):
    plan = study(0.0, TRUTH, 1.0)
    record, rows, copied = selected(plan)
    assert [row["selected"] for row in rows] == ["false", "true", "false"]
    assert [row["last"] for row in rows] == ["false", "false", "true"]
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert copied == 1
    assert (record["step"], record["last_step"]) == (20, 30)
    assert record["weights"] == str(plan.stages[0].weights(20))
    assert record["weights_sha256"] == file_digest(plan.stages[0].weights(20))


def test_recorded_values_are_those_of_the_checkpoint_at_that_step(study):
    record, rows, _ = selected(study(0.0, TRUTH, 1.0))
    assert record["value"] == pytest.approx(1.0)
    values = [float(row["J-Mean"]) for row in rows]
    # Two 16 px wide squares are d = |2 - speed| f px too far left in frame f = 1..4: J = (16 - d) / (16 + d).
    for value, wrong in zip(values, (2, 0, 1), strict=True):
        assert value == pytest.approx(sum((16 - wrong * f) / (16 + wrong * f) for f in range(1, 5)) / 4, abs=1e-12)
    assert record["last_value"] == float(rows[2]["J&F-Mean"])


def test_of_equally_good_checkpoints_the_later_one_is_taken(study):
    record, rows, copied = selected(study(TRUTH, TRUTH, 0.0))
    assert rows[0]["J&F-Mean"] == rows[1]["J&F-Mean"]
    assert (record["step"], copied) == (20, 1)


def test_the_last_checkpoint_is_taken_when_it_is_the_best(study):
    record, _, copied = selected(study(0.0, 1.0, TRUTH))
    assert (record["step"], record["last_step"], copied) == (30, 30, 2)


def test_a_held_out_sequence_that_the_set_lacks_is_named(study):
    selection = {"set": "davis17-train", "sequences": ["train-00", "gone"]}
    plan = study(selection=selection)
    with pytest.raises(ConfigError, match=r"selects on gone, which davis17-train does not have"):
        held_out(plan)


def test_sequences_are_held_out_in_the_order_of_the_study(study):
    names = ["train-01", "train-00"]
    plan = study(selection={"set": "davis17-train", "sequences": names})
    assert [video.name for video in held_out(plan)] == names


def test_a_recipe_that_takes_the_last_checkpoint_has_no_other_candidate_and_holds_nothing_out(study):
    recipe = {"s": {"title": "s", "stages": ["s"], "selection": "last"}}
    Path("params/methods/drift.yaml").write_text(
        yaml.safe_dump(PARAMS | {"sizes": {"mini": SIZE | {"recipes": recipe}}})
    )
    plan = study(TRUTH, 0.0, 1.0)
    record, rows, copied = selected(plan)
    assert (record["step"], copied) == (30, 2)
    assert record["rule"] == "the last checkpoint, trained on all videos of its sets"
    assert [(row["step"], row["last"]) for row in rows] == [("30", "true")]
    assert plan.stages[0].held_out == ()


def test_sequences_are_held_out_only_of_stages_that_could_train_on_them(study):
    assert study().stages[0].held_out == ("train-00",)
    held = {"set": "davis17-train", "sequences": ["train-00"], "held_out_of": ["davis17-train"]}
    assert study(selection=held).stages[0].held_out == ("train-00",)
    elsewhere = study(selection=held | {"held_out_of": ["davis16-train"]})
    assert elsewhere.stages[0].held_out == ()


def test_columns_score_every_candidate_on_the_benchmark_without_changing_the_choice(study, tmp_path):
    make_davis17(tmp_path / "data")
    selection = {"set": "davis17-train", "sequences": ["train-00"], "columns": ["davis17-val"]}
    record, rows, _ = selected(study(0.0, TRUTH, 1.0, selection=selection))
    assert record["step"] == 20
    held = [float(row["J-Mean"]) for row in rows]
    assert [float(row["davis17-val/J-Mean"]) for row in rows] == pytest.approx(held, abs=1e-12)  # the same motion
    run = read_run(load_plan("toy.yaml").runs[0])
    (choice,) = choices(run, "J&F-Mean")
    assert (choice.columns.selected_step, choice.columns.best_step) == (20, 20)
    assert choice.columns.selected == pytest.approx(100.0)
    assert choice.columns.last == pytest.approx(100 * float(rows[2]["davis17-val/J&F-Mean"]))


def test_a_missing_checkpoint_is_no_candidate_that_can_be_left_out(study):
    plan = study(0.0, TRUTH)
    with pytest.raises(DamagedError, match=r"step-30\.safetensors is missing, although .*run\.json names it"):
        select_run(plan, plan.runs[0], device=CPU, score=score_arrays)
    assert not plan.stages[0].record.exists()  # so that the workflow makes the checkpoint again
    with pytest.raises(CheckpointError, match=r"step-30\.safetensors are missing: train stage s first"):
        select_run(plan, plan.runs[0], device=CPU, score=score_arrays)


def test_a_checkpoint_exchanged_for_another_valid_one_is_no_candidate(study):
    plan = study(0.0, TRUTH, 1.0)
    node = plan.stages[0]
    selected(plan)
    node.weights(20).write_bytes(node.weights(10).read_bytes())
    with pytest.raises(DamagedError, match=r"step-20\.safetensors is not the file that .*run\.json names"):
        select_run(plan, plan.runs[0], device=CPU, score=score_arrays)
    assert not node.record.exists()


@pytest.mark.parametrize("damage", ["weights", "record"])
def test_inference_takes_the_weights_that_were_selected_or_none(study, damage):
    plan = study(0.0, TRUTH, 1.0)
    make_davis17(Path("data"), split="val")
    run = plan.runs[0]
    selected(plan)
    if damage == "weights":
        run.selected_weights.write_bytes(plan.stages[0].weights(10).read_bytes())
    else:
        run.selection.write_text(run.selection.read_text()[:-50])
    named = r"selected\.safetensors is not the file" if damage == "weights" else r"selected\.json is no readable record"
    with pytest.raises(DamagedError, match=named):
        infer_run(plan, run)
    assert not run.selection.exists()
    assert selected(plan)[2] == 1
    infer_run(plan, run)


def test_a_held_out_video_without_one_of_its_frames_is_named(study):
    plan = study(0.0, TRUTH, 1.0)
    Path("data/DAVIS/2017/trainval/JPEGImages/480p/train-00/00002.jpg").unlink()
    with pytest.raises(DataError, match=r"train-00/00002\.jpg is missing, but its mask is there"):
        held_out(plan)
