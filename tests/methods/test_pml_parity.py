from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vosrepro.lab.parity import get_parity

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures/pml.npz"


def shared(root):
    folder = Path(os.environ.get("VOSREPRO_SHARED", root.parent / "shared"))
    path = folder / "golden/pml.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set VOSREPRO_SHARED to the folder that holds golden/")
    return path


def failed(arrays):
    rows = get_parity("pml")(arrays)
    assert rows
    return [f"{r.array}: {r.error:.3g} > {r.tolerance:.3g}" for r in rows if not r.passed]


@pytest.mark.parity
def test_loss_adaptation_and_solver_equal_the_recorded_outputs_of_the_seed():
    with np.load(FIXTURE) as arrays:
        assert failed(dict(arrays)) == []


@pytest.mark.parity
@pytest.mark.data
@pytest.mark.slow
def test_neighbours_votes_and_the_published_network_equal_the_recorded_outputs_of_the_seed(root):
    with np.load(shared(root)) as arrays:
        assert failed({k: arrays[k] for k in arrays.files if k.startswith(("knn_", "net_"))}) == []


@pytest.mark.parity
def test_a_deviating_array_is_noticed():
    with np.load(FIXTURE) as arrays:
        changed = {k: arrays[k] for k in arrays.files if k.startswith("loss_")}
    changed["loss_total"] = changed["loss_total"] + 1e-6
    assert [line.partition(":")[0] for line in failed(changed)] == ["loss_total"]
