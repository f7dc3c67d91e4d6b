from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_study import infer_run, write_manifest, write_study

from vosrepro.base.errors import CheckpointError, ConfigError, DamagedError
from vosrepro.base.files import file_digest, read_json
from vosrepro.datasets.generated.imagenet import CLASSES, write_imagenet
from vosrepro.datasets.sets.imagenet import validation_images
from vosrepro.inference import classify
from vosrepro.inference.images import best_classes
from vosrepro.methods import get_method
from vosrepro.methods.common.classification import Classifier
from vosrepro.scoring.entries import score_run
from vosrepro.study.plan import load_plan
from vosrepro.study.records import SelectionRecord
from vosrepro.training.data.images import accuracy
from vosrepro.weights.files import build_model, save_weights

CPU = torch.device("cpu")
IMAGES = 2 * CLASSES


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_imagenet(folder, seed=0, limit=2)
    return folder


@pytest.fixture
def make_plan(root, tmp_path, images, monkeypatch):
    """A study of one entry of `parts` on imagenet-val with random weights where training leaves them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classify, "_BLOCK", 12)
    (tmp_path / "params").symlink_to(root / "params")

    def make(recipe="s0", variant="full", **changes):
        write_manifest()
        entry = {"method": "parts", "recipes": [recipe], "variants": [variant]}
        study = {"data": {"root": str(images)}, **changes}
        path = write_study(tmp_path, [entry | {"benchmarks": ["imagenet-val"]}], **study)
        plan = load_plan(path)
        run = plan.runs[0]
        for seed, step in enumerate(run.stages[-1].params.checkpoint_steps()):
            network = build_model("parts", run.model, weights=None, seed=seed, device=CPU)
            save_weights(run.stages[-1].weights(step), network.state_dict())
        weights = run.folder / "selected.safetensors"
        save_weights(weights, network.state_dict())
        SelectionRecord(
            step=step,
            metric="",
            value=None,
            last_step=step,
            last_value=None,
            weights_sha256=file_digest(weights),
            rule="",
        ).write(run.selection)
        return plan

    return make


def _inferred(plan):
    infer_run(plan, plan.runs[0])
    folder = plan.entries[0].folder
    return folder, read_json(folder / "infer.json")


def test_an_entry_has_a_line_for_each_image_and_a_record(make_plan):
    plan = make_plan()
    folder, record = _inferred(plan)
    lines = (folder / "predictions.csv").read_text().splitlines()
    assert len(lines) == IMAGES + 1
    assert lines[1].split(",")[0] == validation_images(plan.study.data)[0].name
    scores = [float(v) for v in lines[1].split(",")[2::2]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1 + 1e-5
    assert record["timing"]["images"] == IMAGES
    assert record["timing"]["images_per_second"] > 0
    assert record["params"] == {"crop_px": 48}
    assert record["weights"]["step"] == plan.runs[0].stages[-1].params.steps
    listed = read_json(plan.runs[0].folder / "inference.json")["entries"][plan.entries[0].key]
    assert listed["predictions_digest"] == record["predictions_digest"]


def test_finished_blocks_are_kept_and_a_damaged_one_is_made_again(make_plan):
    plan = make_plan()
    _, before = _inferred(plan)
    assert _inferred(plan)[1]["images_reused"] == IMAGES
    block = next(Path("state/infer").glob("*/images-00001.csv"))
    block.write_text(block.read_text()[:-30])
    _, record = _inferred(plan)
    assert record["images_reused"] == 12
    assert record["predictions_digest"] == before["predictions_digest"]
    next(Path("state/infer").glob("*/images-00000.json")).write_text("{}")
    assert _inferred(plan)[1]["images_reused"] == IMAGES - 12


def test_the_score_is_what_training_logs_of_the_same_weights(make_plan):
    plan = make_plan()
    run = plan.runs[0]
    folder, record = _inferred(plan)
    score_run(plan, run)
    score = read_json(folder / "score.json")
    weights = run.stages[-1].last_weights
    network = build_model("parts", run.model, weights=weights, seed=0, device=CPU)
    job = SimpleNamespace(
        network=network,
        node=run.stages[-1],
        device=CPU,
        world=SimpleNamespace(rank=0, size=1, sum=lambda counts: counts),
    )
    logged = accuracy(job, get_method("parts").classifier(network), validation_images(plan.study.data))
    assert logged["val/images"] == score["images"] == IMAGES
    assert logged["val/top1"] == pytest.approx(100 * score["global"]["Top1"])
    assert logged["val/top5"] == pytest.approx(100 * score["global"]["Top5"])
    assert score["hits"]["Top5"] > 0
    assert score["predictions_digest"] == record["predictions_digest"]


def test_a_broken_image_is_named_and_wrong(make_plan, images, tmp_path, caplog):
    own = tmp_path / "own"
    write_imagenet(own, seed=0, limit=2)
    plan = make_plan(data={"root": str(own)})
    broken = validation_images(plan.study.data)[3]
    broken.path.write_bytes(broken.path.read_bytes()[:200])
    folder, record = _inferred(plan)
    assert record["undecodable"] == [broken.name]
    assert f"counted as wrong: {broken.name}" in caplog.text
    score_run(plan, plan.runs[0])
    score = read_json(folder / "score.json")
    assert score["images"] == IMAGES
    assert broken.name in score["warnings"][0]


def test_predictions_that_inference_did_not_write_are_not_scored_but_made_again(make_plan):
    plan = make_plan()
    folder, _ = _inferred(plan)
    path = folder / "predictions.csv"
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    with pytest.raises(DamagedError, match=r"predictions\.csv is not the file that .*inference\.json names"):
        score_run(plan, plan.runs[0])
    assert not plan.runs[0].inference.exists()
    _inferred(plan)
    assert path.read_text() == whole
    score_run(plan, plan.runs[0])


def test_a_variant_takes_the_checkpoint_that_it_names(make_plan):
    plan = make_plan(variant="epoch20")
    _, record = _inferred(plan)
    assert record["weights"]["step"] == plan.runs[0].stages[-1].params.checkpoint_steps()[1]
    assert record["params"] == {"checkpoint": 2, "crop_px": 48}


def test_a_checkpoint_that_the_stage_does_not_keep_is_refused(make_plan):
    with pytest.raises(ConfigError, match="wants checkpoint 9, but stage s0 keeps 5"):
        _inferred(make_plan(variant="epoch90"))


def test_a_checkpoint_is_refused_where_videos_are_segmented(make_plan, tmp_path):
    plan = make_plan()
    entry = {"method": "parts", "recipes": ["s0"], "variants": ["epoch10"]}
    plan = load_plan(write_study(tmp_path, [entry | {"benchmarks": ["davis17-val"]}]))
    with pytest.raises(ConfigError, match="names a checkpoint of a classifier"):
        infer_run(plan, plan.runs[0])


def test_weights_without_a_class_head_are_refused(make_plan):
    with pytest.raises(ConfigError, match="parts/s012 has no class head, which imagenet-val needs"):
        _inferred(make_plan("s012"))


def test_a_method_without_weights_is_refused(make_plan, tmp_path):
    make_plan()
    entry = {"method": "copy", "recipes": ["none"], "variants": ["default"]}
    plan = load_plan(write_study(tmp_path, [entry | {"benchmarks": ["imagenet-val"]}]))
    with pytest.raises(ConfigError, match="copy/none/seed0/default/imagenet-val has no trained"):
        infer_run(plan, plan.runs[0])


def test_weights_of_other_classes_are_refused(make_plan, tmp_path):
    own = tmp_path / "own"
    write_imagenet(own, seed=0, limit=1)
    for half in ("train", "val"):
        folder = sorted((own / "ImageNet" / half).iterdir())[-1]
        next(folder.iterdir()).unlink()
        folder.rmdir()
    with pytest.raises(CheckpointError, match="know 10 classes, but the data has 9"):
        _inferred(make_plan(data={"root": str(own)}))


def test_the_background_of_1001_classes_is_taken_off():
    logits = torch.zeros(2, 1001)
    logits[0, 8], logits[1, 0], logits[1, 1000] = 9, 9, 8
    found = Classifier(lambda frames: logits[: len(frames)], 1001)
    best, scores = best_classes(found, np.zeros((2, 4, 4, 3), np.uint8), CPU)
    assert found.classes == 1000
    assert best[:, 0].tolist() == [7, -1]
    assert int(best[1, 1]) == 999
    assert best.shape == scores.shape == (2, 5)


@pytest.mark.parametrize("study", ["mini", "mini-parts", "paper"])
def test_crops_have_the_size_that_the_class_head_was_trained_with(in_root, study):
    entries = [e for e in load_plan(f"params/studies/{study}.yaml").entries if e.crop_px]
    assert entries
    for entry in entries:
        node = entry.run.stages[-1]
        assert node.params.clips.size_px == (entry.crop_px, entry.crop_px)
        classify.class_weights(entry)


def test_variants_on_the_way_take_the_checkpoint_of_their_epoch(in_root):
    found = []
    for entry in load_plan("params/studies/paper.yaml").entries:
        if entry.benchmark == "imagenet-val" and entry.variant.startswith("epoch"):
            _, step = classify.class_weights(entry)
            images = step * entry.run.stages[-1].params.batch_size
            assert round(images / 1281167, 1) == int(entry.variant.removeprefix("epoch"))
            found.append((entry.run.recipe, entry.variant))
    assert len(found) == 13
