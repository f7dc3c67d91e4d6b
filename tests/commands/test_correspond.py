from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.base.labels import write_labels
from vosrepro.cli import main
from vosrepro.inference.correspondence import write_pairs
from vosrepro.methods import get_method
from vosrepro.reporting.correspondences import _shown
from vosrepro.study.plan import load_plan
from vosrepro.study.records import PairsRecord
from vosrepro.weights.files import describe, open_model, save_weights

CPU = torch.device("cpu")
TINY = {
    "width": 8,
    "blocks": [1, 1, 1],
    "key_dim": 8,
    "value_dim": 16,
    "decoder_dim": 8,
    "block": "basic",
}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = get_method("stm").build(**TINY)
    save_weights(tmp_path / "w.safetensors", network.state_dict(), {"method": "stm", "model": TINY})
    return tmp_path / "w.safetensors"


@pytest.fixture
def frames(tmp_path):
    """A texture and the same one a cell (16 px) further to the right."""
    texture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), texture)
    cv2.imwrite(str(tmp_path / "b.png"), np.roll(texture, 16, axis=1))
    return tmp_path / "a.png", tmp_path / "b.png"


def test_weights_say_what_they_are(weights):
    assert describe(weights)["model"] == TINY
    name, network = open_model(weights, device=CPU)
    assert name == "stm"
    assert not network.training


def test_weights_of_others_are_refused_in_a_sentence(tmp_path):
    save_weights(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not say which method"):
        describe(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        describe(tmp_path / "y.safetensors")


def test_a_point_gives_the_map_of_its_cell(weights, frames, tmp_path, capsys):
    out = tmp_path / "heat.npy"
    command = ["correspond", *map(str, frames), "--weights", str(weights), "--out", str(out)]
    assert main([*command, "--point", "40,20"]) == 0
    heat = np.load(out)
    assert heat.shape == (64, 96)
    assert 0 <= heat.min() < heat.max() <= 1
    _, model = open_model(weights, device=CPU)
    images = [torch.from_numpy(cv2.imread(str(f))[..., ::-1].copy()) for f in frames]
    found = get_method("stm").correspond(model, *(i.permute(2, 0, 1) / 255 for i in images))
    assert torch.allclose(found.weights.sum(0), torch.ones(24), atol=1e-5)
    place = torch.zeros(found.grid)
    place[1, 2] = 1  # the cell of pixel (40, 20)
    np.testing.assert_allclose(heat, found.transfer(place).numpy(), atol=1e-5)
    assert "largest at" in capsys.readouterr().out


def test_a_mask_gives_the_sum_of_its_cells_and_a_picture(weights, frames, tmp_path):
    labels = np.zeros((64, 96), np.uint8)
    labels[16:48, 32:64] = 3
    write_labels(tmp_path / "m.png", labels)
    out = tmp_path / "heat.png"
    command = ["correspond", *map(str, frames), "--weights", str(weights), "--out", str(out)]
    assert main([*command, "--mask", str(tmp_path / "m.png")]) == 0
    assert cv2.imread(str(out)).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--point", "96,0"], "outside of the image of 96x64"),
        (["--mask", "none.png"], "none.png"),
        (["--point", "1,1", "--out", "heat.jpg"], "must end with .png or .npy"),
        (["--point", "1,1", "--weights", "gone.safetensors"], "no weights file gone.safetensors"),
    ],
)
def test_mistakes_are_one_sentence(weights, frames, extra, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["correspond", *map(str, frames), "--weights", str(weights), *extra]) != 0
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text


def test_frames_of_two_sizes_are_refused(weights, frames, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((60, 96, 3), np.uint8))
    paths = [str(frames[0]), str(tmp_path / "c.png")]
    assert main(["correspond", *paths, "--weights", str(weights), "--point", "1,1"]) == 2
    assert "96x64 pixels but" in capsys.readouterr().err


def test_a_run_leaves_pairs_that_the_page_can_read(weights, tmp_path, monkeypatch, root):
    from toy_study import make_davis17, write_study

    monkeypatch.chdir(tmp_path)
    make_davis17(tmp_path / "data")
    entry = {
        "method": "stm",
        "recipes": ["untrained"],
        "variants": ["full"],
        "benchmarks": ["davis17-val"],
    }
    plan = load_plan(write_study(tmp_path, [entry]), root=root / "params")
    run = plan.runs[0]
    _, model = open_model(weights, device=CPU)
    write_pairs(plan, run, model, device=CPU)
    folder = run.folder / "correspondences"
    record = json.loads((folder / "correspondences.json").read_text())
    assert [p["video"] for p in record["pairs"]] == ["val-00", "val-01"]
    pair = record["pairs"][0]
    image = cv2.imread(str(folder / "val-00.png"), cv2.IMREAD_UNCHANGED)
    cells = pair["grid"][0] * pair["grid"][1]
    assert image.shape == (cells, cells)
    assert (image.max(axis=1) == 255).all()
    assert len(pair["peaks"]) == cells
    shown = _shown(PairsRecord.read(run.pairs).pairs[0], folder)
    assert shown["frames"][0].startswith("data:image/jpeg;base64,")
