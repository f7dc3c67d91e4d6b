"""Every record: written and read back, readable from older versions, clear when broken, and read by its model only."""

from __future__ import annotations

import ast
import json
import types
from typing import Any, get_args, get_origin

import pytest
from pydantic import ValidationError

from vosrepro.base.errors import DataError
from vosrepro.study.records import MlflowOutcome, Provenance, Record, RecordBlock, ScoreRecord, StageRecord

MODELS = sorted(Record.__subclasses__(), key=lambda model: model.__name__)

#: Keys that the first version of each record had, with values of their kinds.
PROVENANCE = {
    "command": "vosrepro train",
    "git": {"commit": None, "dirty": None},
    "libraries": {"torch": "2.11.0", "dvc": None},
    "hardware": {"cpu": "a processor", "cores": 2, "machine": "x86_64", "gpu": None},
    "python": "3.11.7",
}
OLDEST: dict[str, dict[str, Any]] = {
    "DataManifest": {
        **{"study": "mini", "root": "data", "generated": True, "files": 3, "bytes": 5, "digest": "d" * 16},
        **{"parts": {"davis16-val": {"videos": 8}}, "code": "c" * 16, "provenance": PROVENANCE},
    },
    "StageRecord": {
        **{"stage": "s2", "digest": "d" * 16, "state_digest": "e" * 16, "data_digest": "f" * 16},
        **{"parent": {"path": "step-40.safetensors", "sha256": "a" * 64}, "params": {"steps": 40}, "model": {}},
        "checkpoints": [{"step": 40, "path": "results/step-40.safetensors", "sha256": "b" * 64}],
        **{"steps": 40, "status": "FINISHED", "device": "cpu", "world_size": 1, "source_digest": "1" * 16},
        **{"final_metrics": {"train/loss": 0.5}, "resumed_from": [20], "wall_seconds": 3.25},
        **{"samples_per_second": 7.5, "peak_memory_mb": 800.1, "provenance": PROVENANCE},
    },
    "SelectionRecord": {
        **{"step": 40, "metric": "J&F-Mean", "value": 0.75, "last_step": 80, "last_value": 0.5},
        **{"weights": "step-40.safetensors", "weights_sha256": "a" * 64, "rule": "best J&F-Mean on 4"},
        **{"sequences": ["a", "b"], "training_digest": None, "wall_seconds": 1.5, "provenance": PROVENANCE},
    },
    "InferenceRecord": {
        **{"entry": "stm/s2/seed0/top50/davis16-val", "params": {"top_k": 50}, "benchmark": {"title": "x"}},
        "timing": {"fps_amortised": 20.5, "fps_steady": None, "frames": 40, "sequences": 2},
        "memory": {"peak_rss_mb": 640.0, "peak_gpu_allocated_mb": None, "peak_gpu_reserved_mb": None},
        **{"regime": "streamed", "device": "cpu", "precision": "fp32", "tf32": False, "masks_digest": "f" * 16},
        **{"wall_seconds": 4.5, "videos_reused": 0, "weights": None, "data_digest": "d" * 16},
        "provenance": PROVENANCE,
    },
    "RunInference": {
        **{"run": "stm/s2/seed0", "weights_sha256": None, "wall_seconds": 1.5, "provenance": PROVENANCE},
        "entries": {"stm/s2/seed0/top50/davis16-val": {"infer": "infer.json", "masks_digest": "f" * 16}},
    },
    "ScoreRecord": {
        **{"protocol": "davis2016", "global": {"J&F-Mean": 0.5, "J-Mean": 0.5}, "objects": 4, "sequences": 2},
        **{"frames": 40, "warnings": ["a sentence"], "entry": "a/b", "benchmark": "davis16-val"},
        **{"benchmark_version": 1, "masks_digest": "f" * 16, "provenance": PROVENANCE},
    },
    "ServerAnswer": {
        **{"entry": "a/b", "benchmark": "davis17-testdev", "protocol": "server of davis", "global": {"J-Mean": 0.5}},
        **{"answer": "scores.txt", "answer_sha256": "a" * 64, "submission_sha256": None, "masks_digest": "f" * 16},
        "provenance": PROVENANCE,
    },
    "RunScores": {
        "run": "stm/s2/seed0",
        "entries": {"a": {"J&F-Mean": 0.5}, "b": None},
        **{"wall_seconds": 1.5, "provenance": PROVENANCE},
    },
    "MlflowOutcome": {
        **{"status": "complete", "tracking_uri": "sqlite:///mlflow.db", "experiment_id": "1"},
        **{"runs": {"stm/s2/seed0": "0" * 32}, "note": ""},
    },
    "ImportRecord": {
        **{"method": "stm", "recipe": "released", "size": "full", "model": {}, "weights": "weights/stm.safetensors"},
        "weights_sha256": "a" * 64,
        "source": {"name": "x.pth", "bytes": 5, "sha256": "b" * 64, "obtain": "there", "licence": "MIT", "note": ""},
        "entries": {
            **{"used": 3, "left_out": 1, "left_out_names": ["head"], "from_elsewhere": 0},
            "from_elsewhere_names": [],
        },
        **{"foreign_classes": [], "provenance": PROVENANCE},
    },
    "PairsRecord": {
        "benchmark": "davis16-val",
        "pairs": [
            {
                **{"video": "ants", "source": "a.jpg", "target": "b.jpg", "size": [64, 96], "grid": [8, 12]},
                **{"cell_px": 8, "top": 0, "left": 4, "begin": [1, 2], "peaks": [0.5, 0.25]},
            }
        ],
    },
}


