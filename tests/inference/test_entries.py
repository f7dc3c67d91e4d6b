from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from toy_study import make_davis17, write_manifest, write_study

from vosrepro.base.errors import VosreproError
from vosrepro.base.files import read_json, write_json
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.inference.entries import infer_run
from vosrepro.inference.videos import choose_kernels
from vosrepro.methods import get_method
from vosrepro.scoring.entries import score_run
from vosrepro.study.plan import load_plan
from vosrepro.tracking.journal import read_events

CPU = torch.device("cpu")


@pytest.fixture
def plan(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(root / "params")
    make_davis17(tmp_path / "data")
    write_manifest()
    entry = {"method": "copy", "recipes": ["none"], "variants": ["default"]}
    return load_plan(write_study(tmp_path, [entry | {"benchmarks": ["davis17-val"]}]))


def inferred(plan):
    run = plan.runs[0]
    infer_run(plan, run, device=CPU)
    return run, plan.entries[0].folder


def test_an_entry_has_masks_times_and_a_record(plan):
    run, folder = inferred(plan)
    assert sorted(p.name for p in (folder / "masks").iterdir()) == ["val-00", "val-01"]
    assert len(list((folder / "masks/val-00").glob("*.png"))) == 6
    record = read_json(folder / "infer.json")
    assert record["timing"]["frames"] == 12
    assert record["provenance"]["git"]["commit"]
    assert len((folder / "timing.csv").read_text().splitlines()) == 13
    assert read_json(run.folder / "inference.json")["entries"][plan.entries[0].key]


def test_a_second_run_reuses_every_video_and_a_lost_one_is_made_again(plan):
    run, folder = inferred(plan)
    before = (folder / "masks/val-00/00003.png").stat().st_mtime_ns
    (folder / "masks/val-01/00003.png").unlink()
    infer_run(plan, run, device=CPU)
    assert read_json(folder / "infer.json")["videos_reused"] == 1
    assert (folder / "masks/val-00/00003.png").stat().st_mtime_ns == before
    assert (folder / "masks/val-01/00003.png").is_file()


@pytest.mark.parametrize("name", ["val-00.json", "val-00.csv"])
@pytest.mark.parametrize("content", [None, "{", "{}\n"])
def test_a_video_with_a_damaged_record_is_segmented_again(plan, name, content):
    run, folder = inferred(plan)
    (record,) = Path("state/infer").glob(f"*/{name}")
    if content is None:
        record.unlink()
    else:
        record.write_text(content)
    infer_run(plan, run, device=CPU)
    assert read_json(folder / "infer.json")["videos_reused"] == 1
    assert read_json(folder / "infer.json")["timing"]["frames"] == 12


def test_masks_of_videos_that_are_no_longer_asked_for_are_removed(plan):
    run, folder = inferred(plan)
    stale = folder / "masks/old-video/00000.png"
    write_labels(stale, read_labels(folder / "masks/val-00/00000.png"))
    infer_run(plan, run, device=CPU)
    assert not stale.exists()


def test_scores_of_the_copied_first_mask_fall_with_the_motion(plan):
    run, folder = inferred(plan)
    score_run(plan, run)
    values = read_json(folder / "score.json")["global"]
    # Each 16 px wide square moved by 2 f px in frame f = 1..4: J = (16 - 2f) / (16 + 2f).
    expected = sum((16 - 2 * f) / (16 + 2 * f) for f in range(1, 5)) / 4
    assert values["J-Mean"] == pytest.approx(expected, abs=1e-12)
    assert values["J-Decay"] > 0
    assert read_json(run.folder / "scores.json")["entries"][plan.entries[0].key] == values
    assert read_events(run.journal("score"))[-1]["status"] == "FINISHED"


def test_merged_masks_are_scored_by_both_ground_truths_where_both_are_at_hand(plan, tmp_path):
    tree = tmp_path / "data/DAVIS/2017/trainval"
    (tree / "ImageSets/2016").mkdir()
    (tree / "ImageSets/2016/val.txt").write_text("val-00\n")
    entry = {"method": "copy", "recipes": ["none"], "variants": ["default"], "benchmarks": ["davis16-val-merged17"]}
    plan = load_plan(write_study(tmp_path, [entry]))
    run, folder = inferred(plan)
    score_run(plan, run)
    record = read_json(folder / "score.json")
    assert record["protocol"] == "davis2016-merged17"
    assert record["beside"]["global"] is None
    assert "davis2016" in record["beside"]["note"]
    other = tmp_path / "data/DAVIS/2016"  # the same videos with one of the two squares left out
    shutil.copytree(tree, other)
    for path in (other / "Annotations/480p/val-00").glob("*.png"):
        write_labels(path, (read_labels(path) == 1).astype("uint8"))
    score_run(plan, run)
    record = read_json(folder / "score.json")
    moved = sum((16 - 2 * f) / (16 + 2 * f) for f in range(1, 5)) / 4
    assert record["global"]["J-Mean"] == pytest.approx(moved, abs=1e-12)
    # Of two copied squares of 16 columns one lies 2 f columns beside its truth; the other is all wrong.
    alone = sum((16 - 2 * f) / (32 + 2 * f) for f in range(1, 5)) / 4
    assert record["beside"]["global"]["J-Mean"] == pytest.approx(alone, abs=1e-12)


def test_a_missing_mask_names_sequence_and_frame(plan):
    run, folder = inferred(plan)
    (folder / "masks/val-01/00002.png").unlink()
    with pytest.raises(VosreproError, match=r"val-01.*00002"):
        score_run(plan, run)
    assert read_events(run.journal("score"))[-1]["status"] == "FAILED"


def test_a_record_without_the_entry_says_what_to_do(plan):
    run, _ = inferred(plan)
    path = run.folder / "inference.json"
    write_json(path, read_json(path) | {"entries": {}})
    with pytest.raises(VosreproError, match=r"does not list copy/none.*delete that file"):
        score_run(plan, run)


@pytest.mark.parametrize(("method", "tried"), [("stm", False), ("frtm", True), ("mtmfi", True), ("gfrtm", True)])
def test_kernels_are_tried_where_the_published_evaluation_tries_them(monkeypatch, method, tried):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not tried)
    choose_kernels(get_method(method), torch.device("cpu"))
    assert torch.backends.cudnn.benchmark is not tried
    choose_kernels(get_method(method), torch.device("cuda"))
    assert torch.backends.cudnn.benchmark is tried
