"""What the frame viewer is given: sheets, chosen sequences and frames, J over time."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vosrepro.base.labels import write_labels
from vosrepro.reporting import load_table
from vosrepro.reporting.pages.sheets import Sheets, rows_per_sheet, shown_size
from vosrepro.reporting.pages.viewer import ViewerMaker, choose, thin_out
from vosrepro.study.plan import Plan


def _open(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_mask_sheets_hold_the_labels_of_every_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 5, (30, 40), dtype=np.uint8) for _ in range(3)]
    for number, label in enumerate(labels):
        write_labels(tmp_path / f"{number}.png", label)
    sheets = Sheets()
    (key,) = sheets.masks([tmp_path / f"{n}.png" for n in range(3)], (40, 30))
    image = _open(sheets.assets[key])
    assert np.array_equal(np.asarray(image), np.concatenate(labels))
    assert image.info["transparency"] == 0


def test_void_is_background_and_binary_masks_have_one_object(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.png", np.array([[0, 255, 3]], np.uint8))
    sheets = Sheets()
    (plain,) = sheets.masks([tmp_path / "a.png"], (3, 1))
    (binary,) = sheets.masks([tmp_path / "a.png"], (3, 1), binary=True)
    assert np.asarray(_open(sheets.assets[plain])).tolist() == [[0, 0, 3]]
    assert np.asarray(_open(sheets.assets[binary])).tolist() == [[0, 1, 1]]


def test_a_missing_mask_leaves_its_tile_empty(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.png", np.ones((2, 2), np.uint8))
    sheets = Sheets()
    (key,) = sheets.masks([None, tmp_path / "a.png"], (2, 2))
    assert np.asarray(_open(sheets.assets[key])).tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_large_frames_shrink_and_long_videos_take_several_sheets(tmp_path: Path) -> None:
    Image.new("RGB", (854, 480)).save(tmp_path / "f.jpg")
    size = shown_size(tmp_path / "f.jpg")
    assert size == (384, 216)
    keys = Sheets().frames([tmp_path / "f.jpg"] * 20, size)
    assert len(keys) == -(-20 // rows_per_sheet(216))


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_thinning_keeps_order_and_the_frames_asked_for(total: int, most: int, data: st.DataObject) -> None:
    paths = [Path(f"{i:05d}.jpg") for i in range(total)]
    keep = data.draw(st.lists(st.sampled_from([p.stem for p in paths]), max_size=3))
    kept = thin_out(paths, most, keep=keep)
    assert kept == sorted(kept)
    assert set(keep) <= {p.stem for p in kept}
    assert len(kept) <= most + len(keep)
    assert kept[0] == paths[0]


def test_the_worst_sequences_are_shown_and_the_median() -> None:
    assert choose(list("abcdefg"), 3) == ["a", "b", "d"]
    assert choose(list("ab"), 3) == ["a", "b"]


def test_viewer_holds_own_rows_and_other_methods(finished: Plan) -> None:
    viewer = ViewerMaker(load_table(finished)).make("stm")
    assert viewer is not None
    assert viewer.notes == ()
    first = viewer.data["benchmarks"][0]
    names = [s["name"] for s in first["systems"]]
    assert names[0] == "stm/s02/top50"
    assert "copy/none/default" in names
    for sequence in first["sequences"]:
        assert len(sequence["frames"]) == len(sequence["j"][names[0]]) == 6
        assert sequence["j"][names[0]][0] is None  # the given frame is not scored
        scored = [j for j in sequence["j"][names[0]] if j is not None]
        assert sequence["j"][names[0]][sequence["worst"][0]] in sorted(scored)[:3]
        for keys in (sequence["images"], sequence["truth"], *sequence["masks"].values()):
            assert set(keys) <= set(viewer.data["assets"])


def test_a_study_may_want_no_viewer(finished: Plan) -> None:
    study = finished.study.model_copy(update={"viewer_sequences": 0})
    plan = Plan(study, finished.methods, finished.benchmarks, finished.runs, finished.entries)
    assert ViewerMaker(load_table(plan)).make("stm") is None
