from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
import torch
from forked import torch_context
from safetensors.torch import load_file

from vosrepro.base.errors import DamagedError, VosreproError
from vosrepro.base.files import file_digest
from vosrepro.tracking.journal import read_events
from vosrepro.training.loop import train
from vosrepro.training.record import identify
from vosrepro.training.state import StateFolder

PROGRAM = Path(__file__).parents[1] / "helpers/tiny_training.py"
#: A window of three steps, so that a state falls into its middle.
OPTIONS = {"state_every_steps": 2, "log_every_steps": 3}

pytestmark = pytest.mark.resume


def identical(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def metrics(node):
    """What a journal says apart from times."""
    return [
        (e["step"], {k: v for k, v in e["metrics"].items() if not k.startswith("time/")})
        for e in read_events(node.journal)
        if e["event"] == "metrics"
    ]


def uninterrupted(tiny, tmp_path, monkeypatch, params, **model):
    folder = tmp_path / "whole"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny.install(monkeypatch)
    node = tiny.node(params, **model)
    train(node, tiny.STUDY, device="cpu")
    result = load_file(node.last_weights), metrics(node)
    monkeypatch.chdir(tmp_path)
    return result


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_training_interrupted_in_the_middle_ends_with_the_same_bits(tiny, tmp_path, monkeypatch, average_decay):
    params = tiny.stage(**OPTIONS, average_decay=average_decay)
    whole, numbers = uninterrupted(tiny, tmp_path, monkeypatch, params)
    node = tiny.node(params)
    tiny.shoot_at(4, signal.SIGTERM)
    with pytest.raises(VosreproError, match=r"stopped by SIGTERM after step 5 of 10; its state is saved"):
        train(node, tiny.STUDY, device="cpu")
    assert read_events(node.journal)[-1]["status"] == "FAILED"
    train(node, tiny.STUDY, device="cpu")
    assert identical(load_file(node.last_weights), whole)
    assert metrics(node) == numbers
    assert json.loads((node.folder / "run.json").read_text())["resumed_from"] == [5]
    assert [e["event"] for e in read_events(node.journal)].count("resume") == 1


def test_interrupted_many_times_it_still_ends_with_the_same_bits(tiny, tmp_path, monkeypatch):
    params = tiny.stage(**OPTIONS, optimizer={"name": "sgd", "lr": 0.05, "weight_decay": 0.01})
    whole, numbers = uninterrupted(tiny, tmp_path, monkeypatch, params)
    node = tiny.node(params)
    for step in (0, 3, 8):
        tiny.shoot_at(step, signal.SIGTERM)
        with pytest.raises(VosreproError, match="stopped by SIGTERM"):
            train(node, tiny.STUDY, device="cpu")
    train(node, tiny.STUDY, device="cpu")
    assert identical(load_file(node.last_weights), whole)
    assert metrics(node) == numbers


def test_deleted_outputs_of_an_interrupted_job_come_back(tiny):
    import shutil

    node = tiny.node(tiny.stage(**OPTIONS))
    tiny.shoot_at(7, signal.SIGTERM)
    with pytest.raises(VosreproError, match="stopped by SIGTERM"):
        train(node, tiny.STUDY, device="cpu")
    shutil.rmtree(node.folder)  # as a workflow engine does
    train(node, tiny.STUDY, device="cpu")
    assert node.weights(5).is_file()
    assert node.weights(10).is_file()


def test_changed_data_or_parameters_never_resume(tiny, tmp_path):
    node = tiny.node(tiny.stage(**OPTIONS))
    before = identify(node).state
    assert identify(tiny.node(tiny.stage(**OPTIONS, batch_size=5))).state != before
    (tmp_path / "results/tiny/data.json").write_text('{"digest": "4567"}')
    assert identify(node).state != before


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: b"", lambda data: b"no state" * 40])
def test_a_damaged_state_is_moved_aside_and_the_training_begins_anew(tiny, tmp_path, monkeypatch, caplog, damage):
    whole, numbers = uninterrupted(tiny, tmp_path, monkeypatch, tiny.stage(**OPTIONS))
    node = tiny.node(tiny.stage(**OPTIONS))
    tiny.shoot_at(4, signal.SIGTERM)
    with pytest.raises(VosreproError, match="stopped by SIGTERM"):
        train(node, tiny.STUDY, device="cpu")
    folder = StateFolder(identify(node).state)
    state = folder.path / "state.pt"
    state.write_bytes(damage(state.read_bytes()))
    damaged = state.read_bytes()
    train(node, tiny.STUDY, device="cpu")
    assert "cannot be read" in caplog.text and "training from the start" in caplog.text
    assert Path("state/damaged", state).read_bytes() == damaged
    assert identical(load_file(node.last_weights), whole)
    assert metrics(node) == numbers


