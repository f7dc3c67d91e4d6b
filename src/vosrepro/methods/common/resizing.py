"""Resizing of frames and masks to the size a method runs at, as the upstream evaluations do it."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def short_side_size(height: int, width: int, *, short_side_px: int) -> tuple[int, int]:
    """Height and width with the given short side; the long side is truncated to whole pixels."""
    short = min(height, width)
    return height * short_side_px // short, width * short_side_px // short


def resize_frame(frame: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic, without antialiasing and clamping: (3, H, W) -> (3, *size).

    Source: hkchengrex/Mask-Propagation: dataset/yv_test_dataset.py with torchvision 0.8.
    """
    if frame.shape[-2:] == size:
        return frame
    return F.interpolate(frame[None], size, mode="bicubic", align_corners=False)[0]


def resize_labels(labels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Nearest neighbor: uint8 (H, W) -> uint8 (*size)."""
    if labels.shape == size:
        return labels
    return F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0].to(torch.uint8)
