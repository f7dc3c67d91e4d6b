"""The online part: embed a frame, ask the pool, bring the votes to pixels, refine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.masks import first_objects, late_masks, one_hot
from vosrepro.methods.pml.cells import Geometry, cell_fractions, cell_labels, own_cells, to_pixels
from vosrepro.methods.pml.pool import Adaptation, ReferencePool, Vote
from vosrepro.methods.pml.refine import Refinement
from vosrepro.methods.pml.votes import Ties

if TYPE_CHECKING:
    from vosrepro.methods.pml.model import PML


class PMLSegmenter:
    """Segments by nearest neighbours in the embedding; frames are independent without adaptation."""

    def __init__(
        self,
        model: PML,
        *,
        neighbors: int = 5,
        vote: Vote = "soft",
        ties: Ties = "background",
        temperature: float = 0.05,
        reference: Literal["center", "area"] = "area",
        geometry: Geometry = "aligned",
        adapt: Mapping[str, Any] | None = None,
        refine: Mapping[str, Any] | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        """Take the network and the settings.

        Args:
            model: in evaluation mode.
            neighbors: K.
            vote: "hard" (majority, seed), "soft" (mean of the neighbours' labels) or "margin" (softmax of
                the similarity that decides the majority).
            ties: what an even K makes of a cell whose neighbours are half object, half background; see
                `votes.hard_vote`.
            temperature: of the margin vote.
            reference: labels of the given cells, at their "center" (seed) or by "area".
            geometry: where cells lie, see `cells`.
            adapt: arguments of `pool.Adaptation`; None for none.
            refine: arguments of `refine.Refinement`; None for none.
            precision: of the network; the search is always fp32.

        Raises:
            ConfigError: if a setting is unknown.
        """
        if vote not in ("hard", "soft", "margin") or reference not in ("center", "area"):
            raise ConfigError(f"vote '{vote}' must be hard, soft or margin, and reference '{reference}' center or area")
        if ties not in ("background", "nearest"):
            raise ConfigError(f"ties '{ties}' must be background or nearest")
        self._model = model
        self._vote: Vote = vote
        self._temperature = temperature
        self._by_area = reference == "area"
        self._geometry: Geometry = geometry
        self._refinement = _settings(Refinement, refine)
        self._bf16 = precision == "bf16"
        self._pool = ReferencePool(neighbors, _settings(Adaptation, adapt), ties=ties)
        self._objects = 0
        self._time = 0

    @property
    def pool_size(self) -> int:
        """Reference cells at present."""
        return len(self._pool)

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Fill the pool with all cells of the first frame (3, H, W) and its mask (H, W)."""
        self._objects = first_objects(frame, mask)
        cells, size = self._embed(frame)
        self._pool.give(cells, self._fractions(mask, size).flatten(1).T)
        self._time = 1

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Segment the next frame; the cells of objects that begin on it join the pool."""
        if self._objects == 0:
            raise RuntimeError("init must be called before step")
        cells, size = self._embed(frame)
        answer = self._pool.ask(cells)
        votes = self._pool.vote(cells, answer, vote=self._vote, temperature=self._temperature)
        self._pool.adapt(cells, answer)
        self._time += 1
        maps = votes.T[1:].reshape(-1, *size)
        pixels = to_pixels(
            maps,
            (frame.shape[1], frame.shape[2]),
            geometry=self._geometry,
            cell_px=self._model.cell_px,
        )
        probs = self._refinement.apply(frame, pixels)
        return probs if new is None else self._join(cells, size, probs, frame, new)

    def correct(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Let all cells of a frame with a given mask join the pool."""
        if self._objects == 0:
            raise RuntimeError("init must be called before correct")
        self._objects = max(self._objects, int(mask.max()))
        cells, size = self._embed(frame)
        self._pool.give(cells, self._fractions(mask, size).flatten(1).T)
        self._time += 1

    def add_clicks(self, frame: torch.Tensor, points: Mapping[tuple[int, int], int]) -> None:
        """Let a person's clicks join the pool: {(row, column) in pixels: label 0..N}.

        Each click adds the one cell nearest to it; the frame counts as the next to be segmented.

        Raises:
            ConfigError: if a point lies outside of the frame or its label is unknown.
        """
        cells, size = self._embed(frame)
        fractions = cells.new_zeros(len(points), self._objects + 1)
        rows = []
        for i, ((y, x), label) in enumerate(points.items()):
            if not (0 <= y < frame.shape[1] and 0 <= x < frame.shape[2] and 0 <= label <= self._objects):
                raise ConfigError(
                    f"click at row {y}, column {x} with label {label} does not fit a frame of "
                    f"{frame.shape[1]} x {frame.shape[2]} pixels with {self._objects} objects"
                )
            row, column = (self._cell(p, s, n) for p, s, n in zip((y, x), frame.shape[1:], size, strict=True))
            rows.append(row * size[1] + column)
            fractions[i, label] = 1
        self._pool.give(cells[rows], fractions)

    def _cell(self, pixel: int, pixels: int, cells: int) -> int:
        if self._geometry == "half-pixel":
            return pixel * cells // pixels
        return min((pixel + self._model.cell_px // 2) // self._model.cell_px, cells - 1)

    @torch.no_grad()
    def _embed(self, frame: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Embeddings (h * w, d) of a frame in raster order, and (h, w)."""
        times = torch.tensor([self._time], device=frame.device)
        with torch.autocast(frame.device.type, torch.bfloat16, enabled=self._bf16):
            embedding = self._model(frame[None], times)[0]
        size = (embedding.shape[1], embedding.shape[2])
        cells = embedding.flatten(1).T.contiguous()
        # Half-precision vectors have a norm of 1 only to three digits.
        return (torch.nn.functional.normalize(cells.float(), dim=1) if self._bf16 else cells), size

    def _fractions(self, mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Share of each label in each cell (L, h, w); every object owns at least one cell."""
        where = {"geometry": self._geometry, "cell_px": self._model.cell_px}
        masks = one_hot(mask, range(int(mask.max()) + 1))
        shares = cell_fractions(masks, size, **where)
        if self._by_area:
            return shares
        labels = own_cells(shares, cell_labels(mask, size, **where).long())
        return one_hot(labels, range(len(masks)))

    def _join(
        self,
        cells: torch.Tensor,
        size: tuple[int, int],
        probs: torch.Tensor,
        frame: torch.Tensor,
        new: torch.Tensor,
    ) -> torch.Tensor:
        """Take in objects that begin on this frame and draw their given masks."""
        present = self._objects
        given = late_masks(frame, new, present=present)
        if given is None:
            return probs
        self._objects += len(given)
        drawn = torch.cat([probs * (new == 0), given])
        fractions = self._fractions(new, size).flatten(1).T
        theirs = fractions[:, present + 1 :].sum(1) > (0 if not self._by_area else 0.5)
        if not bool(theirs.any()):  # smaller than half a cell
            theirs[fractions[:, present + 1 :].sum(1).argmax()] = True
        self._pool.give(cells[theirs], fractions[theirs])
        return drawn


def _settings(kind: type, values: Mapping[str, Any] | None):
    try:
        return kind(**(values or {}))
    except TypeError as error:
        raise ConfigError(f"unknown setting of {kind.__name__.lower()}: {error}") from error
