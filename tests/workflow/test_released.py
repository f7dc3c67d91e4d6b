"""The study of released weights, from a file in upstream's layout to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from real_snakemake import snakemake
from toy_study import make_davis17

pytestmark = [pytest.mark.workflow, pytest.mark.long]


def released_study(checkout: Path) -> list[str]:
    make_davis17(checkout / "toydata", sequences=1, frames=4)
    study = {
        "study": "toy-released",
        "title": "toy",
        "size": "full",
        "data": {"root": "toydata"},
        "selection": {"sequences": []},
        "entries": [{"method": "stm", "recipes": ["released"], "variants": ["top50"], "benchmarks": ["davis17-val"]}],
    }
    (checkout / "params/studies/toy-released.yaml").write_text(yaml.safe_dump(study))
    return ["--configfile", "params/studies/toy-released.yaml", "--cores", "2", "--"]


def upstream_file(path: Path) -> None:
    """A resume checkpoint in Mask-Propagation's layout, with key-seeded weights."""
    from vosrepro.methods.common.seeded import seed_weights
    from vosrepro.methods.stm.model import STM

    network = STM()
    seed_weights(network, gain=1.05)
    path.parent.mkdir(parents=True)
    torch.save({"it": 150000, "network": network.state_dict(), "optimizer": {}}, path)


def test_a_released_checkpoint_is_imported_run_scored_and_reported(checkout):
    call = released_study(checkout)
    snakemake(checkout, *call, "reports/all.html", expect=1)
    log = (checkout / "logs/toy-released/import/stm-released.log").read_text()
    assert "download propagation_model.pth (https://drive.google.com/" in log
    assert "put it at weights/stm/released.pth" in log
    assert "Traceback" not in log
    upstream_file(checkout / "weights/stm/released.pth")
    snakemake(checkout, *call, "reports/all.html")
    run = checkout / "results/toy-released/stm/released/seed0"
    scores = json.loads((run / "scores.json").read_text())["entries"]
    assert 0 <= scores["stm/released/seed0/top50/davis17-val"]["J-Mean"] <= 1
    record = json.loads((checkout / "weights/stm/released.json").read_text())
    assert record["entries"]["used"] == 597
    assert record["source"]["licence"].startswith("MIT")
    page = (checkout / "reports/toy-released/stm.html").read_text()
    assert "84.5" in page  # Mask-Propagation's number for these weights, by `published_as`
    assert "Nothing to be done" in snakemake(checkout, *call, "reports/all.html")
    for path in (checkout / ".snakemake/metadata").rglob("*"):  # as if imported by hand
        if path.is_file() and "weights" in path.read_text():
            path.unlink()
    (checkout / "weights/stm/released.pth").unlink()
    assert "Nothing to be done" in snakemake(checkout, *call, "reports/all.html")
