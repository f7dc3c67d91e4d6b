"""Label maps: as one-hot masks, from probabilities, and the checks of what a segmenter is given."""

from __future__ import annotations

import torch

from vosrepro.base.errors import DataError


def one_hot(labels: torch.Tensor, ids: range) -> torch.Tensor:
    """float32 (len(ids), H, W): 1 where the label map (H, W) equals the id."""
    wanted = torch.arange(ids.start, ids.stop, device=labels.device)
    return (labels[None].long() == wanted[:, None, None]).float()


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


def first_objects(frame: torch.Tensor, mask: torch.Tensor) -> int:
    """Number of objects of the first mask: its largest id.

    An id below the largest may have no pixel (resizing can swallow a tiny object); it is an object that
    is not seen.

    Raises:
        DataError: if frame and mask differ in size, or the mask is empty.
    """
    _check_size(frame, mask)
    objects = int(mask.max())
    if objects == 0:
        raise DataError("the first mask is empty: it must label at least one object")
    return objects


def late_objects(frame: torch.Tensor, new: torch.Tensor, *, present: int) -> int:
    """Number of objects after those of `new` joined the `present` ones (an all-zero `new` adds none).

    Raises:
        DataError: if frame and mask differ in size or `new` labels an object that is already present.
    """
    _check_size(frame, new)
    ids = [int(i) for i in torch.unique(new) if i != 0]
    again = [i for i in ids if i <= present]
    if again:
        raise DataError(
            f"the mask of new objects labels {again[:8]}, but the objects 1..{present} are present "
            f"already: number new objects from {present + 1}"
        )
    return max(ids, default=present)


def late_masks(frame: torch.Tensor, new: torch.Tensor, *, present: int) -> torch.Tensor | None:
    """float32 (n, H, W), the given masks of the n objects that join the `present` ones; None if none does.

    Raises:
        DataError: see `late_objects`.
    """
    objects = late_objects(frame, new, present=present)
    return None if objects == present else one_hot(new, range(present + 1, objects + 1))


def _check_size(frame: torch.Tensor, mask: torch.Tensor) -> None:
    if frame.shape[-2:] != mask.shape[-2:]:
        raise DataError(
            f"the mask has {_size(mask)} pixels and the frame {_size(frame)} (height x width): give both at one size"
        )


def _size(x: torch.Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
