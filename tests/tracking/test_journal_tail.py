from __future__ import annotations

from collections.abc import Callable

from vosrepro.tracking.journal import Journal
from vosrepro.tracking.tail import JournalTail, flatten


def test_each_metric_is_read_once_while_the_file_grows(begin: Callable[..., Journal]) -> None:
    journal = begin()
    tail = JournalTail(journal.path)
    assert tail.read() == []
    journal.metrics({"loss": 2.0}, step=1)
    journal.metrics({"loss": 1.0}, step=2)
    assert [(name, value, step) for name, value, _, step in tail.read()] == [
        ("loss", 2.0, 1),
        ("loss", 1.0, 2),
    ]
    assert tail.read() == []
    journal.end(metrics={"best": 1.0})
    assert [(name, step) for name, _, _, step in tail.read()] == [("best", 2)]
    assert tail.state is not None
    assert tail.state.status == "FINISHED"


def test_a_torn_last_line_is_read_when_it_is_whole(begin: Callable[..., Journal]) -> None:
    journal = begin()
    tail = JournalTail(journal.path)
    tail.read()
    line = '{"event": "metrics", "time": 5.0, "step": 3, "metrics": {"loss": 0.5}}\n'
    with journal.path.open("a") as file:
        file.write(line[:30])
    assert tail.read() == []
    with journal.path.open("a") as file:
        file.write(line[30:])
    assert tail.read() == [("loss", 0.5, 5.0, 3)]


def test_a_line_that_is_not_json_is_passed_over(begin: Callable[..., Journal]) -> None:
    journal = begin()
    with journal.path.open("ab") as file:
        file.write(b"\x00\x00\xff\n[1]\n")
    journal.metrics({"loss": 0.5}, step=1)
    assert [row[0] for row in JournalTail(journal.path).read()] == ["loss"]


def test_a_resumed_journal_is_read_again_even_if_it_grew_back(
    begin: Callable[..., Journal],
) -> None:
    journal = begin()
    for step in (10, 20, 30):
        journal.metrics({"loss": float(step)}, step=step)
    tail = JournalTail(journal.path)
    tail.read()
    journal.resume(step=10)
    for step in (20, 30, 40):
        journal.metrics({"loss": step + 0.5}, step=step)
    assert [(value, step) for _, value, _, step in tail.read()] == [
        (10.0, 10),
        (20.5, 20),
        (30.5, 30),
        (40.5, 40),
    ]
    assert tail.digest() == _digest_of_all(journal)


def test_a_journal_begun_anew_has_a_new_state(begin: Callable[..., Journal]) -> None:
    journal = begin()
    journal.metrics({"loss": 1.0}, step=1)
    tail = JournalTail(journal.path)
    tail.read()
    begin(digest="1" * 8)
    assert tail.read() == []
    assert tail.state is not None
    assert tail.state.key.endswith("/11111111")
    assert tail.state.status == "RUNNING"


def test_an_absent_file_and_a_file_without_start_say_nothing(
    begin: Callable[..., Journal],
) -> None:
    journal = begin()
    tail = JournalTail(journal.path)
    journal.path.unlink()
    assert tail.read() == []
    journal.metrics({"loss": 1.0}, step=1)
    assert tail.read() == []
    assert tail.state is None


def test_nested_parameters_become_dotted_names_and_long_values_keep_a_digest() -> None:
    flat = flatten({"a": {"b": {"c": 0.1}, "empty": {}}, "list": [1, 2], "none": None, "text": "x"})
    assert flat == {"a.b.c": "0.1", "a.empty": "{}", "list": "[1, 2]", "none": "null", "text": "x"}
    one, two = flatten({"a": "y" * 600})["a"], flatten({"a": "y" * 601})["a"]
    assert len(one) <= 500
    assert one != two


def _digest_of_all(journal: Journal) -> str:
    fresh = JournalTail(journal.path)
    fresh.read()
    return fresh.digest()
