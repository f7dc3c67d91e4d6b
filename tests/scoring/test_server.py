"""What a challenge server answers is read strictly, or refused in a sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vosrepro.base.errors import DataError
from vosrepro.scoring.server import read_answer

DAVIS = """GlobalMean: 0.765000
JMean: 0.727000
JRecall: 0.812345
JDecay: 0.101000
FMean: 0.803000
FRecall: 0.890000
FDecay: 0.120000
"""
YOUTUBE = "Overall: 0.8265\nJ_seen: 0.811\nJ_unseen: 0.777\nF_seen: 0.856\nF_unseen: 0.862\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "scores.txt"
    path.write_text(text)
    return path


def test_the_answers_of_both_servers_are_read(tmp_path: Path) -> None:
    davis = read_answer(written(tmp_path, DAVIS), "davis")
    assert davis == {
        "J&F-Mean": 0.765,
        "J-Mean": 0.727,
        "J-Recall": 0.812345,
        "J-Decay": 0.101,
        "F-Mean": 0.803,
        "F-Recall": 0.89,
        "F-Decay": 0.12,
    }
    assert read_answer(written(tmp_path, YOUTUBE), "youtube")["G"] == 0.8265


def test_the_zip_of_the_output_serves_as_well(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "output.zip", "w") as archive:
        archive.writestr("scores.txt", DAVIS)
    assert read_answer(tmp_path / "output.zip", "davis")["J-Mean"] == 0.727
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("stdout.txt", DAVIS)
    with pytest.raises(DataError, match=r"other\.zip holds no scores\.txt"):
        read_answer(tmp_path / "other.zip", "davis")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("JMean: 0.727000", "JMean 0.727", "line 2: 'JMean 0.727' is not what the server writes"),
        ("JMean", "J_mean", "line 2: 'J_mean: 0.727000' is not"),
        ("JMean: 0.727000", "JMean: 72.7", "line 2: JMean 72.7 must be a share"),
        ("JMean: 0.727000", "JMean: nan", "line 2: 'JMean: nan' is not"),
        ("FDecay: 0.120000", "", "lacks FDecay"),
        ("FDecay: 0.120000", "FMean: 0.803000", "line 7: FMean is given twice"),
        ("GlobalMean: 0.765000", "GlobalMean: 0.795000", "J&F-Mean 0.795 is not the mean 0.765"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_answer(written(tmp_path, DAVIS.replace(old, new)), "davis")


def test_another_server_is_no_excuse(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'GlobalMean: 0.765000' is not what the server writes"):
        read_answer(written(tmp_path, DAVIS), "youtube")
    with pytest.raises(DataError, match=r"gone\.txt cannot be read"):
        read_answer(tmp_path / "gone.txt", "davis")