def parts(model: type[RecordBlock]) -> set[type[RecordBlock]]:
    """The model and all blocks inside it."""
    found, todo = set(), [model]
    while todo:
        current = todo.pop()
        if isinstance(current, type) and issubclass(current, RecordBlock) and current not in found:
            found.add(current)
            todo += [field.annotation for field in current.model_fields.values()]
        elif get_origin(current) in (tuple, types.UnionType) or get_args(current):
            todo += get_args(current)
    return found


def test_every_record_is_tried_here():
    assert sorted(OLDEST) == [model.__name__ for model in MODELS]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_a_record_of_the_first_version_is_read_and_written_back_unchanged(model, tmp_path):
    path, value = tmp_path / "old.json", OLDEST[model.__name__]
    path.write_text(json.dumps(value))
    record = model.read(path)
    assert record.model_extra == {}, "keys that the model does not know"
    record.write(tmp_path / "again/new.json")
    assert json.loads((tmp_path / "again/new.json").read_text()) == value
    assert model.read(tmp_path / "again/new.json") == record


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_a_key_of_a_newer_version_is_kept(model, tmp_path):
    value = {**OLDEST[model.__name__], "of_tomorrow": [1, {"x": 2}]}
    (tmp_path / "new.json").write_text(json.dumps(value))
    model.read(tmp_path / "new.json").write(tmp_path / "same.json")
    assert json.loads((tmp_path / "same.json").read_text()) == value


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_what_a_record_must_have_is_missed_by_its_key(model, tmp_path):
    value = OLDEST[model.__name__]
    needed = [field.validation_alias or name for name, field in model.model_fields.items() if field.is_required()]
    assert needed
    path = tmp_path / "cut.json"
    for key in needed:
        path.write_text(json.dumps({k: v for k, v in value.items() if k != key}))
        with pytest.raises(DataError, match=rf"cut\.json is no .+\(key '{key}' is missing\): delete it and run again"):
            model.read(path)
    path.write_text(json.dumps({key: value[key] for key in needed}))
    model.read(path)  # and nothing else is needed


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_a_value_of_another_kind_is_named(model, tmp_path):
    key = next(field.validation_alias or name for name, field in model.model_fields.items() if field.is_required())
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({**OLDEST[model.__name__], key: {"not": ["what", "it", "was"]}}))
    with pytest.raises(DataError, match=rf"odd\.json is no .+\(key '{key}.*: .+\): delete it and run again"):
        model.read(path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"odd\.json is no .+key 'the whole': .+"):
        model.read(path)


def test_a_record_that_is_not_there_or_is_torn_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="none.json is missing: run the step that makes it first"):
        StageRecord.read(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"stage": "s0", "dig')
    with pytest.raises(DataError, match="torn.json is not valid JSON"):
        StageRecord.read(tmp_path / "torn.json")


def test_no_record_can_be_changed():
    for model in {part for record in MODELS for part in parts(record)}:
        assert model.model_config.get("frozen")
    outcome = MlflowOutcome(status="off", tracking_uri="x")
    with pytest.raises(ValidationError):
        outcome.status = "complete"  # pyright: ignore[reportAttributeAccessIssue]


def test_only_what_was_stated_is_written():
    record = ScoreRecord(protocol=None, global_=None, note="by the server")
    assert record.stated() == {"protocol": None, "global": None, "note": "by the server"}


def test_what_a_process_says_of_itself_is_known_to_the_model():
    here = Provenance.here()
    assert (here.model_extra, here.git.model_extra, here.hardware.model_extra) == ({}, {}, {})
    assert here.hardware.cores
    assert here.libraries["numpy"]


#: Who reads JSON without a model: parameters and data sets of others, and what a job keeps for itself.
OWN_FILES = {
    "study/records.py": "the models",
    "workflow.py": "the resolved study, a parameter model",
    "datasets/sets/resized.py": "sizes of scaled copies, beside them",
    "scoring/scorer.py": "meta.json of YouTube-VOS",
    "scoring/submission.py": "meta.json of YouTube-VOS",
    "tracking/follower.py": "requests and replies between two processes",
    "inference/videos.py": "finished videos of a job's own state",
    "inference/classify.py": "finished blocks of a job's own state",
    "inference/own/segment.py": "the state of a user's clip",
    "inference/own/kept.py": "what a user's folder of masks says of itself",
    "inference/own/correct.py": "what a user's folder of masks says of itself",
    "commands/score.py": "earlier scores of a user's masks",
}


def test_no_reader_takes_a_record_apart_without_its_model(root):
    package = root / "src/vosrepro"
    readers = set()
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        if "read_json" in names:
            readers.add(file.relative_to(package).as_posix())
    assert readers == set(OWN_FILES)