def test_lost_checkpoints_start_the_training_anew(tiny, caplog):
    node = tiny.node(tiny.stage(**OPTIONS))
    tiny.shoot_at(7, signal.SIGTERM)
    with pytest.raises(VosreproError, match="stopped by SIGTERM"):
        train(node, tiny.STUDY, device="cpu")
    StateFolder(identify(node).state).weights(5).unlink()
    train(node, tiny.STUDY, device="cpu")
    assert "training from the start" in caplog.text
    assert json.loads((node.folder / "run.json").read_text())["resumed_from"] == []


def test_a_damaged_checkpoint_is_never_published_again(tiny):
    node = tiny.node(tiny.stage(**OPTIONS))
    train(node, tiny.STUDY, device="cpu")
    whole = file_digest(node.last_weights)
    with node.last_weights.open("r+b") as file:  # the state folder holds a link to the same file
        file.truncate(100)
    train(node, tiny.STUDY, device="cpu")
    assert file_digest(node.last_weights) == whole


def chain(tiny):
    first = tiny.node(tiny.stage(**OPTIONS))
    train(first, tiny.STUDY, device="cpu")
    return first, tiny.node(tiny.stage(**OPTIONS), name="b", parent=first)


def swap(path):
    path.rename(path.with_name("kept"))
    path.write_bytes(path.with_name("step-5.safetensors").read_bytes())


def truncate(path):
    os.truncate(path, 100)


@pytest.mark.parametrize("fault", [swap, truncate, Path.unlink])
def test_start_weights_that_are_not_what_their_stage_recorded_are_moved_aside_and_made_again(tiny, fault):
    first, second = chain(tiny)
    whole = file_digest(first.last_weights)
    fault(first.last_weights)
    with pytest.raises(DamagedError, match=r"step-10\.safetensors is .*run\.json.*run the same command again"):
        train(second, tiny.STUDY, device="cpu")
    assert not first.record.exists()
    train(first, tiny.STUDY, device="cpu")
    assert file_digest(first.last_weights) == whole
    train(second, tiny.STUDY, device="cpu")


def test_a_damaged_record_of_the_stage_before_is_moved_aside_and_made_again(tiny, caplog):
    first, second = chain(tiny)
    first.record.write_text(first.record.read_text()[:-40])
    with pytest.raises(DamagedError, match=r"run\.json is no readable record of a training stage"):
        train(second, tiny.STUDY, device="cpu")
    assert not first.record.exists()
    with caplog.at_level("INFO"):
        train(first, tiny.STUDY, device="cpu")
    assert "was finished before" in caplog.text
    train(second, tiny.STUDY, device="cpu")


def test_another_title_is_in_the_record_of_the_same_weights(tiny):
    node = tiny.node(tiny.stage(**OPTIONS))
    train(node, tiny.STUDY, device="cpu")
    before = node.last_weights.stat().st_ino
    other = replace(node, params=tiny.stage(**OPTIONS | {"title": "another", "loader_workers": 1}))
    train(other, tiny.STUDY, device="cpu")
    assert json.loads(node.record.read_text())["params"]["title"] == "another"
    assert node.last_weights.stat().st_ino == before


# ------------------------------------------------------------------------------ real processes


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(options, **environment):
    """A process that trains in this folder."""
    log = Path(f"stderr-{time.monotonic_ns()}.log")
    arguments = (Path.cwd(), log, options, ENVIRONMENT | environment)
    process = torch_context().Process(target=tiny_training.begin, args=arguments, name=str(log))
    process.start()
    return process


