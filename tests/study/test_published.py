"""params/published.csv: what stands in it, and what a bad row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.study.published import (
    COLUMNS,
    SEQUENCE_COLUMNS,
    Key,
    load_published,
    load_published_masks,
)

GOOD = "stm,s02,top50,davis16-val,J-Mean,87.8,a README,readme,"


def _file(folder: Path, *rows: str) -> Path:
    path = folder / "published.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def test_the_corrected_rows_are_compared_and_the_exchanged_ones_are_noted(in_root: Path) -> None:
    published = load_published()
    swapped = published[Key("stm", "s02", "top50", "davis16-val", "J&F-Mean")]
    assert swapped.value == 88.9
    assert "90.9" in swapped.note
    other = published[Key("stm", "s012", "full", "davis16-val", "J&F-Mean")]
    assert other.value == 91.0
    assert "88.9" in other.note


def test_numbers_from_memory_are_never_returned_unasked(in_root: Path) -> None:
    known, everything = load_published(), load_published(recalled=True)
    assert {p.evidence for p in everything.values()} > {p.evidence for p in known.values()}
    assert "recalled" not in {p.evidence for p in known.values()}


def test_means_of_j_and_f_agree_with_their_parts(in_root: Path) -> None:
    published = load_published(recalled=True)
    for key, number in published.items():
        if key.metric != "J&F-Mean":
            continue
        parts = [published.get(key._replace(metric=m)) for m in ("J-Mean", "F-Mean")]
        if all(parts):
            assert sum(p.value for p in parts) / 2 == pytest.approx(number.value, abs=0.101), key


def test_rounding_is_half_a_unit_of_the_last_digit(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD, GOOD.replace("J-Mean,87.8", "FPS,9.75"))
    rounding = [p.rounding for p in load_published(path).values()]
    assert rounding == pytest.approx([0.05, 0.005])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.replace("87.8", "0.x"), "line 3: value '0.x' must be a plain decimal"),
        (GOOD.replace("87.8", "878"), "line 3: value 878 must be in points"),
        (GOOD.replace("J-Mean", "J-mean"), "line 3: unknown metric 'J-mean'"),
        (GOOD.replace("readme", "rumor"), "line 3: unknown evidence 'rumor'"),
        (GOOD.replace("s02", "S 02"), "line 3: recipe 'S 02' is not a name"),
        (GOOD.replace("a README", ""), "line 3: a published number needs a source"),
        (GOOD + "one,two", "line 3: a row has 9 fields"),
        (GOOD.replace("stm,", ""), "line 3: a row has 9 fields"),
        (GOOD, "line 3: stm/s02/top50/davis16-val/J-Mean is given twice"),
    ],
)
def test_a_bad_row_names_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_published(_file(tmp_path, GOOD, row))


def test_wrong_columns_and_a_missing_file_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    with pytest.raises(ConfigError, match="is missing"):
        load_published(path)
    path.write_text("method,value\n")
    with pytest.raises(ConfigError, match="line 1: the columns must be"):
        load_published(path)


def test_published_masks_average_to_the_published_score(in_root: Path) -> None:
    (stm,) = (m for m in load_published_masks() if m.recipe == "stm2019")
    assert len(stm.scores) == 20
    region = sum(j for j, _ in stm.scores.values()) / 20
    paper = load_published()[Key("stm", "stm2019", "full", "davis16-val", "J-Mean")]
    assert region == pytest.approx(paper.value, abs=0.1)


def test_a_bad_row_of_published_masks_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sequences.csv"
    path.write_text(",".join(SEQUENCE_COLUMNS) + "\nstm,r,v,b,cows,high,90,masks\n")
    with pytest.raises(ConfigError, match="sequences.csv, line 2"):
        load_published_masks(path)
