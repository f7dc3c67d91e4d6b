"""How FRTM makes one label map of independent objects.

Source: andr345/frtm-vos: model/tracker.py (and ytvos_validation/ for the single merge).
"""

from __future__ import annotations

import torch

_EPSILON = 1e-7


def merge_odds(objects: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax over the *odds* of background and objects, and the winners' soft masks.

    The background's probability is the smallest absence of any object.

    Args:
        objects: (O, H, W) in [0, 1].

    Returns:
        (O + 1, H, W) distribution over background and objects; (O, H, W) with each object's probability
        where it is the most likely label, 0 elsewhere (what target models learn from).
    """
    p = objects.clamp(_EPSILON, 1 - _EPSILON)
    p = torch.cat([(1 - p).amin(0, keepdim=True), p])
    soft = torch.softmax(p / (1 - p), 0)
    best = soft == soft.amax(0)  # argmax over the first dimension is slow on CPUs
    first = best & (best.cumsum(0) == 1)  # of equals, the first wins
    return soft, torch.where(first[1:], soft[1:], torch.zeros_like(soft[1:]))


def merged_labels(objects: torch.Tensor, *, twice: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities for the output, and soft masks for the target models.

    Args:
        objects: (O, H, W) in [0, 1].
        twice: merge the merged masks again, as upstream does for its output: a winner with less than
            half of the probability becomes background.
    """
    soft, masks = merge_odds(objects)
    return (merge_odds(masks)[0] if twice else soft), masks
