"""Stage 0: single images with a class, their crops, and validation by top-1 and top-5 accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.scoring.classification import UNKNOWN, count_hits
from vosrepro.training.data import geometry

if TYPE_CHECKING:
    from vosrepro.datasets.sets.imagenet import LabeledImage
    from vosrepro.methods.common.classification import Classifier
    from vosrepro.study.params import ClipParams, Study
    from vosrepro.training.job import TrainingJob

log = logging.getLogger(__name__)

KIND = "image"
#: Class of an image that could not be decoded; the loss leaves it out.
NO_CLASS = -1


class ImageSampler:
    """Builds the training samples of stage 0 and skips what cannot be decoded.

    Options of the clips: `smallest_crop` (0.1), the least share of an image that a crop has;
    `max_corrupt` (100), how many broken images a process may meet before training stops.

    Raises:
        ConfigError: if an option is unknown or a clip has several frames.
    """

    def __init__(self, params: ClipParams) -> None:
        options: dict[str, Any] = {"smallest_crop": 0.1, "max_corrupt": 100}
        unknown = sorted(set(params.options) - set(options))
        if unknown or params.frames != 1 or params.augment != "random-crop":
            what = f"option '{unknown[0]}'" if unknown else f"{params.frames} frames, {params.augment}"
            raise ConfigError(
                f"clips of the kind '{KIND}' have 1 frame, the augmentation random-crop and the options "
                f"{', '.join(options)}, not {what}"
            )
        options |= params.options
        self._size = params.size_px
        self._smallest = float(options["smallest_crop"])
        self._most = int(options["max_corrupt"])
        self._broken: set[str] = set()

    def sample(self, item: Any, rng: np.random.Generator, *, share: float) -> dict[str, np.ndarray]:
        """A random crop with its class; NO_CLASS and a black image if it cannot be decoded.

        Raises:
            DataError: if too many images cannot be decoded.
        """
        del share
        from vosrepro.datasets.sets.imagenet import BrokenImage, read_image

        image = item.content
        try:
            pixels, label = (
                random_crop(read_image(image), self._size, rng, smallest=self._smallest),
                image.label,
            )
        except BrokenImage as error:
            self._note(image.name, error)
            pixels, label = np.zeros((*self._size, 3), np.uint8), NO_CLASS
        return {
            "frames": pixels[None],
            "masks": np.zeros((1, 1, 1, 1), np.uint8),
            "labels": np.zeros((1, 1, 1), np.uint8),
            "selector": np.zeros(1, np.uint8),
            "classes": np.array(label, np.int64),
        }

    def _note(self, name: str, error: DataError) -> None:
        if name in self._broken:
            return
        self._broken.add(name)
        log.warning("skipped (%d so far): %s", len(self._broken), error)
        if len(self._broken) > self._most:
            shown = ", ".join(sorted(self._broken)[:3])
            raise DataError(
                f"{len(self._broken)} training images cannot be decoded ({shown}, ...), more than "
                f"max_corrupt = {self._most}: restore them from the original archives"
            )


def random_crop(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator, *, smallest: float) -> np.ndarray:
    """A part of an image stretched to `size` (height, width), mirrored half of the time.

    Its area is `smallest` to 1 of the image, its aspect 3/4 to 4/3.

    Source: tensorflow/models: official/resnet (at least a tenth of the image; `geometry.random_crop_box`
    draws the aspect log-uniformly, TensorFlow uniformly).
    """
    height, width = image.shape[:2]
    left, top, w, h = geometry.random_crop_box(width, height, (smallest, 1.0), rng)
    part = image[top : top + h, left : left + w]
    resized = cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized[:, ::-1].copy() if rng.random() < 0.5 else resized


# ---------------------------------------------------------------------------------------- validation


def validation(job: TrainingJob, study: Study) -> Callable[[], None] | None:
    """What a stage of images does at each checkpoint: log "val/top1" and "val/top5" in percent.

    None for other stages, and for a network without a class head.
    """
    if job.node.params.clips.kind != KIND or job.method.classifier is None:
        return None
    classifier = job.method.classifier(job.network)
    if classifier is None:
        return None
    from vosrepro.datasets.sets.imagenet import validation_images

    images = validation_images(study.data)

    def validate() -> None:
        found = accuracy(job, classifier, images)
        job.metrics = {**job.metrics, **found}
        job.journal.metrics(found, step=job.step)
        if job.world.first:
            log.info("%s step %d: top-1 %.2f %%", job.node.folder, job.step, found["val/top1"])

    return validate


def accuracy(job: TrainingJob, classifier: Classifier, images: Sequence[LabeledImage]) -> dict[str, float]:
    """Top-1 and top-5 of the present weights over all images, each counted once by one of the ranks.

    A broken image counts as wrong.
    """
    import torch

    from vosrepro.inference.images import best_classes, central_crops

    training = job.network.training
    job.network.eval()
    counts = torch.zeros(3, dtype=torch.float64)
    for crops in central_crops(images[job.world.rank :: job.world.size], job.node.params.clips.size_px):
        best, _ = best_classes(classifier, crops.pixels, job.device)
        labels = np.where(crops.decoded, [image.label for image in crops.images], UNKNOWN)
        counts += torch.tensor(count_hits(best.cpu().numpy(), labels), dtype=torch.float64)
    job.network.train(training)
    top1, top5, count = job.world.sum(counts.to(job.device)).tolist()
    return {"val/top1": 100 * top1 / count, "val/top5": 100 * top5 / count, "val/images": count}
