"""The words that all layers share: frames, labels, probabilities, a segmenter, a method.

Nothing here imports torch at run time, so scoring and reporting can use these names for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn

#: float32 (3, H, W), RGB in [0, 1], not normalised, on the model's device.
Frame: TypeAlias = "torch.Tensor"
#: uint8 (H, W); 0 is background, 1..N are objects without gaps. The runner remaps ids and restores them.
Labels: TypeAlias = "torch.Tensor"
#: float32 (N+1, H, W) at the frame's size, non-negative, summing to 1 over the first dimension.
Probs: TypeAlias = "torch.Tensor"
#: What a collated training sample is: named tensors (see `vosrepro.training.data.clips`).
Batch: TypeAlias = "Mapping[str, torch.Tensor]"


class Segmenter(Protocol):
    """The online part of a method: one instance per video."""

    def init(self, frame: Frame, mask: Labels) -> None:
        """Take the first annotated frame, with at least one object in `mask`."""
        ...

    def step(self, frame: Frame, new: Labels | None = None) -> Probs:
        """Segment the next frame.

        Args:
            frame: the next frame of the video, of the same size as the first.
            new: masks of the objects that *begin* on this frame (YouTube-VOS), 0 elsewhere. Their ids
                continue at N+1; the returned probabilities include them.
        """
        ...


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    venue: str
    url: str
    code: str = ""


@dataclass(frozen=True)
class Method:
    """The card of a method: all that the rest of the project knows about it.

    Attributes:
        name: key in the registry, in params/ and in every path.
        summary: one sentence on the idea.
        paper: the publication, or None for a floor.
        segmenter: `segmenter(model, **variant) -> Segmenter`; `model` is None for a method without
            weights.
        build: `build(**model) -> nn.Module` with randomly initialised weights, drawn from torch's
            global generator; None for a method without weights.
        train_step: `train_step(model, batch, iteration=i, **loss) -> {"loss": scalar, ...}`; must call
            `model(...)` exactly once, so that it works under DistributedDataParallel. Everything
            but "loss" is logged only. `model` may be DDP-wrapped.
        transfer: `transfer(state, model) -> state`: fits the weights of the previous stage to the
            network of the next (e.g. added input channels); identity if None.
        convert: `convert(released) -> state`: pure key map from the upstream checkpoint; refuses
            missing and unknown keys.
        multi_object: whether one model call handles several objects.
        prepare: `prepare(model, precision=...) -> model`: a copy for inference only, with the same
            outputs up to rounding, but faster (e.g. folded normalization, half precision).
        correspond: `correspond(model, source, target) -> methods.common.correspondence.Correspondence`:
            what the method takes for the same place in two frames of one size.
        classifier: `classifier(model) -> methods.common.classification.Classifier | None`: what names the
            class of single images; None if the network has no class head.
    """

    name: str
    summary: str
    segmenter: Callable[..., Segmenter]
    paper: Paper | None = None
    build: Callable[..., nn.Module] | None = None
    train_step: Callable[..., dict[str, torch.Tensor]] | None = None
    transfer: Callable[[dict[str, torch.Tensor], nn.Module], dict[str, torch.Tensor]] | None = None
    convert: Callable[[Mapping[str, Any]], dict[str, torch.Tensor]] | None = None
    multi_object: bool = True
    prepare: Callable[..., nn.Module] | None = None
    correspond: Callable[[nn.Module, Frame, Frame], Any] | None = None
    classifier: Callable[[nn.Module], Any] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether the study can train this method."""
        return self.train_step is not None


@dataclass(frozen=True)
class ParityRow:
    """One array of a parity fixture compared with ours."""

    array: str
    error: float
    tolerance: float
    unit: str = "max abs"

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance (NaN is not)."""
        return self.error <= self.tolerance
