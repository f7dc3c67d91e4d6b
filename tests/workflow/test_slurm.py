"""The README's command for clusters on a real SLURM of two nodes, both on this machine, with devices that do not exist.

`make slurm-test` installs what it needs; a job computes on the CPU, but is given its devices as on any cluster.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from real_snakemake import snakemake, start
from small_cluster import Cluster, missing_programs, small_cluster, wait
from tiny_stm import RUN, tiny_stm

from vosrepro.tracking.journal import read_events

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]

STUDY_RUN = RUN.parents[1]
JOURNAL = Path("state/journals/toy/stm/s0/seed0/s0.jsonl")
STEPS = 30
#: Metrics that differ between two runs of the same study.
TIMES = re.compile(r"FPS|seconds")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    missing = missing_programs()
    if missing:
        assert not os.environ.get("VOSREPRO_REQUIRE_SLURM"), f"{', '.join(missing)} are not installed"
        pytest.skip(f"no SLURM here: {', '.join(missing)} are not installed (make slurm-test)")
    with small_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def cluster_command(root: Path) -> list[str]:
    """The words after `snakemake` of the README's command for clusters."""
    lines = re.findall(r"^snakemake (.*profiles/slurm.*)$", (root / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 1
    return shlex.split(lines[0], comments=True)


def reached(checkout: Path, step: int) -> bool:
    """Whether the training has come as far as a step."""
    events = read_events(checkout / JOURNAL) if (checkout / JOURNAL).is_file() else []
    return any(e["event"] == "metrics" and e["step"] >= step for e in events)


def without_times(value: object) -> object:
    """Metrics without speeds and times."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if not TIMES.search(key)}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def outcome(checkout: Path) -> tuple[object, object]:
    """Metrics of the study, and the digests of its checkpoints and masks."""
    record = json.loads((checkout / RUN).read_text())
    masks = {path.name: path.read_bytes() for path in sorted((checkout / STUDY_RUN).rglob("*.png"))}
    assert record["world_size"] == 2
    assert masks
    metrics = json.loads((checkout / "results/toy/metrics.json").read_text())
    return without_times(metrics), ([c["sha256"] for c in record["checkpoints"]], masks)


def on_this_machine(root: Path, folder: Path) -> Path:
    """The same study, computed without a cluster by as many processes."""
    for name in ("workflow", "profiles", "Snakefile"):
        (folder / name).symlink_to(root / name)
    shutil.copytree(root / "params", folder / "params")
    words = [*tiny_stm(folder, steps=STEPS, gpus_per_training=2), "--cores", "2", "--resources", "gpu=2"]
    snakemake(folder, *words, own=True, environment={"CUDA_VISIBLE_DEVICES": "0,1"})
    return folder


def soon(reached: Callable[[], object], what: str, workflow: subprocess.Popen[str], cluster: Cluster) -> None:
    """Wait for something that a running workflow brings about."""

    def now() -> object:
        if workflow.poll() is not None:
            pytest.fail(f"the workflow ended before {what}: {workflow.communicate()[0][-6000:]}")
        return reached()

    wait(now, what, cluster.logs)


def test_a_study_survives_full_nodes_a_cancelled_job_and_a_drained_node_and_ends_as_on_one_machine(
    cluster: Cluster, checkout: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
):
    words = [*cluster_command(root), *tiny_stm(checkout, steps=STEPS, gpus_per_training=2)]
    others = [cluster.occupy(node) for node in ("n1", "n2")]
    with start(checkout, *words, own=True, environment=cluster.environment) as workflow:
        try:
            soon(lambda: cluster.jobs("train"), "the training's job", workflow, cluster)
            ((job, (state, _)),) = cluster.jobs("train").items()
            assert state == "PENDING"  # a device is free on each node, and a training never lies across two
            cluster.ask("scancel", others[0])
            soon(lambda: reached(checkout, 10), "step 10", workflow, cluster)
            assert cluster.jobs("train")[job] == ("RUNNING", "n1")
            cluster.ask("scancel", job, others[1])
            cluster.ask("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
            soon(lambda: set(cluster.jobs("train")) - {job}, "the second try", workflow, cluster)
            soon(lambda: ("RUNNING", "n2") in cluster.jobs("train").values(), "a run elsewhere", workflow, cluster)
            output = workflow.communicate(timeout=800)[0]
        finally:
            workflow.terminate()
            cluster.ask("scontrol", "update", "nodename=n1", "state=resume")
    assert workflow.returncode == 0, output[-4000:]
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in output
    assert "Traceback" not in output, output
    assert (checkout / "reports/all.html").is_file()
    assert json.loads((checkout / RUN).read_text())["resumed_from"]
    assert outcome(checkout) == outcome(on_this_machine(root, tmp_path_factory.mktemp("local")))
