"""`vosrepro parity`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vosrepro.base.types import ParityRow
from vosrepro.cli import main
from vosrepro.commands import parity as parity_command


@pytest.fixture
def fixture(tmp_path):
    """A part of stm's fixture that needs no network: the resize of one grey frame."""
    frame = np.full((1, 20, 30, 3), 128, np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 10:20] = 1
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    value = ((128 / 255 - mean) / std).astype(np.float32)
    arrays = {
        "frames": frame,
        "label0": labels,
        "resize_img": np.broadcast_to(value[:, None, None], (3, 40, 60)).copy(),
        "resize_lab": labels.repeat(2, 0).repeat(2, 1),
    }

    def write(**changes):
        path = tmp_path / "part.npz"
        np.savez(path, **{**arrays, **changes})
        return str(path)

    return write


def test_agreeing_arrays_exit_with_zero_and_a_table(fixture, capsys):
    assert main(["parity", "stm", fixture()]) == 0
    out = capsys.readouterr().out
    assert "resize_img" in out
    assert "2 of 2 rows agree" in out
    assert "4 arrays: 2 compared, 2 inputs of these, 0 cannot be made, 0 informative, 0 not known" in out


def test_one_differing_array_exits_with_one(fixture, capsys):
    path = fixture(resize_img=np.zeros((3, 40, 60), np.float32))
    assert main(["parity", "stm", path, "--json"]) == 1
    rows = {row["array"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert not rows["resize_img"]["passed"]
    assert rows["resize_lab"]["passed"]


@pytest.mark.parametrize(
    ("method", "content", "sentence"),
    [
        ("copy", b"", "no original"),
        ("stm", b"not a zip", "not a readable .npz"),
        ("stm", None, "there is no fixture"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, capsys, method, content, sentence):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["parity", method, str(path)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_fixture_of_another_method_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "other.npz", something=np.zeros(2))
    assert main(["parity", "stm", str(tmp_path / "other.npz")]) == 2
    assert "no array that stm knows" in capsys.readouterr().err


def test_an_unknown_array_exits_with_one_and_is_named(fixture, capsys):
    assert main(["parity", "stm", fixture(surprise=np.zeros(2))]) == 1
    assert "not known: surprise" in capsys.readouterr().out


def test_what_is_lacking_is_named(fixture, capsys):
    assert (
        main(["parity", "stm", fixture(prob0=np.zeros((2, 32, 32), np.float32), yv_prob=np.zeros((2, 1, 8, 8)))]) == 1
    )
    assert "cannot be made: yv_prob lacks yv_" in capsys.readouterr().out


def test_not_a_number_is_not_agreement():
    assert "FAILED" in parity_command.table([ParityRow("a", float("nan"), 1.0)])
