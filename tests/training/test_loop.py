from __future__ import annotations

import json
import multiprocessing

import pytest
import torch
from safetensors.torch import load_file

from vosrepro.base.errors import BusyError, CheckpointError, ConfigError, DataError, VosreproError
from vosrepro.base.files import file_digest
from vosrepro.lab.train import bench, throughput_row
from vosrepro.tracking.journal import read_events
from vosrepro.training.data.order import build_seed
from vosrepro.training.devices.world import World
from vosrepro.training.job import MicroBatch
from vosrepro.training.loop import train
from vosrepro.training.meter import LossGuard
from vosrepro.training.state import StateFolder


def weights_of(node):
    return load_file(node.last_weights)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_leaves_weights_journal_and_record(tiny):
    node = tiny.node(tiny.stage())
    train(node, tiny.STUDY, device="cpu")
    record = json.loads((node.folder / "run.json").read_text())
    assert [c["step"] for c in record["checkpoints"]] == [5, 10]
    for checkpoint in record["checkpoints"]:
        assert file_digest(checkpoint["path"]) == checkpoint["sha256"]
    assert record["status"] == "FINISHED"
    assert record["data_digest"] == "0123"
    assert record["resumed_from"] == []
    assert record["world_size"] == 1
    assert record["samples_per_second"] > 0
    events = read_events(node.folder / "metrics.jsonl")
    assert [e["event"] for e in events] == ["start", *["metrics"] * 4, "end"]
    assert [e["step"] for e in events[1:-1]] == [3, 6, 9, 10]
    assert {
        "train/loss",
        "train/lr",
        "train/iou",
        "time/samples_per_second",
        "time/loader_share",
    } <= set(events[1]["metrics"])
    assert read_events(node.journal) == events


def test_training_learns(tiny):
    node = tiny.node(tiny.stage(steps=60, checkpoint_every_steps=60))
    train(node, tiny.STUDY, device="cpu")
    losses = [e["metrics"]["train/loss"] for e in read_events(node.journal) if e["event"] == "metrics"]
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_without_anything_to_learn_leaves_the_weights(tiny):
    node = tiny.node(tiny.stage(loss={"skip_from": 5}))
    train(node, tiny.STUDY, device="cpu")
    assert same(load_file(node.weights(5)), load_file(node.weights(10)))


def test_checkpoints_can_hold_the_average_of_the_weights(tiny):
    plain = tiny.node(tiny.stage(steps=6, checkpoint_every_steps=1, average_decay=None))
    train(plain, tiny.STUDY, device="cpu")
    weights = [load_file(plain.weights(step)) for step in range(1, 7)]
    averaged = tiny.node(tiny.stage(steps=6, checkpoint_every_steps=6, average_decay=0.5))
    torch.manual_seed(build_seed(averaged.seed, averaged.stage))
    mean = {k: v.clone() for k, v in tiny.TinyNet().state_dict().items()}
    for step, after in enumerate(weights):
        share = 1 - min(0.5, (1 + step) / (10 + step))
        mean = {k: v + share * (after[k] - v) for k, v in mean.items()}
    train(averaged, tiny.STUDY, device="cpu")
    found = weights_of(averaged)
    for name, value in mean.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def test_two_trainings_with_one_seed_are_bit_identical_and_another_seed_differs(tiny, tmp_path, monkeypatch):
    results, digests = [], []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        tiny.install(monkeypatch)
        node = tiny.node(tiny.stage(), seed=seed)
        train(node, tiny.STUDY, device="cpu")
        results.append(weights_of(node))
        digests.append([file_digest(node.weights(step)) for step in (5, 10)])
    assert same(results[0], results[1])
    assert digests[0] == digests[1]
    assert not same(results[0], results[2])


def test_the_second_stage_starts_from_the_transferred_weights_of_the_first(tiny):
    first = tiny.node(tiny.stage(steps=4), objects=1)
    second = tiny.node(tiny.stage(steps=1, optimizer={"lr": 1e-9}), name="b", parent=first, objects=2)
    with pytest.raises(CheckpointError, match="train stage a first"):
        train(second, tiny.STUDY, device="cpu")
    clips = tiny.stage().clips.model_copy(update={"objects": 1})
    first = tiny.node(tiny.stage(steps=4, clips=clips.model_dump()), objects=1)
    second = tiny.node(second.params, name="b", parent=first, objects=2)
    train(first, tiny.STUDY, device="cpu")
    train(second, tiny.STUDY, device="cpu")
    a, b = weights_of(first), weights_of(second)
    assert torch.allclose(a["first.weight"], b["first.weight"], atol=1e-6)
    assert torch.allclose(a["second.weight"], b["second.weight"][:2], atol=1e-6)
    record = json.loads((second.folder / "run.json").read_text())
    assert record["parent"]["sha256"] == file_digest(first.last_weights)


