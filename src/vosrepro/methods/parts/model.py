"""The network: one backbone pass per frame, every part a region of interest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.batchnorm import set_norm
from vosrepro.methods.parts.backbone import FPN, BackboneName, make_backbone
from vosrepro.methods.parts.boxes import cell_px, level_of, squares
from vosrepro.methods.parts.combine import similarity
from vosrepro.methods.parts.heads import MaskHead, TrackHead
from vosrepro.methods.parts.regions import roi_align
from vosrepro.methods.parts.resnet import ClassHead

Task = Literal["classify", "track", "segment"]
#: Region sides in units of a part's side: template (SiamFC's margin of a square) and mask.
TEMPLATE_SIDES, MASK_SIDES = 2.0, 1.5
_LEAST_SIDE_PX = 12.0


@dataclass(frozen=True)
class Masked:
    """What the mask head says of parts.

    Attributes:
        whole: logits (P0, 4M, 4M) of the parts 0.
        parts: logits (P1, 2M, 2M) of the others.
        weight: (P) similarity with the reference, exp(-distance^2 / tau).
        small: (P, M, M) probabilities.
        now: (P, D, M, M) features.
    """

    whole: torch.Tensor
    parts: torch.Tensor
    weight: torch.Tensor
    small: torch.Tensor
    now: torch.Tensor


class PartsNet(nn.Module):
    """Backbone, FPN, tracking head and mask head; in stage 0 backbone and class head.

    Args:
        task: what is trained: "classify" (backbone and class head), "track" (without the mask head) or
            "segment" (all). Other weights are there, but need no gradient.
        backbone: "small", "resnet50v2" or "resnet50".
        widths: channels of the small backbone's groups.
        width: D.
        template: T, cells of a template.
        search: X, cells of a search region; the response has R = X - T + 1.
        mask_cells: M, cells of the mask head's input.
        classes: of stage 0; 1001 puts a background class first, as TensorFlow's weights have.
        trunk: of the mask head, "small" or "global".
        residual: whether the mask head corrects the tracked earlier mask, see `heads.MaskHead`.
        pretrained: name of torchvision's weights for "resnet50".
        bn: "sync" lets several processes share their batch statistics, "local" keeps those of groups apart.
        bn_images: images of such a group, whatever the number of processes; None: each process's share.
        bn_momentum: PyTorch's (1 - TensorFlow's decay).
        freeze_norm: whether the backbone's batch statistics are held still.
    """

    def __init__(
        self,
        *,
        task: Task = "segment",
        backbone: BackboneName = "small",
        widths: Sequence[int] = (16, 32, 64, 64),
        width: int = 32,
        template: int = 7,
        search: int = 15,
        mask_cells: int = 14,
        classes: int = 10,
        trunk: Literal["small", "global"] = "small",
        residual: bool = True,
        pretrained: str | None = None,
        bn: Literal["sync", "local"] = "sync",
        bn_images: int | None = None,
        bn_momentum: float = 0.1,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        if task not in ("classify", "track", "segment"):
            raise ConfigError(f"task '{task}' of the parts network must be classify, track or segment")
        self.task: Task = task
        self.template, self.search, self.mask_cells = template, search, mask_cells
        self.classes = classes
        self.backbone = make_backbone(backbone, widths=widths, weights=pretrained)
        channels = self.backbone.channels
        self.strides = self.backbone.strides
        self.fpn = FPN(channels, width, normalize=backbone == "resnet50v2")
        self.adj_z, self.adj_x, self.adj_m = (_adjust(width) for _ in range(3))
        self.track = TrackHead(width, template)
        self.mask = MaskHead(width, trunk=trunk, residual=residual)
        self.head = ClassHead(channels[-1], classes) if task == "classify" else None
        for name, child in self.named_children():
            if name not in _TRAINED[task]:
                child.requires_grad_(False)
        if task == "track":  # levels too fine for the templates of any part
            finest = int(self.track_level(torch.tensor([_LEAST_SIDE_PX], device="cpu")))
            for layer in (*self.fpn.inner[:finest], *self.fpn.outer[:finest]):
                layer.requires_grad_(False)
        self._frozen = [self.backbone] if freeze_norm else []
        set_norm(self, kind=bn, momentum=bn_momentum, images=bn_images)

    def train(self, mode: bool = True) -> PartsNet:
        """As usual, but frozen statistics stay, and so do those of heads that the task does not train."""
        super().train(mode)
        idle = [c for name, c in self.named_children() if name not in _TRAINED[self.task]]
        for child in (*self._frozen, *idle):
            child.eval()
        return self

    @property
    def level_range(self) -> tuple[int, int]:
        """log2 of the finest and the coarsest stride."""
        return self.strides[0].bit_length() - 1, self.strides[-1].bit_length() - 1

    # ------------------------------------------------------------------------------------- features

    def pyramid(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """RGB (B, 3, H, W) in [0, 1] -> FPN maps, finest first."""
        return self.fpn(self.backbone(self.backbone.normalized(frames)))

    def track_level(self, side: torch.Tensor) -> torch.Tensor:
        """Pyramid level (index) of parts with these sides (P), for templates and search regions."""
        low, high = self.level_range
        return level_of(cell_px(side, template=self.template), lowest=low, highest=high) - low

    def mask_level(self, side: torch.Tensor) -> torch.Tensor:
        """Pyramid level (index) of the mask head's regions."""
        low, high = self.level_range
        return level_of(MASK_SIDES * side / self.mask_cells, lowest=low, highest=high) - low

    def regions(
        self,
        maps: Sequence[torch.Tensor],
        place: torch.Tensor,
        image: torch.Tensor,
        level: torch.Tensor,
        *,
        cells: int,
    ) -> torch.Tensor:
        """Square regions, all of one level by one call.

        Args:
            maps: a pyramid of B images.
            place: (P, 3): center x, center y, side of the region in pixels.
            image: int64 (P).
            level: int64 (P), index into `maps`.
            cells: of the result.

        Returns:
            (P, D, cells, cells).
        """
        boxes = squares(place[:, :2], place[:, 2])
        pieces, places = [], []
        for i, (features, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = (level == i).nonzero()[:, 0]
            if len(chosen):
                found = roi_align(features, boxes[chosen], image[chosen], cells=cells, stride=stride)
                pieces.append(found)
                places.append(chosen)
        order = torch.cat(places)
        return torch.cat(pieces)[torch.argsort(order)]

    def templates(self, maps: Sequence[torch.Tensor], parts: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Templates (P, D, T, T) of parts (P, 3); `maps` went through `adj_z`."""
        level = self.track_level(parts[:, 2])
        return self.regions(maps, _scaled(parts, TEMPLATE_SIDES), image, level, cells=self.template)

    def searches(
        self,
        maps: Sequence[torch.Tensor],
        parts: torch.Tensor,
        image: torch.Tensor,
        level: torch.Tensor,
    ) -> torch.Tensor:
        """Search regions (P, D, X, X) around parts; `maps` went through `adj_x`."""
        factor = TEMPLATE_SIDES * self.search / self.template
        return self.regions(maps, _scaled(parts, factor), image, level, cells=self.search)

    def mask_regions(self, maps: Sequence[torch.Tensor], parts: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The mask head's regions (P, D, M, M); `maps` went through `adj_m`."""
        place = _scaled(parts, MASK_SIDES)
        return self.regions(maps, place, image, self.mask_level(parts[:, 2]), cells=self.mask_cells)

    def masks_of(self, masks: torch.Tensor, parts: torch.Tensor, image: torch.Tensor, *, cells: int) -> torch.Tensor:
        """Soft masks (B, H, W) in the mask regions of parts: (P, cells, cells)."""
        place = _scaled(parts, MASK_SIDES)
        boxes = squares(place[:, :2], place[:, 2])
        return roi_align(masks[:, None], boxes, image, cells=cells, stride=1)[:, 0]

    # ---------------------------------------------------------------------------------------- masks

    def propagate(
        self,
        now: torch.Tensor,
        reference: torch.Tensor,
        reference_mask: torch.Tensor,
        earlier: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        whole: torch.Tensor,
    ) -> Masked:
        """Run the mask head.

        Args:
            now: (P, D, M, M).
            reference: (P, D, M, M).
            reference_mask: (P, M, M).
            earlier: the earlier mask at M cells (P), at 2M cells (the parts) and at 4M cells (the wholes).
            whole: bool (P), which are parts 0.
        """
        small, fine, finest = earlier
        features = self.mask(now, reference, reference_mask, small)
        parts = self.mask.logits(features[~whole], fine, whole=False)
        objects = self.mask.logits(features[whole], finest, whole=True)
        found = now.new_zeros(len(now), self.mask_cells, self.mask_cells)
        found[~whole] = _pooled(parts.sigmoid(), 2).to(found.dtype)
        found[whole] = _pooled(objects.sigmoid(), 4).to(found.dtype)
        _, weight = similarity(reference, reference_mask, now, found)
        return Masked(objects, parts, weight, found, now)

    def adjusted(self, maps: Sequence[torch.Tensor], which: Literal["z", "x", "m"]) -> list[torch.Tensor]:
        """The pyramid after one of the 1x1 convolutions, which commute with the sampling of regions."""
        layer = {"z": self.adj_z, "x": self.adj_x, "m": self.adj_m}[which]
        return [layer(x) for x in maps]

    # ------------------------------------------------------------------------------------- training

    def forward(self, frames: torch.Tensor, **inputs: torch.Tensor):
        """What a training step needs, by `task`: see `_classify`, `_track` and `_segment`."""
        return {"classify": self._classify, "track": self._track, "segment": self._segment}[self.task](frames, **inputs)

    def _classify(self, frames: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> logits (B, classes)."""
        assert self.head is not None
        return self.head(self.backbone(self.backbone.normalized(frames))[-1])

    def _track(self, frames: torch.Tensor, *, template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
        """Frames (B, 2, 3, H, W), parts (B, n, 3) in the first, regions in the second -> (B, n, R, R)."""
        pyramid = self.pyramid(frames.transpose(0, 1).flatten(0, 1))
        first, second = halves(pyramid, len(frames))
        return self._scores(first, second, template, search) + _anchor(pyramid)

    def _scores(
        self,
        first: Sequence[torch.Tensor],
        second: Sequence[torch.Tensor],
        template: torch.Tensor,
        search: torch.Tensor,
    ) -> torch.Tensor:
        batch, count = template.shape[:2]
        image = torch.arange(batch, device=template.device).repeat_interleave(count)
        flat = template.flatten(0, 1)
        z = self.templates(self.adjusted(first, "z"), flat, image)
        level = self.track_level(flat[:, 2])
        x = self.searches(self.adjusted(second, "x"), search.flatten(0, 1), image, level)
        return self.track(z, x).unflatten(0, (batch, count))

    def _segment(
        self,
        frames: torch.Tensor,
        *,
        template: torch.Tensor,
        search: torch.Tensor,
        earlier: torch.Tensor,
        now: torch.Tensor,
        reference_mask: torch.Tensor,
        earlier_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, Masked]:
        """Scores and masks of parts.

        Args:
            frames: (B, 2, 3, H, W): the reference and the present frame.
            template: (B, n, 3) parts in the reference; the first of each sample is part 0.
            search: (B, n, 3) search regions in the present frame.
            earlier: (B, n, 3) parts in the frame before.
            now: (B, n, 3) parts in the present frame.
            reference_mask: (B, H, W).
            earlier_mask: (B, H, W).
        """
        pyramid = self.pyramid(frames.transpose(0, 1).flatten(0, 1))
        first, second = halves(pyramid, len(frames))
        scores = self._scores(first, second, template, search) + _anchor(pyramid)
        batch, count = template.shape[:2]
        image = torch.arange(batch, device=template.device).repeat_interleave(count)
        whole = torch.arange(batch * count, device=template.device) % count == 0
        flat, before = template.flatten(0, 1), earlier.flatten(0, 1)
        masked = self.propagate(
            self.mask_regions(self.adjusted(second, "m"), now.flatten(0, 1), image),
            self.mask_regions(self.adjusted(first, "m"), flat, image),
            self.masks_of(reference_mask, flat, image, cells=self.mask_cells),
            self.earlier_masks(earlier_mask, before, image, whole),
            whole,
        )
        return scores, masked

    def earlier_masks(
        self, masks: torch.Tensor, parts: torch.Tensor, image: torch.Tensor, whole: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The earlier mask in the parts' earlier regions, as `propagate` takes it."""
        m = self.mask_cells
        finest = self.masks_of(masks, parts[whole], image[whole], cells=4 * m)
        fine = self.masks_of(masks, parts[~whole], image[~whole], cells=2 * m)
        small = masks.new_zeros(len(parts), m, m)
        small[~whole] = _pooled(fine, 2)
        small[whole] = _pooled(finest, 4)
        return small, fine, finest


_TRAINED: dict[Task, tuple[str, ...]] = {
    "classify": ("backbone", "head"),
    "track": ("backbone", "fpn", "adj_z", "adj_x", "track"),
    "segment": ("backbone", "fpn", "adj_z", "adj_x", "adj_m", "track", "mask"),
}


def _adjust(width: int) -> nn.Conv2d:
    layer = nn.Conv2d(width, width, 1, bias=False)
    nn.init.dirac_(layer.weight)
    return layer


def _scaled(parts: torch.Tensor, factor: float) -> torch.Tensor:
    """The same squares with `factor` times the side."""
    return torch.cat([parts[:, :2], parts[:, 2:] * factor], dim=1)


def _anchor(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Zero, but it depends on all levels: several processes must agree on which weights have gradients."""
    return 0 * torch.stack([x.mean() for x in maps]).sum()


def _pooled(maps: torch.Tensor, factor: int) -> torch.Tensor:
    """Means of blocks of maps (P, M, M); P may be 0."""
    return nn.functional.avg_pool2d(maps[:, None], factor)[:, 0]


def halves(maps: Sequence[torch.Tensor], batch: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Pyramids of the first and of the second frames of a batch."""
    return [x[:batch] for x in maps], [x[batch:] for x in maps]
