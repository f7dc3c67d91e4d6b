"""The label of each pixel."""

from __future__ import annotations

import torch


def most_likely(probabilities: torch.Tensor) -> torch.Tensor:
    """uint8 (H, W): index of the largest of (N + 1, H, W); of equals, the first.

    As argmax over the first dimension, which is more than ten times slower on CPUs.
    """
    if probabilities.device.type != "cpu":
        return probabilities.argmax(0).to(torch.uint8)
    best = probabilities[0]
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for index in range(1, len(probabilities)):
        labels.masked_fill_(probabilities[index] > best, index)
        best = torch.maximum(best, probabilities[index])
    return labels
