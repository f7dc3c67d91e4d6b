"""Jobs on few devices."""

from __future__ import annotations

from vosrepro.costs.schedule import ScheduledJob, schedule

CHAIN = [
    ScheduledJob("a", (), 10.0, 1),
    ScheduledJob("b", ("a",), 5.0, 1),
    ScheduledJob("c", ("b", "elsewhere"), 1.0, 0),
]


def test_the_longest_chain_bounds_the_wall_time():
    found = schedule([*CHAIN, ScheduledJob("d", ("a",), 2.0, 1)], 4)
    assert found.chain == ("a", "b", "c")
    assert (found.chain_seconds, found.wall_seconds) == (16, 16)


def test_jobs_wait_for_devices_but_not_for_those_that_need_none():
    others = [ScheduledJob("d", (), 7.0, 1), ScheduledJob("e", (), 4.0, 0)]
    assert schedule([*CHAIN, *others], 1).wall_seconds == 23  # a, d, b on the device, then c
    assert schedule([*CHAIN, *others], 2).wall_seconds == 16


def test_the_job_with_the_longest_rest_of_its_chain_starts_first():
    # One device. Behind `b` another machine-less job waits for 10 s: b first ends at 3 + 10, last at 2 + 3 + 10.
    tasks = [ScheduledJob("a", (), 2.0, 1), ScheduledJob("b", (), 3.0, 1), ScheduledJob("c", ("b",), 10.0, 0)]
    assert schedule(tasks, 1).wall_seconds == 13
    assert schedule([tasks[1], tasks[0], tasks[2]], 1).wall_seconds == 13


def test_the_longest_chain_need_not_begin_with_the_longest_job():
    tasks = [
        ScheduledJob("long", (), 5.0, 1),
        ScheduledJob("short", (), 1.0, 1),
        ScheduledJob("end", ("short",), 6.0, 1),
    ]
    found = schedule(tasks, 2)
    assert (found.chain, found.chain_seconds, found.wall_seconds) == (("short", "end"), 7.0, 7.0)


def test_a_job_that_wants_more_devices_than_there_are_takes_all():
    tasks = [ScheduledJob("a", (), 3.0, 8), ScheduledJob("b", (), 2.0, 1)]
    assert schedule(tasks, 2).wall_seconds == 5


def test_no_jobs_take_no_time():
    assert schedule([], 1) == ((), 0.0, 0.0)
