"""The same mathematics without a single shortcut: the yardstick of tests and benchmarks.

One object after the other, the frame's skip features computed anew for each, dense memory weights filled by
scattering, memories that are concatenated each frame.
"""

from __future__ import annotations

import torch

from vosrepro.methods.stm.network import QueryFeatures
from vosrepro.methods.stm.segmenter import Pending, STMSegmenter


class PlainSegmenter(STMSegmenter):
    """`STMSegmenter` one object at a time; for videos whose objects all begin on the first frame."""

    _entries: list[list[tuple[torch.Tensor, torch.Tensor]]]
    _temporary: bool

    @torch.inference_mode()
    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """See `STMSegmenter.init`."""
        self._entries, self._temporary = [[] for _ in range(int(mask.max()))], False
        super().init(frame, mask)

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """See `STMSegmenter.step`; no object may begin here."""
        if new is not None and bool((new > 0).any()):
            raise NotImplementedError("the plain segmenter knows no late objects")
        return super().step(frame)

    def _features(self, x: torch.Tensor) -> QueryFeatures:
        self._frame = x
        return self._model.encode_query(x)

    def _segment(self, query: QueryFeatures) -> torch.Tensor:
        found = []
        for i, entries in enumerate(self._entries):
            if i:
                query = self._model.encode_query(self._frame)
            keys = torch.cat([key for key, _ in entries], dim=1)[0]
            values = torch.cat([value for _, value in entries], dim=1)[0]
            logits = (keys @ query.key[0].T).float()  # (N, Q)
            weights = _weights(logits, self._top_k).to(values.dtype)
            readout = (weights.T @ values)[None]
            found.append(torch.sigmoid(self._model.decode(readout, query).float()))
        return torch.cat(found)

    def _remember(self, entry: Pending) -> None:
        others = entry.probabilities[1:].sum(dim=0) - entry.probabilities[1:]
        for i, entries in enumerate(self._entries):
            pair = torch.stack([entry.probabilities[1 + i], others[i]])[None]
            key, value = self._model.encode_memory(entry.frame, pair.to(entry.frame.dtype))
            if self._temporary:
                entries.pop()
            entries.append((key[:1], value[:1]))
        self._temporary = not entry.permanent


def _weights(logits: torch.Tensor, top_k: int | None) -> torch.Tensor:
    if top_k is None:
        return torch.softmax(logits, dim=0)
    best, cells = torch.topk(logits, min(top_k, logits.shape[0]), dim=0)
    best = torch.exp(best - best[:1])
    dense = torch.zeros_like(logits)
    return dense.scatter_(0, cells, best / best.sum(dim=0))
