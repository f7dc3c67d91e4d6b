"""Mask propagation by backward warping: no weights, no memory beyond the last frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch

from vosrepro.methods.common.masks import first_objects, late_objects, one_hot

if TYPE_CHECKING:
    from torch import nn

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class FlowSegmenter:
    """Warps the last probabilities with the flow from the current frame back to the last one.

    Probabilities stay soft over time (bilinear sampling), so small errors blur a boundary instead of
    tearing it; what enters from outside of the image is background.
    """

    def __init__(
        self,
        model: nn.Module | None = None,  # noqa: ARG002, an argument of every segmenter
        *,
        preset: Literal["ultrafast", "fast", "medium"] = "medium",
    ) -> None:
        """Take the DIS preset of OpenCV; there is no model."""
        self._preset = _PRESETS[preset]
        self._flow: cv2.DISOpticalFlow | None = None
        self._grey: np.ndarray | None = None
        self._probabilities: np.ndarray | None = None  # float32 (H, W, N+1)

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Remember the first frame and its mask."""
        objects = first_objects(frame, mask)
        self._grey = _grey(frame)
        # An own instance per video: DIS keeps buffers, and a fresh one makes results repeatable.
        self._flow = cv2.DISOpticalFlow.create(self._preset)
        self._probabilities = _channels_last(one_hot(mask, range(objects + 1)))

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Warp the last probabilities onto this frame; new objects are drawn over them."""
        if self._grey is None or self._probabilities is None or self._flow is None:
            raise RuntimeError("init must be called before step")
        grey = _grey(frame)
        # A flow that is passed in would be taken as a first guess, so none is.
        flow = self._flow.calc(grey, self._grey, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
        warped = _warp(self._probabilities, flow)
        if new is not None:
            warped = _draw(warped, new, late_objects(frame, new, present=warped.shape[2] - 1))
        self._grey, self._probabilities = grey, warped
        return torch.from_numpy(warped).permute(2, 0, 1).contiguous().to(frame.device)

    def correct(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Go on from this frame and its mask."""
        if self._probabilities is None:
            raise RuntimeError("init must be called before correct")
        objects = max(self._probabilities.shape[2] - 1, int(mask.max()))
        self._grey, self._probabilities = _grey(frame), _channels_last(one_hot(mask, range(objects + 1)))


def _grey(frame: torch.Tensor) -> np.ndarray:
    rgb = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _channels_last(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.permute(1, 2, 0).cpu().numpy())


def _warp(probabilities: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Sample (H, W, C) where the flow (H, W, 2), in pixels x and y, says that each pixel came from."""
    height, width, channels = probabilities.shape
    x = np.arange(width, dtype=np.float32)[None] + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    warped = np.empty_like(probabilities)
    for channel in range(1, channels):  # cv2.remap takes at most four channels at once
        warped[..., channel] = cv2.remap(
            probabilities[..., channel], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    warped[..., 0] = np.clip(1 - warped[..., 1:].sum(axis=2), 0, 1)
    return warped / warped.sum(axis=2, keepdims=True)


def _draw(probabilities: np.ndarray, new: torch.Tensor, objects: int) -> np.ndarray:
    height, width, channels = probabilities.shape
    drawn = np.zeros((height, width, objects + 1), np.float32)
    drawn[..., :channels] = probabilities
    labels = new.cpu().numpy()
    covered = labels > 0
    drawn[covered] = 0
    drawn[covered, labels[covered]] = 1
    return drawn
