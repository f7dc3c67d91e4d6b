from __future__ import annotations

import json

import pytest

from vosrepro.base.errors import DataError
from vosrepro.tracking.journal import Journal, read_events


def started(path):
    journal = Journal(path)
    journal.start(key="k", study="s", parent="p", kind="train", params={"lr": 1}, tags={})
    return journal


def test_events_come_back_in_order(tmp_path):
    journal = started(tmp_path / "a/j.jsonl")
    journal.metrics({"train/loss": 0.5}, step=1)
    journal.end()
    kinds = [e["event"] for e in read_events(tmp_path / "a/j.jsonl")]
    assert kinds == ["start", "metrics", "end"]


def test_a_torn_last_line_is_ignored(tmp_path):
    path = tmp_path / "j.jsonl"
    started(path).metrics({"a": 1.0}, step=1)
    with path.open("a") as file:
        file.write('{"event": "metr')
    assert [e["event"] for e in read_events(path)] == ["start", "metrics"]


def test_resuming_cuts_later_metrics_the_end_and_a_torn_line(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = started(path)
    for step in (1, 2, 3):
        journal.metrics({"a": float(step)}, step=step)
    journal.end("FAILED")
    with path.open("a") as file:
        file.write('{"torn')
    Journal(path).resume(step=2)
    events = read_events(path)
    assert [(e["event"], e.get("step")) for e in events] == [
        ("start", None),
        ("metrics", 1),
        ("metrics", 2),
        ("resume", 2),
    ]


def test_values_that_are_not_finite_become_null(tmp_path):
    started(tmp_path / "j").metrics({"a": float("nan"), "b": float("inf"), "c": 1.0}, step=1)
    lines = (tmp_path / "j").read_text().splitlines()
    assert json.loads(lines[1])["metrics"] == {"a": None, "b": None, "c": 1.0}


def test_an_exception_ends_the_journal_as_failed(tmp_path):
    with pytest.raises(RuntimeError), started(tmp_path / "j"):
        raise RuntimeError
    assert read_events(tmp_path / "j")[-1]["status"] == "FAILED"


def test_other_ranks_write_nothing(tmp_path):
    journal = Journal(tmp_path / "j", enabled=False)
    journal.start(key="k", study="s", parent="p", kind="train", params={}, tags={})
    journal.metrics({"a": 1.0}, step=1)
    journal.end()
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("line", ["garbage", "[1]", "{}", "null"])
def test_a_damaged_line_is_passed_over(tmp_path, line):
    path = tmp_path / "j.jsonl"
    started(path)
    with path.open("a") as file:
        file.write(line + "\n")
    Journal(path).metrics({"a": 1.0}, step=1)
    assert [e["event"] for e in read_events(path)] == ["start", "metrics"]


def test_a_journal_that_cannot_be_written_is_named_but_never_hides_why_a_job_failed(tmp_path):
    journal = started(tmp_path / "j.jsonl")
    (tmp_path / "j.jsonl").unlink()
    (tmp_path / "j.jsonl").mkdir()
    with pytest.raises(DataError, match=r"j\.jsonl cannot be written \(.+\): free space"):
        journal.metrics({"a": 1.0}, step=1)
    with pytest.raises(ValueError, match="the reason"), journal:
        raise ValueError("the reason")
