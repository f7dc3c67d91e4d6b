"""The online part: cut objects into parts, track all parts at once, combine their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.masks import first_objects, late_masks, one_hot
from vosrepro.methods.parts.boxes import cell_px, squares
from vosrepro.methods.parts.combine import blend_parts, combine_parts, merge_objects
from vosrepro.methods.parts.matching import SearchParams, locate
from vosrepro.methods.parts.model import MASK_SIDES, Masked
from vosrepro.methods.parts.sampling import SamplerName, part_generator, sample_parts
from vosrepro.methods.parts.state import FailureParams, Parts, judge_parts

if TYPE_CHECKING:
    from vosrepro.methods.parts.model import PartsNet

Output = Literal["masks", "boxes", "pasted-center"]
PartsSettings = TypeVar("PartsSettings", FailureParams, SearchParams)

_SIDE_LIMITS = (0.2, 5.0)  # relative to the first side
_CHUNK = 64  # parts whose regions are in memory at once
_WIDE_SCALES = (0.8, 1.0, 1.25)


@dataclass(frozen=True)
class PartView:
    """A part as a picture shows it: object 1..N, box (x0, y0, x1, y1), confidence, and how it is used."""

    owner: int
    box: tuple[float, float, float, float]
    score: float
    active: bool
    whole: bool
    late: bool


class PartsSegmenter:
    """Segments by tracking square parts of each object and propagating their masks.

    Args:
        model: in evaluation mode.
        limit: parts per object beside the whole object.
        candidates: boxes drawn by the sampler "cover".
        sampler: "cover" or "thesis", see `sampling.sample_parts`.
        seed: of the parts.
        share_object: rho, the share of part 0; 1 uses part 0 only, 0 only the parts.
        weighting: "similar" (confidence times similarity), "confidence", or "uniform".
        combine: "mean", or "favos": uniform weights and division by the maximum.
        output: "masks"; "boxes" is the union of the part boxes, the seed's last state; "pasted-center" is the
            seed's guide_mask defect: masks are pasted where the search began, wherever the peak is.
        earlier_in: "part" samples the earlier mask where the part was; "frame" where it is now (RGMP).
        feedback: the next earlier mask: "merged", the posterior; or "product", the map times the posterior, which
            fades uncertain pixels a little more in every frame.
        refresh_every: frames between refreshes at least; 0 never.
        late_weight: of parts that a refresh made.
        search: arguments of `matching.SearchParams`.
        failure: arguments of `state.FailureParams`.
        precision: of the network on a GPU.

    Raises:
        ConfigError: if a setting is unknown.
    """

    def __init__(
        self,
        model: PartsNet,
        *,
        limit: int = 50,
        candidates: int = 2000,
        sampler: SamplerName = "cover",
        seed: int = 0,
        share_object: float = 0.4,
        weighting: Literal["similar", "confidence", "uniform"] = "similar",
        combine: Literal["mean", "favos"] = "mean",
        output: Output = "masks",
        earlier_in: Literal["part", "frame"] = "part",
        feedback: Literal["merged", "product"] = "merged",
        refresh_every: int = 10,
        late_weight: float = 0.7,
        search: Mapping[str, Any] | None = None,
        failure: Mapping[str, Any] | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        _known("output", output, ("masks", "boxes", "pasted-center"))
        _known("weighting", weighting, ("similar", "confidence", "uniform"))
        _known("combine", combine, ("mean", "favos"))
        _known("earlier_in", earlier_in, ("part", "frame"))
        _known("feedback", feedback, ("merged", "product"))
        _known("sampler", sampler, ("cover", "thesis"))
        self._model = model
        self._limit, self._candidates = limit, candidates
        self._sampler: SamplerName = sampler
        self._seed = seed
        self._share = share_object
        self._weighting, self._combine, self._output = weighting, combine, output
        self._earlier_in, self._feedback = earlier_in, feedback
        self._refresh_every, self._late_weight = refresh_every, late_weight
        self._search = _settings(SearchParams, search)
        self._failure = _settings(FailureParams, failure)
        self._bf16 = precision == "bf16"
        self._parts: Parts | None = None
        self._soft = torch.zeros(0)
        self._objects = 0
        self._first_area: list[float] = []
        self._refreshed: list[int] = []
        self._lost: list[bool] = []
        self._time = 0

    # -------------------------------------------------------------------------------------- protocol

    @torch.no_grad()
    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Cut the objects of the first frame (3, H, W) with its mask (H, W) into parts."""
        self._objects = first_objects(frame, mask)
        self._soft = one_hot(mask, range(1, self._objects + 1))
        self._begin(self._pyramid(frame), range(self._objects))
        self._time = 1

    @torch.no_grad()
    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """Track, propagate and combine; objects that begin on this frame join with their given masks."""
        if self._objects == 0:
            raise RuntimeError("init must be called before step")
        pyramid = self._pyramid(frame)
        soft = self._advance(pyramid, (frame.shape[1], frame.shape[2]))
        merged = merge_objects(soft)
        self._soft = merged[1:] if self._feedback == "merged" else soft * merged[1:]
        if self._refresh_every:
            self._refresh(pyramid)
        self._time += 1
        return merged if new is None else self._join(pyramid, merged, frame, new)

    @property
    def view(self) -> list[PartView]:
        """What `drawing.draw_parts` shows of the last frame."""
        return self.parts

    @property
    def parts(self) -> list[PartView]:
        """The parts after the last frame, for pictures."""
        if self._parts is None:
            return []
        p = self._parts
        boxes = squares(p.place[:, :2], p.place[:, 2]).tolist()
        facts = zip(
            p.owner.tolist(),
            boxes,
            p.score.tolist(),
            p.active.tolist(),
            p.whole.tolist(),
            p.late.tolist(),
            strict=True,
        )
        return [PartView(o + 1, tuple(b), s, a, w, late) for o, b, s, a, w, late in facts]

    # ------------------------------------------------------------------------------------- new parts

    def _pyramid(self, frame: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast(frame.device.type, torch.bfloat16, enabled=self._bf16):
            maps = self._model.pyramid(frame[None])
        return [x.float() for x in maps]

    def _begin(self, pyramid: list[torch.Tensor], objects: range) -> None:
        """Add the parts of objects whose soft masks are given."""
        for owner in objects:
            inside = (self._soft[owner] > 0.5).cpu().numpy()
            self._first_area.append(float(inside.sum()))
            self._refreshed.append(self._time)
            self._lost.append(False)
            if not inside.any():  # resizing swallowed it
                continue
            rng = part_generator(f"object{owner + 1}", self._seed)
            places = self._sampled(inside, limit=self._limit, rng=rng)
            self._add(self._make(pyramid, places, owner=owner, late=False))

    def _sampled(self, inside: np.ndarray, *, limit: int, rng: np.random.Generator) -> torch.Tensor:
        places = sample_parts(inside, limit=limit, candidates=self._candidates, rng=rng, sampler=self._sampler)
        return torch.from_numpy(places).to(self._soft)

    def _add(self, made: Parts) -> None:
        self._parts = made if self._parts is None else self._parts.joined(made)

    def _make(self, pyramid: list[torch.Tensor], places: torch.Tensor, *, owner: int, late: bool) -> Parts:
        """Parts of one object from places (P, 3) in the present frame; the first is part 0."""
        net, count = self._model, len(places)
        image = torch.zeros(count, dtype=torch.int64, device=places.device)
        flags = torch.zeros(count, dtype=torch.bool, device=places.device)
        whole = flags.clone()
        whole[0] = True
        return Parts(
            owner=image + owner,
            whole=whole,
            place=places,
            first_side=places[:, 2].clone(),
            level=net.track_level(places[:, 2]),
            late=flags | late,
            active=~flags,
            streak=image.clone(),
            score=torch.ones_like(places[:, 2]),
            template=net.templates(net.adjusted(pyramid, "z"), places, image),
            reference=net.mask_regions(net.adjusted(pyramid, "m"), places, image),
            reference_mask=net.masks_of(self._soft[owner : owner + 1], places, image, cells=net.mask_cells),
        )

    def _join(
        self,
        pyramid: list[torch.Tensor],
        merged: torch.Tensor,
        frame: torch.Tensor,
        new: torch.Tensor,
    ) -> torch.Tensor:
        present = self._objects
        given = late_masks(frame, new, present=present)
        if given is None:
            return merged
        self._objects += len(given)
        self._soft = torch.cat([self._soft * (new == 0), given])
        self._begin(pyramid, range(present, self._objects))
        return torch.cat([merged * (new == 0), given])

    # ----------------------------------------------------------------------------------------- a step

    def _advance(self, pyramid: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Soft maps (N, H, W) of all objects in the present frame."""
        if self._parts is None:
            return torch.zeros_like(self._soft)
        parts = self._parts
        proposed, confidence = self._track(pyramid, parts, size)
        masked = self._propagate(pyramid, parts, proposed)
        cover = masked.small.mean(dim=(1, 2)) * MASK_SIDES**2  # of the part's own square
        drawn_at = parts.place if self._output == "pasted-center" else proposed
        self._parts = judge_parts(parts, proposed, confidence, cover, size, self._failure)
        return self._combined(self._parts, drawn_at, masked, size)

    def _track(
        self, pyramid: list[torch.Tensor], parts: Parts, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Proposed places (P, 3) and confidences (P)."""
        maps = self._model.adjusted(pyramid, "x")
        found = [self._track_some(maps, parts.kept(chosen), size) for chosen in _chunks(len(parts), parts.owner.device)]
        return torch.cat([p for p, _ in found]), torch.cat([c for _, c in found])

    def _track_some(
        self, maps: list[torch.Tensor], parts: Parts, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        net, count = self._model, len(parts)
        factors = torch.tensor(self._search.factors(), device=parts.place.device)
        scales = factors[:, None].expand(-1, count).clone()
        lost = torch.tensor([self._lost[o] for o in parts.owner.tolist()], device=scales.device)
        if len(factors) == len(_WIDE_SCALES) and bool(lost.any()):
            wide = torch.tensor(_WIDE_SCALES, device=scales.device)[:, None]
            scales = torch.where((lost & parts.whole)[None], wide, scales)
        place = parts.place.repeat(len(factors), 1)
        place[:, 2] *= scales.flatten()
        image = torch.zeros(len(place), dtype=torch.int64, device=place.device)
        search = net.searches(maps, place, image, parts.level.repeat(len(factors)))
        scores = net.track(parts.template, search).float().sigmoid()
        found = locate(scores.unflatten(0, (len(factors), count)), self._search)
        factor = scales.gather(0, found.scale[None])[0]
        side = parts.place[:, 2]
        cell = cell_px(side * factor, template=net.template)
        center = parts.place[:, :2] + found.offset.flip(1) * cell[:, None]
        rate = self._search.scale_rate
        side = (1 - rate) * side + rate * side * factor
        side = side.clamp(min=_SIDE_LIMITS[0] * parts.first_side, max=_SIDE_LIMITS[1] * parts.first_side)
        half, limit = side[:, None] / 2, center.new_tensor([size[1], size[0]])
        center = torch.minimum(torch.maximum(center, -half), limit + half)
        return torch.cat([center, side[:, None]], dim=1), found.confidence

    def _propagate(self, pyramid: list[torch.Tensor], parts: Parts, proposed: torch.Tensor) -> Masked:
        """Masks of all parts at their proposed places."""
        net = self._model
        image = torch.zeros(len(parts), dtype=torch.int64, device=proposed.device)
        now = net.mask_regions(net.adjusted(pyramid, "m"), proposed, image)
        seen_at = proposed if self._earlier_in == "frame" else parts.place
        earlier = net.earlier_masks(self._soft, seen_at, parts.owner, parts.whole)
        return net.propagate(now, parts.reference, parts.reference_mask, earlier, parts.whole)

    def _combined(self, parts: Parts, drawn_at: torch.Tensor, masked: Masked, size: tuple[int, int]) -> torch.Tensor:
        """Soft maps (N, H, W) from the masks of active parts."""
        weight = self._weights(parts, masked)
        boxes = squares(drawn_at[:, :2], drawn_at[:, 2] * MASK_SIDES)
        values, wholes = masked.parts.float().sigmoid(), masked.whole.float().sigmoid()
        maps = []
        for owner in range(self._objects):
            mine = parts.owner == owner
            if not bool(mine.any()) or not bool((mine & parts.active).any()):
                self._lost[owner] = bool(mine.any())
                maps.append(self._soft.new_zeros(size))
                continue
            self._lost[owner] = False
            if self._output == "boxes":
                maps.append(_union(parts.kept(mine & parts.active), size))
                continue
            own = (mine & ~parts.whole)[~parts.whole]
            base_box = boxes[mine & parts.whole]
            one = torch.ones(1, device=boxes.device)
            base, _ = combine_parts(wholes[mine[parts.whole]], one, base_box, size)
            averaged, covered = combine_parts(
                values[own], weight[mine & ~parts.whole], boxes[mine & ~parts.whole], size
            )
            if self._combine == "favos":
                averaged = averaged / averaged.max().clamp_min(1e-12)
            maps.append(blend_parts(base, averaged, covered, share=self._share))
        return torch.stack(maps)

    def _weights(self, parts: Parts, masked: Masked) -> torch.Tensor:
        uniform = self._weighting == "uniform" or self._combine == "favos"
        weight = torch.ones_like(parts.score) if uniform else parts.score
        if self._weighting == "similar" and not uniform:
            weight = weight * masked.weight
        weight = torch.where(parts.late, weight * self._late_weight, weight)
        return weight * parts.active

    # --------------------------------------------------------------------------------------- refresh

    def _refresh(self, pyramid: list[torch.Tensor]) -> None:
        """Take new parts for objects whose first ones are lost, where the map is sure."""
        if self._parts is None or self._limit == 0:
            return
        for owner in range(self._objects):
            due = self._time - self._refreshed[owner] >= self._refresh_every
            if not due or self._lost[owner] or not self._first_area[owner]:
                continue
            inside, sure = self._soft[owner] > 0.5, self._soft[owner] > 0.8
            if not self._needs_parts(owner, inside):
                continue
            area = float(sure.sum())
            certain = bool(sure.any()) and float(self._soft[owner][sure].mean()) > 0.85
            if not certain or not 0.3 <= area / self._first_area[owner] <= 3:
                continue
            self._refreshed[owner] = self._time
            rng = part_generator(f"object{owner + 1}/{self._time}", self._seed)
            half = max(1, self._limit // 2)
            places = self._sampled(sure.cpu().numpy(), limit=half, rng=rng)[1:]
            if len(places):
                self._replace_late(owner, half - len(places))
                made = self._make(pyramid, places, owner=owner, late=True)
                self._add(made.moved(whole=torch.zeros_like(made.whole)))

    def _needs_parts(self, owner: int, inside: torch.Tensor) -> bool:
        parts = self._parts
        assert parts is not None
        mine = (parts.owner == owner) & ~parts.whole
        first = mine & ~parts.late
        if int((first & parts.active).sum()) * 2 < int(first.sum()):
            return True
        area = float(inside.sum())
        if not area:
            return False
        covered = _union(parts.kept(mine & parts.active), (inside.shape[0], inside.shape[1]))
        return float((covered * inside).sum()) < 0.7 * area

    def _replace_late(self, owner: int, room: int) -> None:
        """Keep at most `room` of an object's late parts: the youngest."""
        assert self._parts is not None
        late = ((self._parts.owner == owner) & self._parts.late).nonzero()[:, 0]
        keep = torch.ones(len(self._parts), dtype=torch.bool, device=late.device)
        keep[late[: max(0, len(late) - room)]] = False
        self._parts = self._parts.kept(keep)


def _union(parts: Parts, size: tuple[int, int]) -> torch.Tensor:
    """1 where any part's square covers (the whole object's counts only if it is alone), (H, W)."""
    if bool((~parts.whole).any()):
        parts = parts.kept(~parts.whole)
    boxes = squares(parts.place[:, :2], parts.place[:, 2])
    values = torch.ones(len(boxes), 2, 2, device=boxes.device)
    _, covered = combine_parts(values, torch.ones(len(boxes), device=boxes.device), boxes, size)
    return covered.float()


def _chunks(count: int, device: torch.device) -> list[torch.Tensor]:
    number = torch.arange(count, device=device)
    return [(number // _CHUNK) == i for i in range(-(-count // _CHUNK))]


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} '{value}' of parts must be one of {', '.join(choices)}")


def _settings(kind: type[PartsSettings], values: Mapping[str, Any] | None) -> PartsSettings:
    try:
        return kind(**(values or {}))
    except TypeError as error:
        raise ConfigError(f"unknown setting of {kind.__name__}: {error}") from error
