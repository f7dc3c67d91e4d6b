"""Weights fit a network exactly or not at all."""

from __future__ import annotations

import pytest
import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.weights.files import build_model, load_strictly, save_weights


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.rand_like(value.float()).to(value.dtype) for name, value in network().state_dict().items()}


def test_weights_that_fit_are_taken_over_whole():
    ours, given = network(), state()
    load_strictly(ours, given, source="w")
    assert all(torch.equal(value, given[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("0.bias"), r"^w does not fit the network: 1 keys are missing \(0\.bias\)$"),
        (lambda s: s.update(more=torch.zeros(1)), r"^w does not fit the network: 1 keys are unknown \(more\)$"),
        (
            lambda s: s.update({"0.bias": torch.zeros(3)}),
            r"1 keys are of wrong shape \(0\.bias: \(3,\) instead of \(2,\)\)$",
        ),
        (
            lambda s: s.update({"bias": s.pop("0.bias")}),
            r"1 keys are missing \(0\.bias\); 1 keys are unknown \(bias\)$",
        ),
        (lambda s: s.pop("1.running_mean"), r"1 keys are missing \(1\.running_mean\)$"),
        (
            lambda s: s.clear(),
            r"6 keys are missing \(0\.weight, 0\.bias, 1\.weight, 1\.bias, 1\.running_mean, \.\.\.\)$",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, says):
    ours, given = network(), state()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    change(given)
    with pytest.raises(CheckpointError, match=says):
        load_strictly(ours, given, source="w")
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_only_the_number_of_batches_may_be_missing():
    given = state()
    del given["1.num_batches_tracked"]
    load_strictly(network(), given, source="w")


@pytest.mark.parametrize("change", ["more", "less"])
def test_a_weights_file_with_a_key_more_or_less_does_not_build_a_model(tmp_path, change):
    model, path = {"cell_px": 4, "width": 8, "blocks": [1, 1, 1, 0], "norm": "batch"}, tmp_path / "w.safetensors"
    whole = build_model("pml", model, weights=None, seed=0, device=torch.device("cpu"))
    given = dict(whole.state_dict())
    if change == "more":
        given["more"] = torch.zeros(1)
    else:
        given.pop(next(iter(given)))
    save_weights(path, given)
    with pytest.raises(CheckpointError, match=r"w\.safetensors does not fit the network: 1 keys are (missing|unknown)"):
        build_model("pml", model, weights=path, seed=0, device=torch.device("cpu"))
