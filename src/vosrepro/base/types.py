"""The words that all layers share: frames, labels, probabilities, a batch, a segmenter and its traits, a method.

Nothing here imports torch at run time, so scoring and reporting can use these names for free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypeAlias, TypedDict, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

#: float32 (3, H, W), RGB in [0, 1], not normalised, on the model's device.
Frame: TypeAlias = "torch.Tensor"
#: uint8 (H, W); 0 is background, 1..N are objects without gaps. The runner remaps ids and restores them.
Labels: TypeAlias = "torch.Tensor"
#: float32 (N+1, H, W) at the frame's size, non-negative, summing to 1 over the first dimension.
Probs: TypeAlias = "torch.Tensor"


class Batch(TypedDict):
    """What a training step learns from: B samples of T frames and K places for objects, on the model's device.

    `clips.frames`, `clips.objects` and `clips.size_px` of the stage are T, K and (H, W); an object is the same in
    `masks`, `labels` and `selector`. Only pictures with a class (kind "image") have `classes`, and their masks and
    labels are empty placeholders of one pixel; all other clips have `times` and `lengths`.
    """

    #: float32 (B, T, 3, H, W), RGB in [0, 1], not normalised.
    frames: torch.Tensor
    #: float32 (B, T, K, H, W) in [0, 1]; those of static images may have soft edges.
    masks: torch.Tensor
    #: int64 (B, T, H, W) in 0..K.
    labels: torch.Tensor
    #: float32 (B, K), 1 where the object exists.
    selector: torch.Tensor
    #: int64 (B, T), the frames' places in their video.
    times: NotRequired[torch.Tensor]
    #: int64 (B), the frames that the video has.
    lengths: NotRequired[torch.Tensor]
    #: int64 (B), the class of a single picture; -1 where it could not be decoded.
    classes: NotRequired[torch.Tensor]


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


# A segmenter may have these traits beside `init` and `step`; the runner asks for them with `isinstance`.


@runtime_checkable
class Previewing(Protocol):
    """Works faster if it sees frames ahead, many at a time."""

    def preview(self, frames: torch.Tensor) -> None:
        """Take the frames to come, (T, 3, H, W): the one of the next call first. Changes no result."""
        ...


@runtime_checkable
class Correctable(Protocol):
    """Can be told in the middle of a video what a frame shows."""

    def correct(self, frame: Frame, mask: Labels) -> None:
        """Take the next frame with all of its labels, in place of `step`.

        Args:
            frame: as of `step`.
            mask: the objects so far where they are seen, and 0 elsewhere; ids from N+1 on are objects that begin. What
                is remembered of earlier frames stays, and this one is remembered like an annotated frame.
        """
        ...


@runtime_checkable
class MetaOrdered(Protocol):
    """Can imitate evaluations that write the k-th object to appear with the k-th id of the video's list."""

    labels_in_meta_order: bool


@runtime_checkable
class Skipping(Protocol):
    """Can imitate evaluations that skip videos: those get their given masks and nothing else."""

    skipped_videos: Collection[str]


@runtime_checkable
class Counting(Protocol):
    """Counts what is worth knowing of a video, for instance reused frames; sums over videos are recorded."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Name -> number, of the frames so far."""
        ...


@runtime_checkable
class Viewed(Protocol):
    """Knows something of the last frame that a picture can show beside its labels, see `Method.draw`."""

    @property
    def view(self) -> Any:
        """What the method's `draw` understands; it must not change with the next frame."""
        ...


# Arguments of a method that name files go by these names, so that whoever has complete weights, or counts work
# without any, can leave them out; `methods/README.md` asks new methods to keep to it.


def without_start_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network without the weights that it would start from.

    They are called `pretrained`, `start`, or end with `weights`; left out, a network starts from random weights.
    """
    return {k: v for k, v in model.items() if k not in ("pretrained", "start") and not k.endswith("weights")}


def names_cache(argument: str) -> bool:
    """Whether an argument of a training step is a folder where results of earlier visits are kept."""
    return argument.endswith("_cache")


@dataclass(frozen=True)
class Paper:
    """Where a method was published; `code` is its repository on GitHub, as owner/name."""

    title: str
    venue: str
    url: str
    code: str = ""


@dataclass(frozen=True)
class Method:
    """The card of a method: all that the rest of the project knows about it.

    Attributes:
        name: key in the registry, in params/ and in every path.
        summary: one sentence on the idea; with `paper` the page of a method that has no card in README.md.
        paper: the publication, or None for a floor.
        segmenter: `segmenter(model, **variant) -> Segmenter`; `model` is None for a method without
            weights.
        build: `build(**model) -> nn.Module` with randomly initialised weights, drawn from torch's
            global generator; None for a method without weights. Arguments that name weights to start
            from are called as in `without_start_weights`.
        train_step: `train_step(model, batch, iteration=i, **loss) -> {"loss": scalar, ...}`; must call
            `model(...)` exactly once, so that it works under DistributedDataParallel. Everything
            but "loss" is logged only, and "skipped": 1 says that there was nothing to learn. `model` may be
            DDP-wrapped, `batch` is a `Batch`, and `loss` what the stage's parameters hold.
        transfer: `transfer(state, model) -> state`: fits the weights of the previous stage to the
            network of the next (e.g. added input channels); identity if None.
        convert: `convert(released) -> state`: pure key map from the upstream checkpoint; refuses
            missing and unknown keys.
        prepare: `prepare(model, precision=...) -> model`: a copy for inference only, with the same
            outputs up to rounding, but faster (e.g. folded normalization, half precision).
        correspond: `correspond(model, source, target) -> methods.common.correspondence.Correspondence`:
            what the method takes for the same place in two frames of one size.
        classifier: `classifier(model) -> methods.common.classification.Classifier | None`: what names the
            class of single images; None if the network has no class head.
        draw: `draw(image, view, scale=n) -> image`: puts the `view` of a segmenter (see `Viewed`) into a frame,
            uint8 (H, W, 3) to uint8 (nH, nW, 3).
        bf16_equal_share: share of pixels whose label is the same in bfloat16 as in float32, on the recipe and
            videos that the card in README.md names, as `vosrepro bench precision` measured it; None: unknown.
        tries_kernels: whether the published evaluation lets cuDNN try its algorithms for each new size
            (`torch.backends.cudnn.benchmark`), which its published speed then depends on.
    """

    name: str
    summary: str
    segmenter: Callable[..., Segmenter]
    paper: Paper | None = None
    build: Callable[..., nn.Module] | None = None
    train_step: Callable[..., dict[str, torch.Tensor]] | None = None
    transfer: Callable[[dict[str, torch.Tensor], nn.Module], dict[str, torch.Tensor]] | None = None
    convert: Callable[[Mapping[str, Any]], dict[str, torch.Tensor]] | None = None
    prepare: Callable[..., nn.Module] | None = None
    correspond: Callable[[nn.Module, Frame, Frame], Any] | None = None
    classifier: Callable[[nn.Module], Any] | None = None
    draw: Callable[..., np.ndarray] | None = None
    bf16_equal_share: float | None = None
    tries_kernels: bool = False

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
