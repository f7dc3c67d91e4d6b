"""Listings of data sets: what is recorded per folder, and what a later look finds changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosrepro.base.errors import DataError
from vosrepro.cli import main
from vosrepro.datasets.prepare.listing import FolderFacts, Listing
from vosrepro.datasets.prepare.prepare import prepare_set
from vosrepro.study.params import DataParams


def _listing(*lines: tuple[str, int, str | None], digest_of: str = "content") -> Listing:
    found = Listing()
    found.add("part", lines, digest_of=digest_of)
    return found


def test_files_are_summed_per_folder_and_order_does_not_matter(tmp_path: Path):
    lines = [("a/0.jpg", 3, "x"), ("a/1.jpg", 4, "y"), ("list.txt", 9, "z")]
    one, other = _listing(*lines), _listing(*reversed(lines))
    facts = one.rows["part", "a"]
    assert (facts.files, facts.bytes, facts.digest_of) == (2, 7, "content")
    assert one.rows["part", "."].bytes == 9
    one.write(tmp_path / "one.csv")
    other.write(tmp_path / "other.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    assert Listing.read(tmp_path / "one.csv") == one


def test_each_kind_of_difference_is_a_sentence():
    before = _listing(("same/0", 1, "x"), ("gone/0", 1, "x"), ("less/0", 1, "x"), ("other/0", 1, "x"))
    now = _listing(("same/0", 1, "x"), ("new/0", 1, "x"), ("less/0", 2, "x"), ("other/0", 1, "y"))
    assert before.differences(before) == []
    assert before.differences(now) == [
        "part: gone was there and is missing",
        "part: less has 1 files of 2 bytes in all instead of 1 of 1",
        "part: new is new",
        "part: other has other content in as many files and bytes",
    ]


def test_digests_of_content_and_of_sizes_are_not_compared():
    read, unread = _listing(("a/0", 1, "x")), _listing(("a/0", 1, None), digest_of="sizes")
    assert read.rows != unread.rows
    assert read.differences(unread) == []


@pytest.mark.parametrize("text", ["", "part,folder\nx,y\n", "part,folder,files,bytes,digest,digest_of\n"])
def test_a_file_that_is_no_listing_is_refused(text: str, tmp_path: Path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=r"x\.csv"):
        Listing.read(tmp_path / "x.csv")


def test_a_prepared_set_is_listed_and_later_damage_is_named(
    broken: DataParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = Path(broken.root)
    prepare_set("davis2017", broken, out=tmp_path / "sets/davis2017.json")
    listing = tmp_path / "sets/davis2017.csv"
    rows = Listing.read(listing).rows
    video = "JPEGImages/480p/train-00"
    assert rows["davis17-train", video].files == 16
    assert all(isinstance(facts, FolderFacts) for facts in rows.values())
    assert not (root / "manifests").exists()

    call = ["data", "verify", "--root", broken.root, "--against", str(listing)]
    assert main(call) == 0
    frame = root / "DAVIS/2017/trainval" / video / "00003.jpg"
    frame.write_bytes((frame.parent / "00004.jpg").read_bytes())
    capsys.readouterr()
    assert main(call) == 2
    assert f"davis17-train: {video} has 16 files of" in capsys.readouterr().err
