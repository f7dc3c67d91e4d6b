"""A study whose processes are killed the hard way, through the real Snakefile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from real_snakemake import snakemake, start
from tiny_stm import RUN, STATE_EVERY, STEPS, tiny_stm

from vosrepro.tracking.journal import read_events
from vosrepro.tracking.processes import Process

pytestmark = [pytest.mark.workflow, pytest.mark.resume]

JOURNAL = Path("state/journals/toy/stm/s0/seed0/s0.jsonl")
LOG = Path("logs/toy/stm/s0/seed0/train-s0.log")


def wait_for_step(journal: Path, step: int, workflow: subprocess.Popen[str]) -> int:
    """The process that trains, once its journal has reached a step."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert workflow.poll() is None, workflow.communicate()[0]
        events = read_events(journal)
        if any(e["event"] == "metrics" and e["step"] >= step for e in events):
            return next(e["pid"] for e in reversed(events) if "pid" in e)
        time.sleep(0.005)
    pytest.fail(f"{journal} did not reach step {step}")


def outcome(checkout: Path) -> tuple[list[str], list[tuple]]:
    """Digests of all checkpoints, and the losses of the final journal."""
    record = json.loads((checkout / RUN).read_text())
    events = read_events((checkout / RUN).with_name("metrics.jsonl"))
    losses = [(e["step"], e["metrics"]["train/loss"]) for e in events if e["event"] == "metrics"]
    return [c["sha256"] for c in record["checkpoints"]], losses


@pytest.mark.long
def test_a_study_killed_in_the_middle_of_a_stage_goes_on_and_ends_with_the_same_bits(checkout):
    command = [*tiny_stm(checkout), "--cores", "1", "--", str(RUN)]
    snakemake(checkout, *command)
    uninterrupted = outcome(checkout)
    assert "resumed" not in (checkout / LOG).read_text()
    for made in ("state", "results/toy/stm"):
        shutil.rmtree(checkout / made)

    with start(checkout, *command, own=True) as workflow:  # a power cut: the workflow and its job
        job = Process(wait_for_step(checkout / JOURNAL, 4 * STATE_EVERY, workflow))
        workflow.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGKILL)
    while job.alive():
        time.sleep(0.01)
    assert not (checkout / RUN).exists()

    assert "--unlock" in snakemake(checkout, *command, expect=1)
    snakemake(checkout, "--unlock", *command)
    output = snakemake(checkout, *command, own=True)
    assert "Traceback" not in output
    resumed = re.search(rf"resumed from step (\d+) of {STEPS} ", (checkout / LOG).read_text())
    assert resumed is not None
    assert 3 * STATE_EVERY <= int(resumed[1]) < STEPS
    assert outcome(checkout) == uninterrupted
    assert json.loads((checkout / RUN).read_text())["resumed_from"] == [int(resumed[1])]
