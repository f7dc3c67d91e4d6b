"""Inference of an entry of single images: a predictions file instead of masks.

Blocks of images that are done are kept in `state/infer/<digest>/`, as videos are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.base.files import csv_text, file_digest, read_json, write_json, write_text
from vosrepro.base.machine import peak_memory
from vosrepro.base.predictions import BACKGROUND, COLUMNS, PLACES
from vosrepro.datasets import benchmark_images
from vosrepro.inference.clock import FrameClock
from vosrepro.inference.images import BATCH, best_classes, central_crops
from vosrepro.methods import get_method
from vosrepro.weights.files import build_model

if TYPE_CHECKING:
    from vosrepro.datasets.sets.imagenet import LabeledImage
    from vosrepro.methods.common.classification import Classifier
    from vosrepro.study.plan import Entry, Plan

log = logging.getLogger(__name__)
#: Images that are kept together.
_BLOCK = 16 * BATCH
#: A variant's setting: which kept checkpoint of the last stage, counted from 1.
CHECKPOINT = "checkpoint"


def class_weights(entry: Entry) -> tuple[Path, int]:
    """The weights that name classes, and their training step (0 if they were not trained here).

    Not the selected ones: selection asks which checkpoint segments held-out videos best, while published
    accuracies are of the end of a schedule, or of a checkpoint on the way that the variant names.

    Raises:
        ConfigError: if the recipe has no weights or no such checkpoint.
    """
    run, number = entry.run, entry.variant_params.get(CHECKPOINT)
    if run.stages:
        node = run.stages[-1]
        steps = node.params.checkpoint_steps()
        if number is not None and not 1 <= number <= len(steps):
            raise ConfigError(
                f"{entry.key} wants checkpoint {number}, but stage {node.stage} keeps {len(steps)}: correct the "
                "variant or take it out of the study"
            )
        step = steps[-1 if number is None else number - 1]
        return node.weights(step), step
    if run.selected_weights is None or number is not None:
        raise ConfigError(f"{entry.key} has no trained weights to take: take it out of the study")
    return run.selected_weights, 0


def classify_entry(plan: Plan, entry: Entry, *, weights: Path, device: torch.device, state: Path) -> dict[str, Any]:
    """Write predictions.csv of an entry and return its record.

    Args:
        plan: the study.
        entry: of a benchmark of single images.
        weights: of `class_weights`.
        device: where to compute.
        state: folder of the finished blocks.

    Raises:
        ConfigError: if the method or the recipe's network has no class head.
        CheckpointError: if the weights do not fit, or know other classes.
        DataError: if images or their labels are missing.
    """
    assert entry.crop_px is not None
    size = (entry.crop_px, entry.crop_px)
    images, names = benchmark_images(entry.benchmark_params, plan.study.data)
    blocks = [images[i : i + _BLOCK] for i in range(0, len(images), _BLOCK)]
    todo = [i for i in range(len(blocks)) if not _finished(state, i, len(blocks[i]))]
    done = len(images) - sum(len(blocks[i]) for i in todo)
    log.info("%s: %d images, %d of them done before", entry.key, len(images), done)
    started = time.monotonic()
    if todo:
        classifier = _classifier(entry, weights, names, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        first = next(central_crops(blocks[todo[0]][:BATCH], size))
        best_classes(classifier, first.pixels, device)  # warm-up
        for i in todo:
            _classify_block(classifier, blocks[i], names, size, state, i, device)
    texts = [_path(state, i, "csv").read_text(encoding="utf-8") for i in range(len(blocks))]
    predictions = entry.predictions
    write_text(predictions, ",".join(COLUMNS) + "\n" + "".join(texts))
    notes = [read_json(_path(state, i, "json")) for i in range(len(blocks))]
    seconds = sum(note["seconds"] for note in notes)
    return {
        "entry": entry.key,
        "params": {k: v for k, v in entry.variant_params.items() if k == CHECKPOINT} | {"crop_px": entry.crop_px},
        "benchmark": entry.benchmark_params.model_dump(mode="json"),
        "timing": {
            "images_per_second": len(images) / seconds if seconds else None,
            "images": len(images),
            "seconds": seconds,
        },
        "undecodable": [name for note in notes for name in note["undecodable"]],
        "memory": peak_memory(device),
        "device": str(device),
        "precision": "fp32",
        "tf32": bool(device.type == "cuda" and torch.backends.cudnn.allow_tf32),
        "predictions_digest": file_digest(predictions),
        "wall_seconds": round(time.monotonic() - started, 3),
        "images_reused": done,
    }


def _classifier(entry: Entry, weights: Path, names: Sequence[str], device: torch.device) -> Classifier:
    run = entry.run
    build = get_method(run.method).classifier
    model = None
    if build is not None:
        model = build_model(run.method, run.model, weights=weights, seed=run.seed, device=device)
    found = None if build is None or model is None else build(model)
    if found is None:
        raise ConfigError(
            f"{run.method}/{run.recipe} has no class head, which {entry.benchmark} needs: name a recipe of "
            f"{run.method} that ends with classification, or take the entry out of the study"
        )
    if found.classes != len(names):
        raise CheckpointError(
            f"the weights {weights} of {run.method}/{run.recipe} know {found.classes} classes, but the data has "
            f"{len(names)}: use weights and data of the same classes"
        )
    return found


def _classify_block(
    classifier: Classifier,
    images: Sequence[LabeledImage],
    names: Sequence[str],
    size: tuple[int, int],
    state: Path,
    number: int,
    device: torch.device,
) -> None:
    clock, rows = FrameClock(device), []
    broken: list[str] = []
    for crops in central_crops(images, size):
        clock.start()
        best, scores = best_classes(classifier, crops.pixels, device)
        clock.stop()
        lines = zip(crops.images, crops.decoded, best.tolist(), scores.tolist(), strict=True)
        for image, decoded, classes, values in lines:
            fields: list[str] = []
            for label, value in zip(classes, values, strict=True) if decoded else ():
                fields += [BACKGROUND if label < 0 else names[label], f"{value:.6g}"]
            broken += [] if decoded else [image.name]
            rows.append([image.name, *fields, *[""] * (2 * PLACES - len(fields))])
    path = _path(state, number, "csv")
    write_text(path, csv_text(rows))
    record = {
        "sha256": file_digest(path),
        "images": len(images),
        "seconds": sum(clock.seconds()),
        "undecodable": broken,
    }
    write_json(_path(state, number, "json"), record)


def _finished(state: Path, number: int, images: int) -> bool:
    """Whether a block's predictions are those of its record; one with a damaged record is made again."""
    try:
        record = read_json(_path(state, number, "json"))
        complete = float(record["seconds"]) >= 0 and isinstance(record["undecodable"], list)
        found = (record["sha256"], record["images"], complete)
        return found == (file_digest(_path(state, number, "csv")), images, True)
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return False


def _path(state: Path, number: int, kind: str) -> Path:
    return state / f"images-{number:05d}.{kind}"
