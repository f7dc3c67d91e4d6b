from __future__ import annotations

import contextlib
import resource
import sys

import pytest
import torch
from safetensors.torch import load_file

from vosrepro.base.errors import DataError
from vosrepro.training.loop import train
from vosrepro.training.state import StateFolder, check_free_space


@contextlib.contextmanager
def files_end_at(size):
    """No file may grow beyond `size` bytes, as on a full disk."""
    before, written = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # or what is imported meanwhile is kept cut off, and breaks every later import
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = written


def test_a_state_that_does_not_fit_leaves_the_one_before(tmp_path):
    folder = StateFolder("x", root=tmp_path)
    folder.save({"finished": False, "step": 1, "w": torch.ones(3)})
    with (
        files_end_at(5000),
        pytest.raises(DataError, match=r"state\.pt cannot be written .*: free space"),
    ):
        folder.save({"step": 2, "w": torch.zeros(100_000)})
    saved = folder.load()
    assert saved is not None
    assert saved["step"] == 1
    assert [p.name for p in folder.path.iterdir()] == ["state.pt"]


def test_weights_that_do_not_fit_are_one_sentence(tiny):
    node = tiny.node(tiny.stage(), width=400)
    with files_end_at(20_000), pytest.raises(DataError, match=r"safetensors cannot be written"):
        train(node, tiny.STUDY, device="cpu")
    assert not (node.folder / "run.json").exists()


def test_a_state_is_read_without_running_code(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = StateFolder("x", root=tmp_path)
    folder.path.mkdir(parents=True)
    torch.save({"step": print}, folder.path / "state.pt")
    assert folder.load() is None
    assert "cannot be read (Weights only load failed" in caplog.text


def test_a_state_on_a_failing_disk_is_left_where_it_is(tmp_path):
    folder = StateFolder("x", root=tmp_path)
    (folder.path / "state.pt").mkdir(parents=True)  # reading it is an error of the operating system
    with pytest.raises(DataError, match=r"state\.pt cannot be read"):
        folder.load()
    assert (folder.path / "state.pt").exists()


def test_published_weights_share_the_bytes_of_the_private_copy(tiny):
    node = tiny.node(tiny.stage(steps=2))
    train(node, tiny.STUDY, device="cpu")
    assert node.last_weights.stat().st_nlink == 2
    assert set(load_file(node.last_weights)) == {
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    }


def test_free_space_is_checked_where_the_folder_will_be(tmp_path):
    check_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(DataError, match="[0-9] [MG]B free, but weights and resume state"):
        check_free_space(tmp_path / "not" / "yet", 1 << 60)
