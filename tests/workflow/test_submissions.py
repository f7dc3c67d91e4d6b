"""Zips for challenge servers as targets of the DAG."""

from __future__ import annotations

import json
import zipfile

import pytest
import yaml
from real_snakemake import snakemake

from vosrepro.cli import main
from vosrepro.datasets.generated import generate

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def server_study(checkout) -> list[str]:
    generate(checkout / "toydata", seed=0, limit=2, processes=1)
    study = {
        "study": "servers",
        "title": "toy",
        "size": "mini",
        "data": {"root": "toydata"},
        "selection": {"sequences": []},
        "entries": [
            {
                "method": "copy",
                "recipes": ["none"],
                "variants": ["default"],
                "benchmarks": ["davis17-testdev", "ytvos18-val", "davis17-val"],
            }
        ],
    }
    (checkout / "params/studies/servers.yaml").write_text(yaml.safe_dump(study))
    return ["--configfile", "params/studies/servers.yaml", "--cores", "2", "--"]


def test_masks_are_checked_and_packed_for_each_server(checkout, monkeypatch, capsys):
    call = server_study(checkout)
    snakemake(checkout, *call, "submissions")
    made = sorted(p.name for p in (checkout / "submissions/servers").glob("*.zip"))
    assert made == ["copy_none_seed0_default_davis17-testdev.zip", "copy_none_seed0_default_ytvos18-val.zip"]
    davis, youtube = (checkout / "submissions/servers" / name for name in made)
    with zipfile.ZipFile(davis) as archive:
        assert archive.namelist()[0] == "dev-00/00000.png"
        assert len(archive.namelist()) == 24
    with zipfile.ZipFile(youtube) as archive:
        assert all(name.startswith("Annotations/") for name in archive.namelist())
        assert {name[-6:-4] for name in archive.namelist()} <= {f"{i:02d}" for i in range(0, 36, 5)}
    record = json.loads(davis.with_suffix(".json").read_text())
    assert record["sequences"] == 2
    assert record["server"] == "davis"
    monkeypatch.chdir(checkout)
    data = "toydata/DAVIS/2017/test-dev"
    code = main(["submit", "check", str(youtube), "--for", "ytvos18-val", "--data", "toydata/YouTube/valid"])
    assert code == 0
    assert "ready to upload" in capsys.readouterr().out
    masks = "results/servers/copy/none/seed0/default/davis17-testdev/masks"
    assert main(["submit", "check", masks, "--for", "davis17-testdev", "--data", data]) == 0
    assert "Nothing to be done" in snakemake(checkout, *call, "submissions")
    (checkout / masks / "dev-00/00005.png").unlink()
    study = "state/studies/servers.json"
    assert (
        main(
            [
                "submit-entry",
                "--study",
                study,
                "--method",
                "copy",
                "--recipe",
                "none",
                "--seed",
                "0",
                "--variant",
                "default",
                "--benchmark",
                "davis17-testdev",
            ]
        )
        == 5
    )
    assert "dev-00/00005.png is missing" in capsys.readouterr().err
