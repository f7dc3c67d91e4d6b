"""A hundred faults and more: `make torture`."""

from __future__ import annotations

import os
import random
from functools import partial

import chain
import harms
import pytest
from chain import Ending
from harms import Fault
from torment import Row, prepare, remedy_of, side_by_side, torment
from tortured import kind
from whole import WHOLE, torment_whole

from vosrepro.base.machine import usable_cores

#: No fault begins later; those that run then may end.
SECONDS = float(os.environ.get("TORTURE_S", "1100"))
#: At most so many faults, the same of a seed on every machine; 0: as many as there is time for.
MOST = int(os.environ.get("TORTURE_FAULTS", "0"))
SEED = int(os.environ.get("TORTURE_SEED", "0"))
LEAST = 100


def all_faults(study, chosen: random.Random) -> list[Fault]:
    snapshots, starts = study.snapshots, study.starts
    found = [
        *harms.file_faults(snapshots, chosen),
        *harms.late_faults(snapshots, chosen),
        *harms.data_faults(snapshots, chosen),
        *harms.kill_faults(starts, study.took, chosen),
        *harms.twin_faults(starts),
        *harms.disk_faults(starts),
        *harms.folder_faults(snapshots, chosen),
    ]
    return harms.in_turn(found, chosen)


def shown(row: Row) -> str:
    how = f"{row.first}; {row.reruns} reruns" + (f" ({row.followed})" if row.followed else "")
    return f"{'FAILED' if row.fault else 'ok':<7} {row.took_s:5.1f} s  {row.name}: {how}"


def change_a_number(folder):
    path = folder / "results/toy/metrics.json"
    before = path.stat()
    path.write_text(path.read_text().replace("J-Mean", "J-Meen"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # no rule is due, so nobody looks


@pytest.mark.torture
def test_every_fault_ends_in_the_undisturbed_numbers_or_in_a_remedy_that_works(tmp_path, capsys):
    chosen = random.Random(SEED)
    chain.load()
    study = prepare(tmp_path)
    planted = Fault("planted", "report", "planted", change_a_number)
    assert torment(study, planted, tmp_path / "planted").fault == "other results without a word: metrics"
    few = [partial(torment, study, fault, tmp_path / f"case-{n}") for n, fault in enumerate(all_faults(study, chosen))]
    whole = [partial(torment_whole, study, fault, tmp_path / f"whole-{n}") for n, fault in enumerate(WHOLE)]
    # A whole workflow now and then among the many small ones: a short run meets both.
    tasks = [task for n, small in enumerate(few) for task in (*whole[n // 8 : n // 8 + 1] * (n % 8 == 7), small)]
    tasks = tasks[: MOST or None]
    rows = []
    for row in side_by_side(tasks, count=usable_cores(), longest_s=SECONDS):
        rows.append(row)
        with capsys.disabled():
            print(shown(row), flush=True)
    failed = [row for row in rows if row.fault]
    with capsys.disabled():
        print(f"{len(rows)} of {len(tasks)} faults tried (seed {SEED}), {len(failed)} failed")
    assert not failed, "\n".join(f"{row.name}: {row.fault}" for row in failed)
    assert SECONDS < 1000 or len(rows) >= min(LEAST, len(tasks))


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("a.json is missing: run the same command again, which makes it again", "rerun"),
        ("x has 11 frames, but y counts 12; restore the data and run again", "undo"),
        ("results/a cannot be written (No space left): free space or fix permissions, then run again", "undo"),
        ("results/a.json is not valid JSON (x): delete it and run again", "delete results/a.json"),
        ("something is wrong", None),
    ],
)
def test_the_remedy_of_a_sentence_is_what_a_person_would_do(said, remedy):
    assert remedy_of(Ending("score", 2, f"12:00:00 a line\nvosrepro: {said}\n")) == remedy


def test_a_killed_job_says_nothing_and_is_started_again():
    assert remedy_of(Ending("score", -9, "12:00:00 a line\n")) == "rerun"


def test_files_of_one_kind_have_one_name(tmp_path):
    assert kind(tmp_path / "masks/val-01/00003.png") == kind(tmp_path / "masks/val-00/00001.png")
    assert kind(tmp_path / "s0/run.json") == kind(tmp_path / "s2/run.json") != kind(tmp_path / "s2/runs.json")
