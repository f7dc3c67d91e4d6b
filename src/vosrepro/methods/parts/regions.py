"""Regions of interest: aligned sampling of squares from feature maps, all regions of an image at once."""

from __future__ import annotations

import torch
from torch.nn import functional as F

SAMPLES = 2  # points per output cell and axis


def roi_align(
    features: torch.Tensor, boxes: torch.Tensor, image: torch.Tensor, *, cells: int, stride: float
) -> torch.Tensor:
    """ROIAlign with 2 x 2 points per cell; points outside of the map are 0.

    Equal to `torchvision.ops.roi_align(..., sampling_ratio=2, aligned=True)` (tested), which is used on
    a GPU. On a CPU one call of torch's grid sampling per image is as fast, and importing torchvision
    costs seconds at every start.

    Args:
        features: (B, C, H, W).
        boxes: (P, 4) in pixels of the frame.
        image: int64 (P), which of the B maps.
        cells: of the output along a side.
        stride: pixels of the frame per cell of the map.

    Returns:
        (P, C, cells, cells).
    """
    # Half precision would put boxes up to two pixels off (it has 8 bits for places up to 854).
    wide = torch.promote_types(features.dtype, torch.float32)
    sample = _fused if _on_gpu(features) else _gridded
    with torch.autocast(features.device.type, enabled=False):
        found = sample(features.to(wide), boxes.to(wide), image, cells=cells, stride=stride)
    return found.to(features.dtype)


def _on_gpu(x: torch.Tensor) -> bool:
    """Whether the form that is fast on a GPU is to be used."""
    return x.is_cuda


def _gridded(
    features: torch.Tensor, boxes: torch.Tensor, image: torch.Tensor, *, cells: int, stride: float
) -> torch.Tensor:
    """By torch's grid sampling, one call per map."""
    if features.shape[0] == 1:
        return _sample(features, boxes, cells=cells, stride=stride)
    found = features.new_zeros(len(boxes), features.shape[1], cells, cells)
    pieces, places = [], []
    for i in range(features.shape[0]):
        chosen = (image == i).nonzero()[:, 0]
        if len(chosen):
            pieces.append(_sample(features[i : i + 1], boxes[chosen], cells=cells, stride=stride))
            places.append(chosen)
    return found.index_copy(0, torch.cat(places), torch.cat(pieces)) if pieces else found


def _fused(
    features: torch.Tensor, boxes: torch.Tensor, image: torch.Tensor, *, cells: int, stride: float
) -> torch.Tensor:
    """By torchvision, which wants both of one type."""
    from torchvision.ops import roi_align as fast

    indexed = torch.cat([image[:, None].to(boxes), boxes], dim=1)
    return fast(features, indexed, cells, 1 / stride, sampling_ratio=SAMPLES, aligned=True)


def _sample(features: torch.Tensor, boxes: torch.Tensor, *, cells: int, stride: float) -> torch.Tensor:
    """Regions of one map (1, C, H, W)."""
    count, channels = len(boxes), features.shape[1]
    if not count:
        return features.new_zeros(0, channels, cells, cells)
    points = cells * SAMPLES
    share = (torch.arange(points, device=boxes.device, dtype=features.dtype) + 0.5) / points
    x, valid_x = _axis(boxes[:, 0], boxes[:, 2], share, stride, features.shape[3])
    y, valid_y = _axis(boxes[:, 1], boxes[:, 3], share, stride, features.shape[2])
    grid = torch.stack([x[:, None, :].expand(-1, points, -1), y[:, :, None].expand(-1, -1, points)], dim=3)
    sampled = F.grid_sample(
        features,
        grid.reshape(1, count * points, points, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    valid = (valid_y[:, :, None] & valid_x[:, None, :]).to(features.dtype)
    sampled = sampled * valid.reshape(1, 1, count * points, points)
    pooled = F.avg_pool2d(sampled, SAMPLES)
    return pooled.reshape(channels, count, cells, cells).transpose(0, 1)


def _axis(
    start: torch.Tensor, stop: torch.Tensor, share: torch.Tensor, stride: float, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized coordinates (P, points) along one axis, and which of them are near the map."""
    place = (start[:, None] + (stop - start)[:, None] * share) / stride - 0.5  # in cells
    valid = (place >= -1) & (place <= length)
    return (2 * place + 1) / length - 1, valid
