"""Recorded outputs of the official tool and of vos-benchmark, and published values of real masks.

The recorded cases exist twice, of the same kinds: made from our generated masks (tests/fixtures/evaluation, always
here), and cut from real masks (beside the repository, where it is there).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_masks import shared, shared_path

from vosrepro.base.errors import VosreproError
from vosrepro.base.labels import write_labels
from vosrepro.scoring import score_folder
from vosrepro.scoring.counting.counting import COUNTS, Counter
from vosrepro.scoring.counting.disc import half_widths, radius
from vosrepro.scoring.counting.packing import pack_objects
from vosrepro.scoring.counting.png import LabelImage, decode
from vosrepro.scoring.measures import contour_accuracy, region_similarity, statistics

pytestmark = pytest.mark.oracle
FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = [
    "c01_single_480p",
    "c02_multi_crop",
    "c03_multi_quarter",
    "c04_empty_pred",
    "c05_gt_vanishes",
    "c06_void255",
    "c07_late_low_id",
    "c08_late_high_id",
    "c08b_late_high_id_unpredicted",
    "c09_one_pixel",
    "c10_borders",
    "c11_extra_id",
    "c11b_extra_id_unscored",
    "c12_missing_frame",
    "c12b_missing_unscored",
    "c13_size_mismatch",
    "c14_gap_in_ids",
    "c15_short",
]
NAMES = ("mean", "recall", "decay")


SOURCES = ["generated", *(["real"] if shared_path("golden", "evaluation").is_dir() else [])]


@pytest.fixture(scope="module", params=SOURCES)
def folder(request, tmp_path_factory) -> Path:
    """A folder with cases/<case>/{gt,pred}/<sequence>/<frame>.png, void_*.png and expected.json."""
    if request.param == "real":
        return shared("golden", "evaluation")
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "expected.json").write_bytes((FIXTURES / "evaluation/expected.json").read_bytes())
    with np.load(FIXTURES / "evaluation/cases.npz") as arrays:
        for name, masks in arrays.items():  # a case's masks of consecutive frames, or one mask
            if name.startswith("void/"):
                write_labels(folder / f"{name.replace('/', '_')}.png", masks)
                continue
            place, _, first = name.rpartition("/")
            for number, labels in enumerate(masks, int(first)):
                write_labels(folder / "cases" / place / f"{number:05d}.png", labels)
    return folder


@pytest.fixture(scope="module")
def recorded(folder):
    return json.loads((folder / "expected.json").read_text())


def score(folder: Path, case: str, protocol: str):
    return score_folder(folder / "cases" / case / "pred", folder / "cases" / case / "gt", protocol)


def test_the_list_of_cases_is_complete(recorded):
    assert sorted(recorded["cases"]) == sorted(CASES)


@pytest.mark.data
def test_the_cases_cut_from_real_masks_are_compared_too():
    shared("golden", "evaluation")
    assert "real" in SOURCES


@pytest.mark.parametrize("case", CASES)
def test_davis2017_frames_are_exact_and_aggregates_agree(folder, recorded, case):
    expected = recorded["cases"][case]["davis2017"]
    if expected["status"] != "ok":
        with pytest.raises(VosreproError, match=r"sequence '\w+'.*frame '0000\d'"):
            score(folder, case, "davis2017")
        return
    found = score(folder, case, "davis2017")
    for sequence, want in expected["sequences"].items():
        for k in range(want["objects"]):
            frames, j, f = found.per_frame(sequence, k + 1)
            assert list(frames) == want["frames"]
            assert j.tolist() == want["J"][k]
            assert f.tolist() == want["F"][k]
            row = next(r for r in found.rows if (r.sequence, r.object_id) == (sequence, k + 1))
            flat = [want["stats"][k][m][name] for m in "JF" for name in NAMES]
            assert row.values == pytest.approx(flat, abs=1e-12)
    for m in "JF":
        for name in NAMES:
            value = found.global_[f"{m}-{name.capitalize()}"]
            assert value == pytest.approx(expected["global"][m + name], abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_vos_benchmark_means_agree(folder, recorded, case):
    expected = recorded["cases"][case]["vos_benchmark"]
    if "error" in next(iter(expected.values())):
        with pytest.raises(VosreproError, match=r"sequence '\w+'"):
            score(folder, case, "vos-benchmark")
        return
    found = {(r.sequence, r.object_id): r.values for r in score(folder, case, "vos-benchmark").rows}
    wanted = {(s, int(k)): v for s, objects in expected.items() for k, v in objects.items()}
    assert set(found) == set(wanted)
    for key, values in wanted.items():
        pair = (found[key][0], found[key][3])
        assert pair == pytest.approx((values["Jmean"], values["Fmean"]), abs=1e-12)


@pytest.mark.parametrize(("protocol", "last"), [("frtm", "drop"), ("ytvos-local", "keep")])
@pytest.mark.parametrize("case", ["c03_multi_quarter", "c05_gt_vanishes", "c07_late_low_id", "c08_late_high_id"])
def test_scores_after_first_appearance_are_exact(folder, recorded, case, protocol, last):
    expected = recorded["cases"][case][f"after_first_appearance_{last}_last"]
    found = score(folder, case, protocol)
    assert {f"{r.sequence}/{r.object_id}" for r in found.rows} == set(expected)
    for key, want in expected.items():
        sequence, number = key.split("/")
        _, j, f = found.per_frame(sequence, int(number))
        assert (j.tolist(), f.tolist()) == (want["J"], want["F"])


def test_void_as_a_measure_of_its_own(folder, recorded):
    gt, pred, void = (decode((folder / f"void_{name}.png").read_bytes()).array() for name in ("gt", "pred", "void"))
    for want in recorded["void_metric"]:
        for keep, suffix in ((void == 0, ""), (np.ones(void.shape, bool), "_without_void")):
            counter, row = Counter(), np.zeros((1, len(COUNTS)), np.int64)
            pair = [
                pack_objects(LabelImage(*m.shape, ((m == want["object"]) & keep).astype(np.uint8)), (1,))
                for m in (gt, pred)
            ]
            counter.add(pair[0][0], pair[1][0], row)
            counter.flush()
            assert region_similarity(row)[0] == want[f"J{suffix}"]
            assert contour_accuracy(row)[0] == want[f"F{suffix}"]


def test_statistics_agree_for_all_recorded_lengths(recorded):
    for row in recorded["statistics"]["rows"]:
        found = statistics(np.array([((37 * t + 11) % 101) / 100 for t in range(row["n"])]))
        assert found.mean == pytest.approx(row["mean"], abs=1e-12)
        assert found.recall == pytest.approx(row["recall"], abs=1e-12)
        assert found.decay == pytest.approx(row["decay_with_wide_integers"], abs=1e-12)


def test_radius_and_disc_agree(recorded):
    values = recorded
    for row in values["radius"]:
        r = radius(*row["shape"])
        assert r == row["radius"]
        assert sum(2 * (2 * w + 1) for w in half_widths(r)) - (2 * r + 1) == row["disk_pixels"]
    assert half_widths(8) == values["disk8_row_half_widths"]


@pytest.mark.data
@pytest.mark.slow
def test_published_masks_give_the_published_values():
    published = json.loads((FIXTURES / "published_pml_davis2016.json").read_text())["sequences"]
    found = score_folder(
        shared("data", "davis2016_published_masks", "pml"),
        shared("data", "davis2016", "Annotations", "480p"),
        "davis2016",
        sequences=sorted(published),
    )
    compared = 0
    for sequence, want in published.items():
        _, j, f = found.per_frame(sequence, 1)
        for values, thousandths in ((j, want["J"]), (f, want["F"])):
            assert [f"{v:.3f}" for v in values] == [f"{n / 1000:.3f}" for n in thousandths]
            compared += len(values)
    assert compared == 812


@pytest.mark.data
@pytest.mark.slow
def test_per_sequence_statistics_of_published_masks_agree():
    file = shared("golden", "evaluation", "published_davis2016_val.json")
    want = json.loads(file.read_text())["methods"]["pml"]["per_sequence"]
    truth = shared("data", "davis2016", "Annotations", "480p")
    masks = shared("data", "davis2016_published_masks", "pml")
    names = sorted(p.name for p in masks.iterdir())
    for row in score_folder(masks, truth, "davis2016", sequences=names).rows:
        values = want[row.sequence]["J"] + want[row.sequence]["F"]
        assert row.values == pytest.approx(values, abs=5.1e-7)
