"""Single sequences beside published masks, and one change at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.reporting import load_table, render_pages
from vosrepro.reporting.evidence.intervals import pooled
from vosrepro.reporting.pages.per_sequence import COLUMNS, beside_published, single_changes
from vosrepro.study.plan import Plan
from vosrepro.study.published import SEQUENCE_COLUMNS, load_published_masks


def publish(*rows: str) -> None:
    Path("params/published_sequences.csv").write_text("\n".join([",".join(SEQUENCE_COLUMNS), *rows]) + "\n")


def change(*rows: str) -> None:
    Path("params/ablations.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


def test_the_row_of_the_published_system_is_shown_beside_it(own_copy: Plan) -> None:
    publish(*(f"stm,s02,full,davis16-val,{n},90,80,masks" for n in ("ants", "bees", "zebras")))
    (found,) = beside_published(load_table(own_copy), "stm")
    assert found.same
    assert found.row.variant == "full"  # the primary row is top50
    assert {line.name for line in found.lines} == {"ants", "bees"}
    assert [i.difference for i in found.lines] == sorted(i.difference for i in found.lines)
    ours = pooled(found.row.entries, "J&F-Mean")
    assert found.mean.difference == pytest.approx((ours["ants", 1] + ours["bees", 1]) / 2 - 85)


def test_a_published_system_that_the_study_lacks_is_shown_beside_the_primary_row(
    own_copy: Plan,
) -> None:
    publish("stm,original,full,davis16-val,ants,90,80,masks")
    (found,) = beside_published(load_table(own_copy), "stm")
    assert not found.same
    assert found.row.variant == "top50"


def test_masks_of_other_sequences_are_not_shown(own_copy: Plan) -> None:
    publish("stm,s02,full,davis16-val,zebras,90,80,masks")
    assert beside_published(load_table(own_copy), "stm") == ()


def test_a_change_is_the_difference_of_its_two_rows(own_copy: Plan) -> None:
    change(
        'stm,"a, better",s02,top50,s0,top50',
        "stm,not here,s012,top50,s0,top50",
        "pml,not ours,s02,top50,s0,top50",
    )
    (found,) = single_changes(load_table(own_copy), "stm")
    assert found.text == "a, better"
    assert found.row.headline.mean is not None
    assert found.base.headline.mean is not None
    difference = found.row.headline.mean - found.base.headline.mean
    assert found.paired.mean == pytest.approx(difference)


def test_both_are_on_the_page(own_copy: Plan) -> None:
    publish("stm,s02,full,davis16-val,ants,12.3,45.6,masks of somebody")
    change("stm,a longer chain,s02,top50,s0,top50")
    pages = {path.name: path.read_text() for path in render_pages(own_copy, outlets=False)}
    assert "a longer chain" in pages["stm.html"]
    assert "masks of somebody" in pages["stm.html"]
    assert ">45.6<" in pages["stm.html"]
    assert "One change at a time" not in pages["copy.html"]


def test_a_malformed_list_of_changes_names_its_columns(own_copy: Plan) -> None:
    change("stm,a change, with a comma,s02,top50,s0,top50")
    with pytest.raises(ConfigError, match="ablations.csv, line 2: a row has 6 fields"):
        single_changes(load_table(own_copy), "stm")


def test_the_published_masks_of_pml_average_to_the_papers_scores(in_root: Path) -> None:
    (pml,) = (m for m in load_published_masks() if m.method == "pml")
    assert len(pml.scores) == 20
    for place, published in ((0, 75.5), (1, 79.3)):
        mean = sum(scores[place] for scores in pml.scores.values()) / 20
        assert mean == pytest.approx(published, abs=0.05)
