"""Every published number has an entry that should reproduce it, and the other way round."""

from __future__ import annotations

import pytest

from vosrepro.cli import main
from vosrepro.commands import coverage as coverage_command
from vosrepro.commands.coverage import coverage
from vosrepro.study.plan import load_plan
from vosrepro.study.published import Key, Published, load_published
from vosrepro.weights.released import Unavailable, load_released


def test_there_is_no_hole(in_root, capsys):
    assert main(["coverage"]) == 0
    shown = capsys.readouterr().out
    assert "0 holes" in shown
    assert "gfrtm/rn18/tau0.7/davis17-val" in shown
    assert "as released-rn18; J&F-Mean 69.9 (readme)" in shown
    assert main(["coverage", "--method", "mtmfi"]) == 0
    mtmfi = capsys.readouterr().out.splitlines()[1:-1]
    assert mtmfi
    assert all("none published" in line for line in mtmfi)


def test_every_published_number_is_an_entry_of_the_paper_study_or_says_why_not(in_root):
    paper = {e.published_name for e in load_plan("params/studies/paper.yaml").entries}
    released = load_plan("params/studies/released.yaml")
    imported = {e.published_name for e in released.entries if not e.run.params.published_as}
    masks = {e.published_name for e in load_plan("params/studies/published-masks.yaml").entries}
    unavailable = load_released().methods
    left = {
        key[:4]
        for key in load_published(recalled=True)
        if key[:4] not in paper | imported | masks
        and not isinstance(unavailable.get(key.method, {}).get(key.recipe), Unavailable)
    }
    assert left == set()


def test_every_released_recipe_is_compared_with_numbers_or_none_were_published(in_root):
    published = {key[:4] for key in load_published()}
    lines = {line.name: line for line in coverage()}
    assert lines["parts", "s0", "full", "imagenet-val"].paper == "yes"
    for entry in load_plan("params/studies/released.yaml").entries:
        line = lines[entry.published_name]
        assert (entry.published_name in published) == bool(line.published)
        assert line.published or "none published" in line.numbers or "recalled" in line.numbers


def test_recalled_numbers_are_counted_and_not_shown(in_root):
    line = next(x for x in coverage() if x.name == ("stm", "kmn2020", "full-km", "davis17-val"))
    assert line.published == 0
    assert line.numbers == "3 recalled, not shown"
    assert line.importable.startswith("neither code nor weights")


def test_a_number_without_an_entry_is_a_hole(in_root, monkeypatch, capsys):
    key = Key("stm", "s9", "top50", "davis16-val", "J-Mean")
    extra = Published(key, 50.0, 1, "a README", "readme", "")
    known = load_published(recalled=True)
    monkeypatch.setattr(coverage_command, "load_published", lambda *, recalled: {**known, key: extra})
    assert main(["coverage", "--holes"]) == 1
    shown = capsys.readouterr().out
    assert "stm/s9/top50/davis16-val" in shown
    assert "1 holes" in shown


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (("stm", "s012"), 12),
        (("pml", "seed"), 1),
        (("gfrtm", "rn18"), 4),
        (("gfrtm", "rn18-ytvos"), 15),
        (("parts", "s0"), 10),
    ],
)
def test_the_tables_of_the_sources_are_complete(in_root, name, count):
    numbers = [k for k in load_published() if k[:2] == name and k.metric not in ("FPS",)]
    assert len(numbers) >= count
