"""`vosrepro bench gpu-check`: what it makes of parts that work, fail, hang or lack a device."""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

from vosrepro.base.files import read_json
from vosrepro.cli import main
from vosrepro.costs.rates import RATE_COLUMNS
from vosrepro.lab import infer, train
from vosrepro.lab.gpu_check import PARTS, GpuCheck, GpuChecks, outcome, words
from vosrepro.study.params import load
from vosrepro.study.plan import load_plan

FAST = "bench infer --json --device {device} --method copy --size 32x48 --frames 3 --warmup 0"


def test_a_part_that_fails_is_a_line_of_the_table_and_the_next_one_begins(tmp_path, in_root, capsys):
    parts = [
        {"name": "wrong", "command": "bench infer --method stmm"},
        {"name": "slow", "command": FAST, "figure": "optimized.fps_steady", "goal": 1e9},
        {"name": "fast", "command": FAST, "figure": "optimized.fps_steady", "goal": 1e-9},
        {"name": "two", "command": FAST, "devices": 2},
    ]
    file = tmp_path / "parts.yaml"
    file.write_text(yaml.safe_dump({"full": parts, "small": []}))
    out = tmp_path / "out"
    assert main(["bench", "gpu-check", "--device", "cpu", "--parts", str(file), "--out", str(out)]) == 1
    found = {part["name"]: part for part in read_json(out / "check.json")["parts"]}
    assert {name: part["status"] for name, part in found.items()} == {
        "wrong": "failed",
        "slow": "missed",
        "fast": "met",
        "two": "left out",
    }
    assert "stmm" in found["wrong"]["why"]
    assert found["fast"]["printed"]["method"] == "copy"
    assert "4 parts" in capsys.readouterr().out
    assert [row.split()[0] for row in (out / "check.txt").read_text().splitlines()] == list(found)


def test_a_part_that_hangs_is_given_up_with_all_that_it_started(tmp_path):
    began = time.monotonic()
    part = GpuCheck(name="hangs", command="launch --gpus 0 -- bench infer --method flow --frames 9999999", limit_s=2)
    found = outcome(part, "cpu", tmp_path, 1)
    assert (found["status"], found["why"]) == ("failed", "it did not end within 2 s")
    assert time.monotonic() - began < 20
    lines = [path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if "9999999" in line]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_device_one_sentence_says_what_to_do(in_root, capsys):
    assert main(["bench", "gpu-check"]) == 3
    assert capsys.readouterr().err == (
        "vosrepro: no CUDA device is to be seen: check nvidia-smi, or try the parts with --device cpu --small\n"
    )


def test_every_part_of_the_file_names_what_there_is(in_root, tmp_path):
    parts = load(PARTS, GpuChecks)
    names = [part.name for part in parts.full]
    assert len(names) == len(set(names))
    for part in (*parts.full, *parts.small):
        command = words(part.command, "cpu", tmp_path)
        if command[1] != "-m":
            continue
        module = {"infer": infer, "train": train}[command[4]]
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        given = parser.parse_args(command[5:])
        if module is infer:  # raises where a variant, a recipe or a network is unknown
            infer._parameters(given)
        else:
            load_plan(given.study).stage(given.method, given.recipe, 0, given.stage)


@pytest.mark.slow
def test_the_workflow_of_the_check_is_a_part_of_the_mini_study(root, tmp_path):
    for name in ("workflow", "params", "Snakefile"):
        (tmp_path / name).symlink_to(root / name)
    (part,) = [p for p in load(root / PARTS, GpuChecks).full if p.command.startswith("snakemake") and p.devices == 1]
    command = [word for word in words(part.command, "cpu", tmp_path) if word != "--quiet"]
    dry = subprocess.run([*command[:-2], "-n", *command[-2:]], cwd=tmp_path, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert set(re.findall(r"method=(\w+), recipe=([\w-]+)", dry.stdout + dry.stderr)) == {("stm", "s0")}


@pytest.mark.slow
def test_a_small_check_on_the_cpu_meets_its_goals_and_leaves_rows_of_throughput(in_root, tmp_path):
    out = tmp_path / "out"
    assert main(["bench", "gpu-check", "--device", "cpu", "--small", "--out", str(out)]) == 0
    statuses = {part["name"]: part["status"] for part in read_json(out / "check.json")["parts"]}
    assert set(statuses.values()) == {"met", "done"}
    with (out / "throughput.csv").open() as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == RATE_COLUMNS
    assert [row[2] for row in rows] == ["init", "infer", "train"]
