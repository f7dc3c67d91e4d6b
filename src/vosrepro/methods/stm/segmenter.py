"""The online part: what is remembered when, how frames are padded, how late objects enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vosrepro.methods.common.aggregation import aggregate
from vosrepro.methods.common.masks import first_objects, late_objects, one_hot
from vosrepro.methods.common.padding import Padding
from vosrepro.methods.stm.memory import MemoryBank
from vosrepro.methods.stm.network import QueryFeatures, SpaceTimeNetwork
from vosrepro.methods.stm.preview import FeatureQueue

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Pending:
    """A segmented frame that will be remembered if another frame follows."""

    frame: torch.Tensor  # (1, 3, H, W) normalized and padded
    probabilities: torch.Tensor  # (N+1, H, W) aggregated, padded
    permanent: bool


class STMSegmenter:
    """Memory of the first frame, every n-th frame and the last frame; all objects in one batch.

    A frame is remembered when the next one is asked for, so the last frame of a video costs nothing.

    Attributes:
        padding: of the video's frames, known after `init`.

    Source: hkchengrex/Mask-Propagation: inference_core.py, inference_core_yv.py.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        top_k: int | None = 50,
        memory_every_frames: int = 5,
        kernel_sigma: float | None = None,
        max_memory_entries: int | None = None,
        preview_frames: int = 8,
    ) -> None:
        """Prepare for one video.

        Args:
            model: an `STM` or `OriginalSTM`.
            top_k: memory cells read per query cell; None reads all.
            memory_every_frames: every n-th frame stays in memory for good.
            kernel_sigma: see `memory.read`; None for the plain read.
            max_memory_entries: bound of the memory, None (published) for none; see `MemoryBank`.
            preview_frames: frames whose features are computed at once after `preview`.
        """
        if not isinstance(model, SpaceTimeNetwork):
            raise TypeError(f"expected a space-time memory network, not {type(model).__name__}")
        self._model = model
        self._top_k = top_k
        self._every = memory_every_frames
        self._sigma = kernel_sigma
        self._max_entries = max_memory_entries
        self._preview_frames = preview_frames
        self._queue: FeatureQueue | None = None
        self._memory: MemoryBank | None = None
        self.padding = Padding(0, 0, 0, 0)
        self._pending: Pending | None = None
        self._objects = 0
        self._index = 0
        self._last_permanent = 0

    def preview(self, frames: torch.Tensor) -> None:
        """Optional: show the frames to come, so that features are computed many frames at a time.

        Args:
            frames: (T, 3, H, W): before `init` its frame first, then those of the steps in their order;
                later the frame of the next step first.
        """
        first = 0 if self._memory is None else self._index + 1
        self._queue = FeatureQueue(frames, first=first, size=self._preview_frames)

    @torch.inference_mode()
    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Remember the first frame (3, H, W) with its label map (H, W)."""
        self._objects = first_objects(frame, mask)
        self.padding = Padding.to_multiple(*frame.shape[-2:], multiple=self._model.stride)
        self._index = self._last_permanent = 0
        x = self._prepare(frame[None])
        height, width = (n // self._model.stride for n in x.shape[-2:])
        # One memory serves one video: a second `init` starts anew.
        self._memory = MemoryBank(height * width, max_entries=self._max_entries)
        self._remember(Pending(x, self._annotated(mask), permanent=True))
        self._pending = None

    @torch.inference_mode()
    def correct(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Remember the next frame (3, H, W) for good, with its given label map (H, W)."""
        if self._memory is None:
            raise RuntimeError("init must be called before correct")
        if self._pending is not None:
            self._remember(self._pending)
        self._objects = max(self._objects, int(mask.max()))
        self._index += 1
        self._last_permanent = self._index
        self._pending = Pending(self._prepare(frame[None]), self._annotated(mask), permanent=True)

    @torch.inference_mode()
    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Segment the next frame; see `vosrepro.base.types.Segmenter`."""
        if self._memory is None:
            raise RuntimeError("init must be called before step")
        if self._pending is not None:
            self._remember(self._pending)
        self._index += 1
        x = self._prepare(frame[None])
        query = self._features(x)
        probabilities = aggregate(self._segment(query))
        late = new is not None and bool((new > 0).any())
        if late:
            assert new is not None
            probabilities = self._add_objects(probabilities, frame, new)
        permanent = late or self._index - self._last_permanent >= self._every
        if permanent:
            self._last_permanent = self._index
        inside = self.padding.crop(probabilities)
        kept = probabilities if self._model.keeps_border else self.padding.apply(inside)
        self._pending = Pending(x, kept, permanent)
        return inside

    def _annotated(self, mask: torch.Tensor) -> torch.Tensor:
        """Probabilities (N+1, H, W) of a given label map, padded."""
        truth = self.padding.apply(one_hot(mask, range(1, self._objects + 1)))
        if self._model.aggregates_first:
            return aggregate(truth)
        return torch.cat([1 - truth.sum(dim=0, keepdim=True), truth])

    def _prepare(self, frames: torch.Tensor) -> torch.Tensor:
        return self.padding.apply(self._model.normalize(frames).to(self._model.dtype))

    def _features(self, x: torch.Tensor) -> QueryFeatures:
        if self._queue is None:
            return self._model.encode_query(x)
        return self._queue.features(self._index, lambda frames: self._model.encode_query(self._prepare(frames)))

    def _segment(self, query: QueryFeatures) -> torch.Tensor:
        """Independent probabilities of the objects (N, H, W) in float32."""
        assert self._memory is not None
        grid = (query.value.shape[2], query.value.shape[3])
        readout = self._memory.read(query.key, grid=grid, top_k=self._top_k, kernel_sigma=self._sigma)
        return torch.sigmoid(self._model.decode(readout, query).float())

    def _remember(self, entry: Pending) -> None:
        assert self._memory is not None
        masks = entry.probabilities[None, 1:].to(entry.frame.dtype)
        key, value = self._model.encode_memory(entry.frame, masks)
        self._memory.add(key, value, permanent=entry.permanent)

    def _add_objects(self, probabilities: torch.Tensor, frame: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Give the new objects their masks, take those pixels from all others, aggregate again."""
        before = self._objects
        self._objects = late_objects(frame, new, present=before)
        masks = self.padding.apply(one_hot(new, range(before + 1, self._objects + 1)))
        old = torch.where(masks.sum(dim=0) > 0.5, 0.0, probabilities[1:])
        return aggregate(torch.cat([old, masks]))
