"""Jobs on few devices."""

from __future__ import annotations

from vosrepro.costs.schedule import Task, schedule

CHAIN = [Task("a", (), 10.0, 1), Task("b", ("a",), 5.0, 1), Task("c", ("b", "elsewhere"), 1.0, 0)]


def test_the_longest_chain_bounds_the_wall_time():
    found = schedule([*CHAIN, Task("d", ("a",), 2.0, 1)], 4)
    assert found.chain == ("a", "b", "c")
    assert (found.chain_seconds, found.wall_seconds) == (16, 16)


def test_jobs_wait_for_devices_but_not_for_those_that_need_none():
    others = [Task("d", (), 7.0, 1), Task("e", (), 4.0, 0)]
    assert schedule([*CHAIN, *others], 1).wall_seconds == 23  # a, d, b on the device, then c
    assert schedule([*CHAIN, *others], 2).wall_seconds == 16


def test_a_job_that_wants_more_devices_than_there_are_takes_all():
    tasks = [Task("a", (), 3.0, 8), Task("b", (), 2.0, 1)]
    assert schedule(tasks, 2).wall_seconds == 5


def test_no_jobs_take_no_time():
    assert schedule([], 1) == ((), 0.0, 0.0)
