from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from toy_study import infer_run, make_davis17, write_manifest, write_study

from vosrepro.base.errors import DamagedError, DataError
from vosrepro.base.files import read_json, write_json
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.cli import main
from vosrepro.inference.videos import choose_kernels
from vosrepro.methods import get_method
from vosrepro.scoring.entries import score_run
from vosrepro.study.plan import load_plan
from vosrepro.study.records import DataManifest
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
    infer_run(plan, run)
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
    infer_run(plan, run)
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
    infer_run(plan, run)
    assert read_json(folder / "infer.json")["videos_reused"] == 1
    assert read_json(folder / "infer.json")["timing"]["frames"] == 12


def test_masks_of_videos_that_are_no_longer_asked_for_are_removed(plan):
    run, folder = inferred(plan)
    stale = folder / "masks/old-video/00000.png"
    write_labels(stale, read_labels(folder / "masks/val-00/00000.png"))
    infer_run(plan, run)
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


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def exchange(path):
    path.write_bytes(path.parent.with_name("val-00").joinpath(path.name).read_bytes())


@pytest.mark.parametrize("fault", [Path.unlink, cut, exchange], ids=["missing", "cut off", "another valid mask"])
def test_a_mask_that_is_not_what_inference_wrote_is_named_moved_aside_and_made_again(plan, fault):
    run, folder = inferred(plan)
    score_run(plan, run)
    before = read_json(folder / "score.json")["global"]
    mask = folder / "masks/val-01/00002.png"
    fault(mask)
    with pytest.raises(DamagedError, match=r"val-01/00002\.png is .*run the same command again"):
        score_run(plan, run)
    assert read_events(run.journal("score"))[-1]["status"] == "FAILED"
    assert not run.inference.exists()  # so that the workflow makes it again
    assert not mask.exists()
    infer_run(plan, run)
    assert read_json(folder / "infer.json")["videos_reused"] == 1
    score_run(plan, run)
    assert read_json(folder / "score.json")["global"] == before


@pytest.mark.parametrize(
    "fault",
    [
        Path.unlink,
        cut,
        lambda path: path.write_text(path.read_text().replace('"J-Mean": 0.', '"J-Mean": 0.1')),
    ],
    ids=["missing", "cut off", "another number"],
)
def test_a_score_that_is_not_what_scoring_wrote_is_named_and_made_again(plan, tmp_path, fault):
    run, folder = inferred(plan)
    score_run(plan, run)
    command = ["report", "--study", str(tmp_path / "toy.yaml"), "--only", "outlets"]
    assert main(command) == 0
    before = (plan.results / "metrics.json").read_text()
    fault(folder / "score.json")
    assert main(command) == DamagedError.exit_code
    assert (plan.results / "metrics.json").read_text() == before
    assert not run.scores.exists()  # so that the workflow makes it again
    score_run(plan, run)
    assert main(command) == 0
    assert (plan.results / "metrics.json").read_text() == before


def test_masks_of_records_without_digests_are_scored_as_they_are(plan):
    run, folder = inferred(plan)
    record = read_json(run.inference)
    for entry in record["entries"].values():
        del entry["masks_digest"]
    write_json(run.inference, record)
    exchange(folder / "masks/val-01/00002.png")
    score_run(plan, run)
    assert run.scores.is_file()


@pytest.mark.parametrize("content", ["{", "{}", '{"entries": {}, "run": "x"}'])
def test_a_damaged_record_of_inference_is_moved_aside_and_made_again_from_finished_videos(plan, content):
    run, folder = inferred(plan)
    run.inference.write_text(content)
    with pytest.raises(DamagedError, match=r"inference\.json .*state/damaged/results/toy.*run the same command again"):
        score_run(plan, run)
    assert Path("state/damaged", run.inference).read_text() == content
    assert not run.inference.exists()
    infer_run(plan, run)
    assert read_json(folder / "infer.json")["videos_reused"] == 2
    score_run(plan, run)


def counted(frames, root="data", **more):
    part = {"frames": frames, "digest": "1" * 16, **more}
    DataManifest(digest="0" * 16, root=root, parts={"davis17-val": part}).write("results/toy/data.json")


def test_a_frame_that_is_missing_for_a_moment_is_named_and_its_video_is_whole_when_it_is_back(plan):
    counted(12)
    run = plan.runs[0]
    frame = Path("data/DAVIS/2017/trainval/JPEGImages/480p/val-00/00003.jpg")
    frame.rename("lost.jpg")
    with pytest.raises(DataError, match=r"has 11 frames, but .*data\.json counts 12: .*val-00/00003\.jpg is missing"):
        infer_run(plan, run)
    assert not run.inference.exists()
    Path("lost.jpg").rename(frame)
    infer_run(plan, run)
    score_run(plan, run)
    assert read_json(plan.entries[0].folder / "infer.json")["timing"]["frames"] == 12


def test_a_mask_of_the_ground_truth_that_is_missing_for_a_moment_is_no_reason_to_score_fewer_frames(plan):
    counted(12, masks=12)
    run, folder = inferred(plan)
    score_run(plan, run)
    before = read_json(folder / "score.json")["global"]
    mask = Path("data/DAVIS/2017/trainval/Annotations/480p/val-01/00003.png")
    mask.rename("lost.png")
    with pytest.raises(DataError, match=r"has 11 masks .*data\.json counts 12, perhaps in val-01: restore the data"):
        score_run(plan, run)
    Path("lost.png").rename(mask)
    score_run(plan, run)
    assert read_json(folder / "score.json")["global"] == before


def test_of_frames_without_masks_the_gap_in_their_numbers_is_named(plan):
    counted(12)
    base = Path("data/DAVIS/2017/trainval")
    for name in ("val-00", "val-01"):
        for frame in range(1, 6):
            (base / f"Annotations/480p/{name}/{frame:05d}.png").unlink()
    (base / "JPEGImages/480p/val-01/00004.jpg").unlink()
    with pytest.raises(DataError, match=r"perhaps .*val-01/00004\.jpg is missing"):
        infer_run(plan, plan.runs[0])


def test_more_frames_than_were_counted_are_no_reason_to_guess(plan):
    counted(11)
    with pytest.raises(
        DataError, match=r"has 12 frames, but .*data\.json counts 11: if these frames are meant, delete"
    ):
        infer_run(plan, plan.runs[0])


def test_a_video_is_done_when_it_has_a_mask_for_every_frame_that_the_data_has_now(plan):
    frame = Path("data/DAVIS/2017/trainval/JPEGImages/480p/val-00/00005.jpg")
    frame.rename("lost.jpg")  # without a count of frames nobody can know
    run, folder = inferred(plan)
    Path("lost.jpg").rename(frame)
    infer_run(plan, run)
    assert read_json(folder / "infer.json")["videos_reused"] == 1
    assert (folder / "masks/val-00/00005.png").is_file()


@pytest.mark.parametrize(("method", "tried"), [("stm", False), ("frtm", True), ("mtmfi", True), ("gfrtm", True)])
def test_kernels_are_tried_where_the_published_evaluation_tries_them(monkeypatch, method, tried):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not tried)
    choose_kernels(get_method(method), torch.device("cpu"))
    assert torch.backends.cudnn.benchmark is not tried
    choose_kernels(get_method(method), torch.device("cuda"))
    assert torch.backends.cudnn.benchmark is tried
