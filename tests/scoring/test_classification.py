from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vosrepro.base.errors import DataError, ProtocolError
from vosrepro.base.files import read_json
from vosrepro.datasets.sets.imagenet import LabeledImage
from vosrepro.scoring.classification import COLUMNS, count_hits, score_predictions, wilson

CLASSES = [f"n{i}" for i in range(8)]
IMAGES = [LabeledImage(f"{i}.JPEG", Path(f"{i}.JPEG"), label) for i, label in enumerate((2, 2, 7))]


def _line(name, *classes):
    fields = [field for c in classes for field in (c, "0.1")]
    return ",".join([name, *fields, *[""] * (len(COLUMNS) - 1 - len(fields))])


GOOD = (
    _line("0.JPEG", "n2", "n1"),
    _line("1.JPEG", "n1", "n3", "n4", "n5", "n2"),
    _line("2.JPEG", "background", "n3"),
)


HEADER = ",".join(COLUMNS)


def _write(folder, lines=GOOD, header=HEADER):
    path = folder / "predictions.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_hits_are_whole_numbers_and_only_the_first_five_count():
    best = np.array([[3, 1, 2, 0, 5, 9], [1, 3, 2, 0, 5, 9], [9, 8, 7, 6, 5, 3]])
    hits = count_hits(best, np.array([3, 3, 3]))
    assert hits == (1, 2, 3)
    assert all(isinstance(value, int) for value in hits)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),  # Newcombe (1998), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_that_of_the_literature(hits, count, low, high):
    found = wilson(hits, count)
    assert (round(found.low, 4), round(found.high, 4), found.level) == (low, high, 0.95)


def test_predictions_are_scored_by_image_and_by_class(tmp_path):
    score = score_predictions(_write(tmp_path), IMAGES, CLASSES)
    assert score.hits == (1, 2, 3)
    score.write(tmp_path, extra={"entry": "x"})
    record = read_json(tmp_path / "score.json")
    assert record["global"] == {"Top1": 1 / 3, "Top5": 2 / 3}
    assert record["hits"] == {"Top1": 1, "Top5": 2}
    assert (record["images"], record["classes"], record["warnings"]) == (3, 2, [])
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines == ["class,images,Top1,Top5", "n2,2,0.5,1.0", "n7,1,0.0,0.0"]


def test_the_order_of_lines_does_not_matter(tmp_path):
    assert score_predictions(_write(tmp_path, GOOD[::-1]), IMAGES, CLASSES).hits == (1, 2, 3)


def test_an_image_without_a_class_is_wrong_and_named(tmp_path):
    score = score_predictions(_write(tmp_path, (_line("0.JPEG"), *GOOD[1:])), IMAGES, CLASSES)
    assert score.hits == (0, 1, 3)
    assert score.summary()["warnings"] == ["1 image(s) cannot be decoded and count as wrong (0.JPEG)"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (GOOD[:2], r"lacks 1 of 3 images \(2\.JPEG\)"),
        ((*GOOD, GOOD[0]), r"line 5: image '0\.JPEG' is predicted twice"),
        ((*GOOD, _line("3.JPEG", "n1")), r"predicts '3\.JPEG', which is no image"),
        ((_line("0.JPEG", "cat"), *GOOD[1:]), "class 'cat', which is none of the 8"),
        ((_line("0.JPEG", "n1", "n1"), *GOOD[1:]), "names a class twice"),
    ],
)
def test_predictions_that_do_not_fit_the_images_are_refused(tmp_path, lines, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        score_predictions(_write(tmp_path, lines), IMAGES, CLASSES)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="run inference first"):
        score_predictions(tmp_path / "none.csv", IMAGES, CLASSES)
    with pytest.raises(DataError, match="the columns must be image,class_1,score_1"):
        score_predictions(_write(tmp_path, header="image,class"), IMAGES, CLASSES)
    with pytest.raises(DataError, match="line 2: a line has 11 fields, not 2"):
        score_predictions(_write(tmp_path, ("0.JPEG,n2",)), IMAGES, CLASSES)


def test_scoring_images_needs_no_torch():
    code = "import sys, vosrepro.scoring.entries; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
