from __future__ import annotations

import torch

from vosrepro.lab import timing

CPU = torch.device("cpu")


def test_ways_go_in_turn_and_the_best_round_after_the_first_counts(monkeypatch):
    now, order, costs = [0.0], [], {"a": iter([1, 5, 3, 4]), "b": iter([9, 2, 7, 7])}
    monkeypatch.setattr(timing.time, "process_time", lambda: now[0])

    def way(name):
        def work():
            order.append(name)
            now[0] += next(costs[name])
            return f"by {name}"

        return work

    rows = timing.fastest({name: way(name) for name in costs}, 3, CPU)
    assert rows == [{"way": "a", "seconds": 3, "result": "by a"}, {"way": "b", "seconds": 2, "result": "by b"}]
    assert "".join(order) == "ab" * 4


def test_a_round_of_several_calls_counts_one_of_them(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "process_time", lambda: now[0])
    (row,) = timing.fastest({"a": lambda: now.append(now.pop() + 2)}, 1, CPU, calls=5)
    assert row["seconds"] == 2


def test_a_table_has_a_column_for_each_number_and_room_for_those_that_a_way_lacks(capsys):
    timing.show("title", [{"way": "first", "seconds": 0.5, "result": "kept"}, {"way": "b", "seconds": 2, "fps": 3.0}])
    title, head, first, second = capsys.readouterr().out.splitlines()
    assert (title, head.split()) == ("title", ["seconds", "fps"])
    assert (first.split(), second.split()) == (["first", "0.5"], ["b", "2", "3"])
    assert len(head) == len(first) == len(second)
