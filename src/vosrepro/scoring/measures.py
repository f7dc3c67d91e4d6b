"""From counts to J and F per frame, and to mean, recall and decay per object.

Source: davisvideochallenge/davis2017-evaluation: davis2017/metrics.py and davis2017/utils.py.
Deviation: bin edges of decay are wide integers; the official 8-bit ones wrap from 256 frames on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Of one measure over the scored frames of one object, each in 0..1 (decay in -1..1)."""

    mean: float
    recall: float
    decay: float


def region_similarity(counts: np.ndarray) -> np.ndarray:
    """J per row of counts (n, 7): intersection over union, 1 if both masks are empty."""
    inter, gt, pred = (counts[:, k].astype(np.int64) for k in range(3))
    union = gt + pred - inter
    return np.where(union == 0, 1.0, inter / np.maximum(union, 1))


def contour_accuracy(counts: np.ndarray) -> np.ndarray:
    """F per row of counts (n, 7): harmonic mean of boundary precision and recall.

    A side without boundary gives 0, both without give 1.
    """
    gt, pred, gt_match, pred_match = (counts[:, k].astype(np.int64) for k in range(3, 7))
    precision = np.where(pred > 0, pred_match / np.maximum(pred, 1), 1.0)
    recall = np.where(gt > 0, gt_match / np.maximum(gt, 1), 1.0)
    precision = np.where((pred > 0) & (gt == 0), 0.0, precision)
    recall = np.where((gt > 0) & (pred == 0), 0.0, recall)
    total = precision + recall
    return np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1.0, total))


def statistics(values: np.ndarray) -> Statistics:
    """Mean, recall (share above 0.5, strictly) and decay (first minus last quarter) of a series."""
    edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    first = values[edges[0] : edges[1] + 1]
    last = values[edges[3] : edges[4] + 1]
    return Statistics(float(np.mean(values)), float(np.mean(values > 0.5)), float(np.mean(first) - np.mean(last)))
