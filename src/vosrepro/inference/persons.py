"""First-frame masks of persons by an instance segmenter, for videos that come without any mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.errors import CheckpointError, DataError
from vosrepro.study.paths import PERSON_DETECTOR

if TYPE_CHECKING:
    from collections.abc import Mapping

_PERSON = 1  # COCO's category
_LEAST_SCORE, _LEAST_MASK = 0.5, 0.5
_MOST = 254


def person_finder(weights: Path = PERSON_DETECTOR) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a frame, uint8 (H, W, 3) RGB, to its persons, uint8 (H, W), best score first.

    Source: He et al., ICCV 2017, as torchvision's maskrcnn_resnet50_fpn.
    Deviation: the published pipeline took its first masks from PolarMask, which it does not include.

    Raises:
        DataError: if the weights are missing.
        CheckpointError: if they are of something else.
    """
    import torch
    from torchvision.models import detection

    if not weights.is_file():
        raise DataError(
            f"videos without a first mask need a detector, but {weights} is missing: put torchvision's "
            "maskrcnn_resnet50_fpn (COCO) there, or a mask of the first frame beside the video"
        )
    network = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{weights} is not torchvision's maskrcnn_resnet50_fpn ({reason}): download it again"
        ) from error
    network.eval()

    @torch.inference_mode()
    def find(frame: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float().div_(255)
        found = {name: value.numpy() for name, value in network([image])[0].items()}
        return person_labels(found, frame.shape[:2])

    return find


def person_labels(found: Mapping[str, Any], size: tuple[int, ...]) -> np.ndarray:
    """Detections as a label map; a pixel of several persons belongs to the one with the best score.

    Args:
        found: "labels" (N), "scores" (N) and "masks" (N, 1, H, W) in [0, 1].
        size: height and width.
    """
    persons = (found["labels"] == _PERSON) & (found["scores"] >= _LEAST_SCORE)
    order = [i for i in np.argsort(-found["scores"], kind="stable") if persons[i]][:_MOST]
    labels = np.zeros(size, np.uint8)
    for identity, i in enumerate(order, start=1):
        labels[(found["masks"][i, 0] > _LEAST_MASK) & (labels == 0)] = identity
    return labels
