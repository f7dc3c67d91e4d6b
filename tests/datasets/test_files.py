"""Files of a folder without an object for each."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import pytest

from vosrepro.base.errors import DataError
from vosrepro.base.names import frame_files
from vosrepro.datasets import training_videos
from vosrepro.datasets.prepare import checking
from vosrepro.datasets.prepare.inventory import Inventory
from vosrepro.datasets.prepare.listing import Listing
from vosrepro.datasets.sets.files import FilesByStem, FolderFiles, frame_names
from vosrepro.study.params import DataParams


def test_files_of_a_folder_are_a_sequence_of_paths():
    files = FolderFiles(Path("a"), ["0.jpg", "1.b.jpg", "2.jpg"])
    assert list(files) == [Path("a/0.jpg"), Path("a/1.b.jpg"), Path("a/2.jpg")]
    assert files[-1] == Path("a/2.jpg")
    assert files[1:] == (Path("a/1.b.jpg"), Path("a/2.jpg"))
    assert files != FolderFiles(Path("b"), files.names)
    assert frame_names(files) == [path.stem for path in files] == ["0", "1.b", "2"]
    assert frame_names([Path("x/7.png")]) == ["7"]
    assert pickle.loads(pickle.dumps(files)) == files


def test_files_are_found_by_their_stem_as_in_a_dictionary():
    names = sorted(["0.png", "0-1.png", "00.png", "a.b.png", "a.png", "Z.PNG"])
    files = FilesByStem(Path("m"), names)
    assert dict(files) == {Path(name).stem: Path("m") / name for name in names}
    assert files.get("a.b.c") is None
    assert "a" in files
    assert "" not in files
    assert len(FilesByStem(Path("m"), ())) == 0


def test_only_visible_files_with_the_ending_are_listed(tmp_path: Path):
    for name in ("b.JPG", "a.jpeg", "._a.jpeg", "c.png"):
        (tmp_path / name).write_bytes(b"")
    assert frame_files(tmp_path, (".jpg", ".jpeg")) == ["a.jpeg", "b.JPG"]
    with pytest.raises(DataError, match="the folder .*none is missing"):
        frame_files(tmp_path / "none", (".jpg",))


def _many(root: Path, videos: int, frames: int) -> DataParams:
    for video in range(videos):
        for tree, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
            folder = root / "BL30K" / tree / f"video-{video:03d}"
            folder.mkdir(parents=True)
            for frame in range(frames):
                (folder / f"{frame:05d}.{ending}").write_bytes(b"x")
    return DataParams(root=str(root))


def test_folders_with_the_same_names_share_them_and_cost_hardly_any_memory(tmp_path: Path):
    data = _many(tmp_path, videos=20, frames=40)
    training_videos("bl30k", data)
    tracemalloc.start()
    videos = training_videos("bl30k", data)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert videos[0].frames.names is videos[19].frames.names
    assert grown / len(videos) < 3000  # bytes; a path alone has more than 100


def test_checking_does_not_hold_a_whole_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking, "READ_WHOLE_BYTES", 0)
    monkeypatch.setattr(checking, "image_size", lambda data: (1, 1))
    data = _many(tmp_path, videos=20, frames=40)
    _, defects = checking.check_part("bl30k", data, Listing(), full=False)
    assert not defects
    peaks = []
    for root in (data, _many(tmp_path / "more", videos=60, frames=40)):
        tracemalloc.start()
        checking.check_part("bl30k", root, Listing(), full=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.6 * peaks[0]  # three times as many files


def test_samples_of_a_large_part_are_spread_over_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking, "_SAMPLES", 4)
    look = checking._Look("bl30k", content=False)
    for video in range(10):
        pairs = [(Path(f"none/{video}/{n}.jpg"), None) for n in range(5)]
        look._add(Inventory(Path("none"), pairs=pairs))
    numbers = [int(p.parent.name) * 5 + int(p.stem) for p, _ in look.samples]
    assert numbers == [0, 8, 16, 24, 32, 40, 48]


def test_a_folder_that_comes_in_pieces_is_counted_whole():
    listing = Listing()
    for piece in ([("a/0", 1, None)], [("a/1", 2, None)]):
        listing.add("part", piece, digest_of="sizes")
    facts = listing.rows["part", "a"]
    assert (facts.files, facts.bytes) == (2, 3)
