"""Our code on key-seeded weights against reference numbers of the seed, FAVOS, RGMP and our own definitions.

Numbers in names ("rho0.4", "cap8", "item0") are settings; sizes come from the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vosrepro.lab.parity.rules import (
    ABSOLUTE,
    CELLS,
    SCALED,
    Groups,
    Lacks,
    Measure,
    Recording,
    Rule,
    informative,
    inputs,
)
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.parts import boxes as geometry
from vosrepro.methods.parts import combine, matching, sampling, schedule
from vosrepro.methods.parts.heads import GlobalConvolution, Refine, TrackHead
from vosrepro.methods.parts.learning.mask_loss import legacy_bilinear, thesis_mask_loss
from vosrepro.methods.parts.resnet import ClassHead, ResNet50v2, same_max_pool, tracker_block

_RELATIVE = 1e-4
_KINDS = {"thesis": "thesis", "thesis_fixed": "thesis-fixed", "balanced": "balanced"}
#: Settings of the reference that no array and no name tells; a recording may hold its own as `<group>/<name>`.
_DEFAULTS = {
    "xcorr/window": 0.176,
    "label/radius": 2.0,
    "geom/template": 15.0,
    "geom/lowest_level": 2.0,
    "geom/highest_level": 5.0,
    "rgmp/hidden": 8.0,
    "bnstat/momentum": 0.05,
}


def _setting(r: Recording, name: str) -> float:
    return float(r[name]) if name in r else _DEFAULTS[name]


def _seeded(module: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
    seed_weights(module, gain=1.0, prefix=prefix)
    return module.eval()


# ----------------------------------------------------------------------------------------- networks


@torch.no_grad()
def _resnet(r: Recording, g: Groups) -> torch.Tensor:
    def make() -> dict[str, torch.Tensor]:
        network, x = ResNet50v2(), r.tensor("r50v2/x")
        _seeded(network)
        stem, maps = network.stem(x), network(x)
        found = {"stem": stem, "pool": same_max_pool(stem)}
        return found | {f"c{i + 2}": m for i, m in enumerate(maps)}

    found = r.once("r50v2", make)
    if g["what"] in found:
        value, stored = found[g["what"]], r[f"r50v2/{g['what']}"].shape
        return value[:, :: max(1, value.shape[1] // max(1, stored[1]))]
    classes = r["r50v2/logits"].shape[1] if "r50v2/logits" in r else 1001
    head = ClassHead(found["c5"].shape[1], classes)
    _seeded(head, "head.")
    return head.pooled(found["c5"]) if g["what"] == "pooled" else head(found["c5"])


@torch.no_grad()
def _tracker_block(r: Recording, g: Groups) -> torch.Tensor:
    """The seed's blocks one after the other; a block's middle is a fourth of its output."""
    x = r.tensor("siam/x")
    for level in range(3, 1 + int(g["level"])):
        middle = r[f"siam/c{level}_block1"].shape[1] // 4
        x = _seeded(tracker_block(x.shape[1], middle, level=level), f"siamc{level}.")(x)
    return x


def _maps(r: Recording) -> torch.Tensor:
    return matching.correlate(r.tensor("xcorr/z"), r.tensor("xcorr/x"))


@torch.no_grad()
def _track_logits(r: Recording, _: Groups) -> torch.Tensor:
    z = r["xcorr/z"]
    head = TrackHead(z.shape[1], z.shape[-1])
    _seeded(head, "track.")
    return head.score(_maps(r))[:, None]


def _probabilities(r: Recording) -> torch.Tensor:
    return r.tensor("xcorr/logits")[:, 0].double().sigmoid()


@torch.no_grad()
def _global(r: Recording) -> torch.Tensor:
    x, out = r.tensor("rgmp/gc_x"), r["rgmp/gc_out"].shape[1]
    return _seeded(GlobalConvolution(x.shape[1], out, hidden=int(_setting(r, "rgmp/hidden"))), "GC.")(x)


@torch.no_grad()
def _refined(r: Recording, _: Groups) -> torch.Tensor:
    x, skip = _global(r), r.tensor("rgmp/refine_f")
    refine = Refine(skip.shape[1], x.shape[1])
    _seeded(refine, "RF4.")
    return refine(skip, x)


# ---------------------------------------------------------------------------------- labels and parts


def _positive(r: Recording) -> torch.Tensor:
    shapes = [r.arrays[k].shape[-1] for k in ("label/pos", "label/logits") if k in r]
    center = r.tensor("label/center_yx")[None].double()
    return matching.positive_cells(center, size=shapes[0], radius=_setting(r, "label/radius"), norm="l1")


def _label_weights(r: Recording, g: Groups) -> torch.Tensor:
    center = r.tensor("label/center_yx")[None]
    kind: Any = _KINDS[g["kind"]]
    return matching.cell_weights(_positive(r), kind=kind, center=center).double()[0]


def _label_loss(r: Recording, g: Groups) -> torch.Tensor:
    logits = r.tensor("label/logits").double()
    both = _positive(r).expand(len(logits), -1, -1)
    return matching.matching_loss(logits, both, _label_weights(r, g)[None]).mean()


def _cells(r: Recording) -> torch.Tensor:
    return geometry.cell_px(r.tensor("geom/part_side").double(), template=int(_setting(r, "geom/template")))


def _levels(r: Recording, _: Groups) -> torch.Tensor:
    lowest, highest = (int(_setting(r, f"geom/{which}_level")) for which in ("lowest", "highest"))
    return geometry.level_of(_cells(r), lowest=lowest, highest=highest)


def _candidates(r: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    mask, boxes = r["parts/mask"] > 0, r["parts/boxes"]
    valid, fraction = sampling.usable(mask, boxes)
    return mask, boxes, valid, fraction


def _thesis_order(r: Recording, g: Groups) -> np.ndarray:
    _, boxes, valid, _ = _candidates(r)
    kept = np.flatnonzero(valid)
    return kept[sampling.thesis_suppress(boxes[kept], max_overlap=float(g["overlap"]))]


def _order(r: Recording, overlap: float) -> np.ndarray:
    _, boxes, valid, fraction = _candidates(r)
    kept = np.flatnonzero(valid)
    return kept[sampling.suppress(boxes[kept], fraction[kept], max_iou=overlap)]


def _selected(r: Recording, g: Groups) -> np.ndarray:
    mask, boxes, _, fraction = _candidates(r)
    known = [float(m["overlap"]) for m in r.matches(r"parts/nms_iou_(?P<overlap>[\d.]+)")]
    order = _order(r, known[0] if known else 0.6)
    return order[sampling.cover_object(mask, boxes[order], fraction[order], limit=int(g["limit"]))]


# --------------------------------------------------------------------------------------- aggregation


def _size(r: Recording) -> tuple[int, int]:
    for m in r.matches(r"agg/(S_parts|coverage|S_object|S_final_.*|paste_item\d+|favos_\w+[\d.]*)"):
        height, width = r.arrays[m.group()].shape
        return height, width
    raise Lacks("agg/S_parts")


def _values(r: Recording) -> tuple[torch.Tensor, torch.Tensor]:
    return r.tensor("agg/part_logits").sigmoid(), r.tensor("agg/boxes")


def _combined(r: Recording) -> tuple[torch.Tensor, torch.Tensor]:
    values, boxes = _values(r)
    return combine.combine_parts(values, r.tensor("agg/part_weight"), boxes, _size(r))


def _whole(r: Recording) -> torch.Tensor:
    box, logits = r.tensor("agg/object_box")[None], r.tensor("agg/object_logits")[None]
    return combine.paste(logits.sigmoid(), box, _size(r))[0][0]


def _blended(r: Recording, g: Groups) -> torch.Tensor:
    return combine.blend_parts(_whole(r), *_combined(r), share=float(g["share"]))


def _favos(r: Recording, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    base = r.tensor("agg/S_object")
    return combine.favos_combination(*_values(r), base / base.max(), ratio=ratio)


def _favos_binary(r: Recording, _: Groups) -> torch.Tensor:
    known = [float(m["ratio"]) for m in r.matches(r"agg/favos_combined_ratio(?P<ratio>[\d.]+)")]
    return _favos(r, known[0] if known else 0.5)[1] > 0.5


def _similar(r: Recording, scale: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    names = ("sim/feat0", "sim/m0", "sim/feat_t", "sim/mt")
    return combine.similarity(*(r.tensor(n).double() for n in names), scale=scale)


# --------------------------------------------------------------------------------------- statistics


def _statistics(r: Recording, g: Groups) -> torch.Tensor:
    """Running statistics after some batches."""
    batches = r.tensor("bnstat/x").double()[: int(g["count"])]
    momentum = _setting(r, "bnstat/momentum")
    norm = torch.nn.BatchNorm2d(batches.shape[2], momentum=momentum).double().train()
    biased = torch.ones(batches.shape[2], dtype=torch.float64)
    for x in batches:
        norm(x)
        biased.lerp_(x.var(dim=(0, 2, 3), correction=0), momentum)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return {"mean": norm.running_mean, "var_torch_unbiased": norm.running_var, "var_tf_biased": biased}[g["what"]]


def _rates(name: str, rate: Callable[..., float]) -> Callable[[Recording, Groups], list[float]]:
    return lambda r, _: [rate(n) for n in r[name].tolist()]


_INDICES = Measure("positions differ", CELLS.error)
RULES: tuple[Rule, ...] = (
    *inputs(
        r"r50v2/x|siam/x|xcorr/[zx]",
        r"label/(center_yx|logits)",
        r"geom/(boxes|part_side)",
        r"parts/(mask|boxes)",
        r"agg/(boxes|part_logits|part_weight|object_box|object_logits|multi_S)",
        r"sim/(feat0|feat_t|m0|mt)",
        r"rgmp/(gc_x|refine_f)",
        r"maskloss/(logits\d+|gt)",
        r"bnstat/x",
        r"lr/(imagenet_steps|track_epoch)",
        "|".join(_DEFAULTS),
    ),
    *informative(r"meta|\w+_version"),
    Rule(r"r50v2/(?P<what>stem|pool|c[2-5]|pooled|logits)", _resnet, _RELATIVE, SCALED),
    Rule(r"siam/c(?P<level>[34])_block1", _tracker_block, _RELATIVE, SCALED),
    Rule(r"xcorr/depthwise", lambda r, _: _maps(r), _RELATIVE, SCALED),
    Rule(r"xcorr/full", lambda r, _: _maps(r).sum(1), _RELATIVE, SCALED),
    Rule(r"xcorr/logits", _track_logits, _RELATIVE, SCALED),
    Rule(
        r"xcorr/offset_cells_yx",
        lambda r, _: matching.peak_offset(_probabilities(r), window=_setting(r, "xcorr/window")),
        1e-6,
        needs=("xcorr/logits",),
    ),
    Rule(
        r"xcorr/offset_nowindow_yx",
        lambda r, _: matching.peak_offset(_probabilities(r), window=0.0),
        1e-6,
        needs=("xcorr/logits",),
    ),
    Rule(
        r"xcorr/resp_up_item(?P<item>\d+)",
        lambda r, g: matching.response(_probabilities(r), window=_setting(r, "xcorr/window"))[int(g["item"])] * 1e4,
        _RELATIVE,
        SCALED,
        needs=("xcorr/logits",),
    ),
    Rule(r"xcorr/peak_conf", lambda r, _: _probabilities(r).flatten(1).amax(1), _RELATIVE, SCALED),
    Rule(r"label/pos", lambda r, _: _positive(r)[0], 0, CELLS),
    Rule(r"label/weight_(?P<kind>thesis|thesis_fixed|balanced)", _label_weights, 1e-6, SCALED),
    Rule(r"label/loss_(?P<kind>thesis|thesis_fixed|balanced)", _label_loss, 1e-6, SCALED),
    Rule(
        r"geom/template_square_and_scale",
        lambda r, _: [geometry.template_square(tuple(box)) for box in r["geom/boxes"].tolist()],
        1e-12,
    ),
    Rule(r"geom/cell_px", lambda r, _: _cells(r), 1e-8),
    Rule(r"geom/fpn_level", _levels, 0, ABSOLUTE),
    Rule(r"parts/inside", lambda r, _: sampling.inside_image(r["parts/mask"].shape, r["parts/boxes"]), 0, CELLS),
    Rule(r"parts/fraction", lambda r, _: _candidates(r)[3], 1e-12),
    Rule(r"parts/valid", lambda r, _: _candidates(r)[2], 0, CELLS),
    Rule(r"parts/nms_thesis_(?P<overlap>[\d.]+)", _thesis_order, 0, _INDICES),
    Rule(r"parts/nms_iou_(?P<overlap>[\d.]+)", lambda r, g: _order(r, float(g["overlap"])), 0, _INDICES),
    Rule(r"parts/selected_cap(?P<limit>\d+)", _selected, 0, _INDICES),
    Rule(
        r"agg/paste_item(?P<item>\d+)",
        lambda r, g: combine.paste(*_values(r), _size(r))[0][int(g["item"])],
        _RELATIVE,
        SCALED,
    ),
    Rule(r"agg/coverage", lambda r, _: combine.paste(*_values(r), _size(r))[1].sum(0), 0, CELLS),
    Rule(r"agg/S_parts", lambda r, _: _combined(r)[0], _RELATIVE, SCALED),
    Rule(r"agg/S_object", lambda r, _: _whole(r), _RELATIVE, SCALED),
    Rule(r"agg/S_final_rho(?P<share>[\d.]+)", _blended, _RELATIVE, SCALED),
    Rule(r"agg/favos_parts", lambda r, _: _favos(r, 0.5)[0], _RELATIVE, SCALED),
    Rule(
        r"agg/favos_combined_ratio(?P<ratio>[\d.]+)",
        lambda r, g: _favos(r, float(g["ratio"]))[1],
        _RELATIVE,
        SCALED,
    ),
    Rule(r"agg/favos_binary", _favos_binary, 0, CELLS),
    Rule(r"agg/multi_prob", lambda r, _: combine.merge_objects(r.tensor("agg/multi_S")), _RELATIVE, SCALED),
    Rule(r"agg/multi_label", lambda r, _: combine.merge_objects(r.tensor("agg/multi_S")).argmax(0), 0, CELLS),
    Rule(r"sim/dist", lambda r, _: _similar(r)[0], _RELATIVE, SCALED),
    Rule(r"sim/weight_tau(?P<scale>[\d.]+)", lambda r, g: _similar(r, float(g["scale"]))[1], _RELATIVE, SCALED),
    Rule(r"rgmp/gc_out", lambda r, _: _global(r), _RELATIVE, SCALED),
    Rule(r"rgmp/refine_out", _refined, _RELATIVE, SCALED),
    Rule(
        r"maskloss/up(?P<size>\d+)_item(?P<item>\d+)",
        lambda r, g: legacy_bilinear(_mask_logits(r), int(g["size"]))[int(g["item"])],
        _RELATIVE,
        SCALED,
    ),
    Rule(
        r"maskloss/loss_thesis_sum_mean",
        lambda r, _: thesis_mask_loss(_mask_logits(r), r.tensor("maskloss/gt")),
        _RELATIVE,
        SCALED,
    ),
    Rule(
        r"bnstat/(?P<what>mean|var_tf_biased|var_torch_unbiased)_after(?P<count>\d+)",
        _statistics,
        _RELATIVE,
        SCALED,
    ),
    Rule(
        r"lr/imagenet_b(?P<batch>\d+)",
        lambda r, g: [schedule.imagenet_rate(n, batch=int(g["batch"])) for n in r["lr/imagenet_steps"].tolist()],
        1e-12,
    ),
    Rule(r"lr/track_master", _rates("lr/track_epoch", schedule.tracker_rate), 1e-12),
    Rule(r"lr/track_guide_mask", _rates("lr/track_epoch", schedule.guide_mask_rate), 1e-12),
)


def _mask_logits(r: Recording) -> torch.Tensor:
    name = next((m.group() for m in r.matches(r"maskloss/logits\d+")), "maskloss/logits63")
    return r.tensor(name).double()