def two_ranks(options, expected):
    """What two ranks said, with the variables that torchrun would give them; fails if their status is another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    environments = [where | {"RANK": n, "LOCAL_RANK": n, "GLOO_SOCKET_IFNAME": "lo"} for n in "01"]
    ranks = [start(options, **environment) for environment in environments]
    return "".join(finish(rank, expected) for rank in ranks)


def finish(process, expected):
    """What a process said; fails if it does not end, or with another status."""
    process.join(120)
    text = Path(process.name).read_text()
    assert process.exitcode == expected, text
    return text


def torchrun(options, expected):
    """What the program said under torchrun; fails if its status is another."""
    prefix = [sys.executable, "-m", "vosrepro.training.devices.ranks", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(PROGRAM.parent), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*prefix, str(PROGRAM), json.dumps(options)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == expected, done.stderr
    return done.stderr


@pytest.mark.slow
def test_killed_training_resumes_from_the_last_saved_state_with_the_same_bits(tiny, tmp_path, monkeypatch):
    options = {**OPTIONS, "loader_workers": 2}
    node = tiny.node(tiny.stage(**options))
    whole, numbers = uninterrupted(tiny, tmp_path, monkeypatch, tiny.stage(**options))
    tiny.shoot_at(7, signal.SIGKILL)
    finish(start(options), -signal.SIGKILL)
    assert not (node.folder / "run.json").exists()
    text = finish(start(options), 0)
    assert "resumed from step 6 of 10" in text
    assert identical(load_file(node.last_weights), whole)
    assert metrics(node) == numbers


@pytest.mark.slow
def test_a_second_process_is_turned_away_and_sigterm_saves(tiny):
    options = {**OPTIONS, "steps": 1000, "loss": {"slow_s": 0.05}}
    node = tiny.node(tiny.stage(**options))
    first = start(options)
    deadline = time.monotonic() + 90
    while len(read_events(node.journal)) < 3:
        assert time.monotonic() < deadline
        assert first.is_alive(), Path(first.name).read_text()
        time.sleep(0.1)
    assert f"process {first.pid} is already training" in finish(start(options), 4)
    first.terminate()
    text = finish(first, 1)
    assert "was stopped by SIGTERM after step" in text
    assert "run the same command to go on" in text
    assert "Traceback" not in text
    saved = StateFolder(identify(node).state).load()
    assert saved is not None
    assert saved["step"] >= 6


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True])
def test_two_processes_train_as_one_on_the_same_global_batches(tiny, tmp_path, monkeypatch, norm):
    options = {
        "loss": {"dropout": False},
        "batch_size": 5,
        "optimizer": {
            "name": "sgd",
            "lr": 0.05,
        },  # Adam would magnify the rounding of zero gradients
        "log_every_steps": 1,
        "steps": 8,
        "checkpoint_every_steps": 8,
    }
    params = tiny.stage(**options)
    whole, numbers = uninterrupted(tiny, tmp_path, monkeypatch, params, norm=norm)
    node = tiny.node(params, norm=norm)
    two_ranks({**options, "model": {"norm": norm}}, 0)
    for (step, one), (other, two) in zip(numbers, metrics(node), strict=True):
        assert step == other
        assert one["train/loss"] == pytest.approx(two["train/loss"], abs=5e-6)
    for key, value in load_file(node.last_weights).items():
        assert torch.allclose(value, whole[key], atol=1e-4), key
    assert json.loads((node.folder / "run.json").read_text())["world_size"] == 2


@pytest.mark.slow
def test_a_failing_rank_is_one_sentence_and_its_status(tiny):
    text = torchrun({"batch_size": 1}, 2)
    assert "2 processes cannot share a batch of 1" in text
    assert "ChildFailedError" not in text


@pytest.mark.parametrize("run", [two_ranks, pytest.param(torchrun, marks=pytest.mark.long)])
def test_two_processes_stop_together_on_sigterm_and_one_resumes_them(tiny, run):
    options = {"steps": 60, "checkpoint_every_steps": 60}
    node = tiny.node(tiny.stage(**options))
    tiny.shoot_at(21, signal.SIGTERM)  # only the rank that finds the file is hit
    text = run(options, 1)
    assert "after step 30 of 60; its state is saved" in text
    train(node, tiny.STUDY, device="cpu")
    assert json.loads((node.folder / "run.json").read_text())["resumed_from"] == [30]