def test_a_method_without_weights_cannot_be_trained(tiny, monkeypatch):
    bare = tiny.Method(name="tiny", summary="", segmenter=lambda model: None)
    monkeypatch.setattr(tiny, "METHOD", bare)
    with pytest.raises(ConfigError, match="no weights to train"):
        train(tiny.node(tiny.stage()), tiny.STUDY, device="cpu")


def test_a_loss_that_is_not_finite_names_its_step_and_fails_the_journal(tiny):
    node = tiny.node(tiny.stage(loss={"nan_at": 6}))
    with pytest.raises(VosreproError, match=r"is not finite at step 6: lower the learning rate"):
        train(node, tiny.STUDY, device="cpu")
    assert read_events(node.journal)[-1]["status"] == "FAILED"
    assert not (node.folder / "run.json").exists()


def test_missing_data_manifest_says_what_to_run(tiny, tmp_path):
    (tmp_path / "results/tiny/data.json").unlink()
    with pytest.raises(DataError, match=r"results/tiny/data\.json is missing"):
        train(tiny.node(tiny.stage()), tiny.STUDY, device="cpu")


def test_an_empty_training_set_names_the_sets(tiny, monkeypatch):
    from vosrepro import datasets

    monkeypatch.setattr(datasets, "training_videos", lambda *a, **k: [])
    with pytest.raises(DataError, match="davis17-train in data have no usable item"):
        train(tiny.node(tiny.stage()), tiny.STUDY, device="cpu")


def test_a_full_disk_is_one_sentence(tiny, monkeypatch):
    import shutil

    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match="free space, then run again"):
        train(tiny.node(tiny.stage()), tiny.STUDY, device="cpu")


def test_a_second_trainer_of_the_same_stage_is_told_who_holds_it(tiny):
    import os

    from vosrepro.training.record import identify

    node = tiny.node(tiny.stage())
    with (
        StateFolder(identify(node).state).locked(),
        pytest.raises(BusyError, match=f"process {os.getpid()} "),
    ):
        train(node, tiny.STUDY, device="cpu")


def test_a_finished_training_writes_its_outputs_again_without_training(tiny, monkeypatch):
    import shutil

    node = tiny.node(tiny.stage())
    train(node, tiny.STUDY, device="cpu")
    before = weights_of(node), (node.folder / "run.json").read_text()
    shutil.rmtree(node.folder)
    node.journal.unlink()
    monkeypatch.setattr("vosrepro.training.loop.take_steps", None)
    train(node, tiny.STUDY, device="cpu")
    assert same(weights_of(node), before[0])
    assert (node.folder / "run.json").read_text() == before[1]
    assert read_events(node.journal)[-1]["event"] == "end"


def test_stale_outputs_of_other_parameters_are_removed(tiny):
    node = tiny.node(tiny.stage())
    stale = node.weights(7)
    stale.parent.mkdir(parents=True)
    stale.touch()
    train(node, tiny.STUDY, device="cpu")
    assert sorted(p.name for p in stale.parent.iterdir()) == [
        "step-10.safetensors",
        "step-5.safetensors",
    ]


