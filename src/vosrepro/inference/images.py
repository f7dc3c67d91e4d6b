"""What a classifier is validated on and what it says: central crops in batches, and their best classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from vosrepro.base.predictions import PLACES
from vosrepro.datasets.sets.imagenet import BrokenImage, LabeledImage, read_image
from vosrepro.methods.common.classification import Classifier, background

log = logging.getLogger(__name__)

BATCH = 64
_RATIO = 256 / 224  # of the resized short side to the crop


class Crops(NamedTuple):
    """Central crops of some images.

    Attributes:
        images: which they are of.
        pixels: uint8 (B, H, W, 3) RGB; black where the image could not be decoded.
        decoded: bool (B).
    """

    images: Sequence[LabeledImage]
    pixels: np.ndarray
    decoded: np.ndarray


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image whose shorter side was brought to 256 / 224 of the crop's (truncated)."""
    height, width = image.shape[:2]
    short = round(max(size) * _RATIO)
    factor = short / min(height, width)
    full = (max(size[1], int(width * factor)), max(size[0], int(height * factor)))
    resized = cv2.resize(image, full, interpolation=cv2.INTER_LINEAR)
    top, left = (full[1] - size[0]) // 2, (full[0] - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]


def central_crops(images: Sequence[LabeledImage], size: tuple[int, int]) -> Iterator[Crops]:
    """Batches of `BATCH` images; those that cannot be decoded are named in the log.

    Args:
        images: in the order of the result.
        size: height and width of the crops.
    """
    for start in range(0, len(images), BATCH):
        block = images[start : start + BATCH]
        pixels = np.zeros((len(block), *size, 3), np.uint8)
        decoded = np.zeros(len(block), bool)
        for i, image in enumerate(block):
            try:
                pixels[i], decoded[i] = center_crop(read_image(image), size), True
            except BrokenImage as error:
                log.warning("counted as wrong: %s", error)
        yield Crops(block, pixels, decoded)


@torch.inference_mode()
def best_classes(classifier: Classifier, pixels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The most likely classes of a batch of images, the best first.

    Args:
        classifier: in evaluation mode, on `device`.
        pixels: uint8 (B, H, W, 3) RGB.
        device: where to compute.

    Returns:
        int64 (B, k): classes from 0, -1 for the background; float32 (B, k): their probabilities. k is
        `PLACES` or the number of outputs, if that is smaller.
    """
    frames = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2) / 255
    logits = classifier.logits(frames).float()
    top = logits.topk(min(PLACES, classifier.outputs), dim=1).indices
    return top - background(classifier.outputs), logits.softmax(dim=1).gather(1, top)