def test_accumulated_micro_batches_give_the_same_result(tiny, tmp_path, monkeypatch):
    results = []
    for name, micro in (("a", None), ("b", 1), ("c", 3)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        tiny.install(monkeypatch)
        node = tiny.node(tiny.stage(loss={"dropout": False}, optimizer={"name": "sgd", "lr": 0.05}))
        train(node, tiny.STUDY, device="cpu", micro_batch=micro)
        results.append(weights_of(node))
    for other in results[1:]:
        for key, value in results[0].items():
            assert torch.allclose(value, other[key], atol=1e-6), key


@pytest.mark.parametrize(
    ("asked", "of_study", "live", "found"),
    [
        (None, None, False, 4),
        (None, 3, False, 3),
        (2, 3, False, 2),
        (9, None, False, 4),
        (9, None, True, 4),
        (None, 3, True, 4),  # the study's is left out where it would change statistics
    ],
)
def test_a_training_then_its_study_say_how_many_samples_are_forwarded_at_once(asked, of_study, live, found):
    assert MicroBatch(asked, of_study).limit(4, live=live) == found


def test_micro_batches_that_would_change_batch_statistics_are_refused(tiny):
    with pytest.raises(ConfigError, match="batch normalization"):
        train(tiny.node(tiny.stage(micro_batch=2), norm=True), tiny.STUDY, device="cpu")


def test_a_study_that_says_micro_batches_gives_the_same_weights(tiny, tmp_path, monkeypatch):
    results = []
    for name, micro in (("a", None), ("b", 3)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        tiny.install(monkeypatch)
        node = tiny.node(tiny.stage(loss={"dropout": False}, optimizer={"name": "sgd", "lr": 0.05}))
        train(node, tiny.STUDY.model_copy(update={"micro_batch": micro}), device="cpu")
        results.append(weights_of(node))
    for key, value in results[0].items():
        assert torch.allclose(value, results[1][key], atol=1e-6), key


def test_micro_batches_of_a_stage_change_no_digest(tiny):
    assert tiny.stage(micro_batch=2).model_dump() == tiny.stage().model_dump()


def test_worker_processes_do_not_change_the_result(tiny, tmp_path, monkeypatch):
    results = []
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        monkeypatch.chdir(tmp_path / str(workers))
        tiny.install(monkeypatch)
        node = tiny.node(tiny.stage(loader_workers=workers))
        train(node, tiny.STUDY, device="cpu")
        results.append(weights_of(node))
    assert same(*results)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_frame_is_one_sentence_wherever_it_is_read(tiny, monkeypatch, workers):
    from vosrepro import datasets

    def broken(path):
        raise DataError(f"{path} is truncated: extract or download this file again")

    monkeypatch.setattr(datasets, "read_frame", broken)
    node = tiny.node(tiny.stage(loader_workers=workers))
    with pytest.raises(DataError, match=r"^v\d/\d+\.jpg is truncated: .* this file again$"):
        train(node, tiny.STUDY, device="cpu")
    assert read_events(node.journal)[-1]["status"] == "FAILED"


def test_workers_of_a_failed_training_end_with_it(tiny):
    node = tiny.node(tiny.stage(loader_workers=1, loss={"nan_at": 2}))
    with pytest.raises(VosreproError, match="not finite"):
        train(node, tiny.STUDY, device="cpu")
    assert not multiprocessing.active_children()  # they ignore SIGTERM, so Python's exit would hang


def test_more_processes_than_samples_are_refused():
    assert [list(World(rank, 3).share(7)) for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    with pytest.raises(ConfigError, match="8 processes cannot share a batch of 7"):
        World(0, 8).share(7)


def test_the_guard_remembers_the_first_bad_step_until_it_is_asked():
    guard = LossGuard(torch.device("cpu"))
    for step, loss in enumerate([1.0, 2.0, float("inf"), float("nan"), 3.0]):
        guard.note(torch.tensor(loss), step=step)
    assert guard.first_bad_step() == 2


def test_a_bench_measures_without_leaving_anything(tiny, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    figures = bench(tiny.node(tiny.stage()), tiny.STUDY, steps=4, device="cpu", threads=1)
    assert figures["loader"] > figures["both"] > 0
    assert figures["step"] > 0
    assert figures["batch_size"] == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bench_without_data_measures_the_step_alone(tiny):
    node = tiny.node(tiny.stage())
    figures = bench(node, tiny.STUDY, steps=1, warm_steps=1, batch=1, random=True, device="cpu")
    assert figures["step"] > 0
    assert (figures["loader"], figures["both"], figures["batch_size"]) == (None, None, 1)
    row = throughput_row(node, "full", figures, note="busy")
    assert (row["kind"], row["name"], row["gpus"]) == ("train", node.stage, 0)
    assert row["samples_per_second"] == figures["step"]
    assert row["source"].startswith("vosrepro bench train, a random batch of 1, ")
    assert row["source"].endswith("; busy")
