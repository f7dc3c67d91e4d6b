"""Our code on key-seeded weights against reference numbers of the seed, FAVOS, RGMP and our own definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from vosrepro.base.types import ParityRow
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.parts import boxes as geometry
from vosrepro.methods.parts import combine, matching, sampling, schedule
from vosrepro.methods.parts.heads import GlobalConvolution, Refine, TrackHead
from vosrepro.methods.parts.learning.mask_loss import legacy_bilinear, thesis_mask_loss
from vosrepro.methods.parts.resnet import ClassHead, ResNet50v2, same_max_pool, tracker_block

_RELATIVE, _EXACT = 1e-4, 0.0
_LEAST_COUNTED = 1e-6


@torch.no_grad()
def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare every array that the fixture has and that this method makes.

    Args:
        arrays: as loaded from parts.npz; groups that it lacks are left out.
    """
    rows: list[ParityRow] = []
    for group, part in _PARTS.items():
        if any(name.startswith(f"{group}/") for name in arrays):
            rows += part(arrays)
    return rows


def _close(arrays: Mapping[str, Any], name: str, ours: torch.Tensor, relative: float = _RELATIVE) -> ParityRow:
    """Largest difference as a share of (|value| + largest value): rtol = atol = `relative`."""
    theirs = torch.from_numpy(np.asarray(arrays[name], np.float64))
    if ours.shape != theirs.shape:
        shapes = f"shape {tuple(ours.shape)}, not {tuple(theirs.shape)}"
        return ParityRow(name, float("nan"), relative, shapes)
    difference = (ours.double() - theirs).abs()
    scale = theirs.abs() + theirs.abs().max().clamp_min(_LEAST_COUNTED)
    return ParityRow(name, float((difference / scale).max()), relative, "relative")


def _equal(arrays: Mapping[str, Any], name: str, ours: Any, tolerance: float = _EXACT) -> ParityRow:
    theirs, mine = np.asarray(arrays[name], np.float64), np.asarray(ours, np.float64)
    if mine.shape != theirs.shape:
        return ParityRow(name, float("nan"), tolerance, f"shape {mine.shape}, not {theirs.shape}")
    return ParityRow(name, float(np.abs(mine - theirs).max()), tolerance)


def _tensor(arrays: Mapping[str, Any], name: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(arrays[name]))


def _seeded(module: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
    seed_weights(module, gain=1.0, prefix=prefix)
    return module.eval()


def _resnet(arrays: Mapping[str, Any]) -> list[ParityRow]:
    network = ResNet50v2()
    _seeded(network)
    head = ClassHead(2048, 1001)
    _seeded(head, "head.")
    x = _tensor(arrays, "r50v2/x")
    stem = network.stem(x)
    maps = network(x)
    rows = [
        _close(arrays, "r50v2/stem", stem[:, ::8]),
        _close(arrays, "r50v2/pool", same_max_pool(stem)[:, ::8]),
    ]
    rows += [_close(arrays, f"r50v2/c{i + 2}", m) for i, m in enumerate(maps)]
    rows.append(_close(arrays, "r50v2/pooled", head.pooled(maps[-1])))
    rows.append(_close(arrays, "r50v2/logits", head(maps[-1])))
    return rows


def _tracker_blocks(arrays: Mapping[str, Any]) -> list[ParityRow]:
    first = _seeded(tracker_block(16, 8, level=3), "siamc3.")(_tensor(arrays, "siam/x"))
    second = _seeded(tracker_block(32, 16, level=4), "siamc4.")(first)
    return [_close(arrays, "siam/c3_block1", first), _close(arrays, "siam/c4_block1", second)]


def _correlation(arrays: Mapping[str, Any]) -> list[ParityRow]:
    z, x = _tensor(arrays, "xcorr/z"), _tensor(arrays, "xcorr/x")
    maps = matching.correlate(z, x)
    head = TrackHead(z.shape[1], z.shape[-1])
    _seeded(head, "track.")
    logits = head.score(maps)
    p = torch.from_numpy(np.asarray(arrays["xcorr/logits"])[:, 0]).double().sigmoid()
    up = matching.response(p, window=0.176)
    return [
        _close(arrays, "xcorr/depthwise", maps),
        _close(arrays, "xcorr/full", maps.sum(1)),
        _close(arrays, "xcorr/logits", logits[:, None]),
        _equal(arrays, "xcorr/offset_cells_yx", matching.peak_offset(p, window=0.176), 1e-6),
        _equal(arrays, "xcorr/offset_nowindow_yx", matching.peak_offset(p, window=0.0), 1e-6),
        _close(arrays, "xcorr/resp_up_item0", up[0] * 1e4),
        _close(arrays, "xcorr/peak_conf", p.flatten(1).amax(1)),
    ]


def _labels(arrays: Mapping[str, Any]) -> list[ParityRow]:
    center = _tensor(arrays, "label/center_yx")[None]
    positive = matching.positive_cells(center.double(), size=17, radius=2, norm="l1")
    logits = _tensor(arrays, "label/logits").double()
    rows = [_equal(arrays, "label/pos", positive[0])]
    for kind, name in (("thesis", "thesis"), ("thesis-fixed", "thesis_fixed"), ("balanced",) * 2):
        weights = matching.cell_weights(positive, kind=kind, center=center).double()  # type: ignore[arg-type]
        rows.append(_close(arrays, f"label/weight_{name}", weights[0], 1e-6))
        both = positive.expand(len(logits), -1, -1)
        loss = matching.matching_loss(logits, both, weights).mean()
        rows.append(_close(arrays, f"label/loss_{name}", loss, 1e-6))
    return rows


def _geometry(arrays: Mapping[str, Any]) -> list[ParityRow]:
    found = [geometry.template_square(tuple(box)) for box in arrays["geom/boxes"].tolist()]
    sides = _tensor(arrays, "geom/part_side").double()
    cells = geometry.cell_px(sides, template=15)
    return [
        _equal(arrays, "geom/template_square_and_scale", found, 1e-12),
        _equal(arrays, "geom/cell_px", cells, 1e-8),
        _equal(arrays, "geom/fpn_level", geometry.level_of(cells, lowest=2, highest=5)),
    ]


def _sampling(arrays: Mapping[str, Any]) -> list[ParityRow]:
    mask, boxes = arrays["parts/mask"] > 0, arrays["parts/boxes"]
    valid, fraction = sampling.usable(mask, boxes)
    kept = np.flatnonzero(valid)
    thesis = kept[sampling.thesis_suppress(boxes[kept], max_overlap=0.7)]
    order = kept[sampling.suppress(boxes[kept], fraction[kept], max_iou=0.6)]
    rows = [
        _equal(arrays, "parts/inside", sampling.inside(mask.shape, boxes)),
        _equal(arrays, "parts/fraction", fraction, 1e-12),
        _equal(arrays, "parts/valid", valid),
        _equal(arrays, "parts/nms_thesis_0.7", thesis),
        _equal(arrays, "parts/nms_iou_0.6", order),
    ]
    for limit in (8, 24):
        chosen = order[sampling.cover(mask, boxes[order], fraction[order], limit=limit)]
        rows.append(_equal(arrays, f"parts/selected_cap{limit}", chosen))
    return rows


def _aggregation(arrays: Mapping[str, Any]) -> list[ParityRow]:
    boxes, weights = _tensor(arrays, "agg/boxes"), _tensor(arrays, "agg/part_weight")
    values = _tensor(arrays, "agg/part_logits").sigmoid()
    size = arrays["agg/S_parts"].shape
    pasted, covering = combine.paste(values, boxes, size)
    parts, covered = combine.combine_parts(values, weights, boxes, size)
    box = _tensor(arrays, "agg/object_box")[None]
    whole = combine.paste(_tensor(arrays, "agg/object_logits")[None].sigmoid(), box, size)[0][0]
    final = combine.blend(whole, parts, covered, share=0.4)
    base = _tensor(arrays, "agg/S_object")
    favos, both = combine.favos_combination(values, boxes, base / base.max(), ratio=0.5)
    merged = combine.merge(_tensor(arrays, "agg/multi_S"))
    return [
        _close(arrays, "agg/paste_item0", pasted[0]),
        _equal(arrays, "agg/coverage", covering.sum(0)),
        _close(arrays, "agg/S_parts", parts),
        _close(arrays, "agg/S_object", whole),
        _close(arrays, "agg/S_final_rho0.4", final),
        _close(arrays, "agg/favos_parts", favos),
        _close(arrays, "agg/favos_combined_ratio0.5", both),
        _equal(arrays, "agg/favos_binary", both > 0.5),
        _close(arrays, "agg/multi_prob", merged),
        _equal(arrays, "agg/multi_label", merged.argmax(0)),
    ]


def _similarity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    names = ("sim/feat0", "sim/m0", "sim/feat_t", "sim/mt")
    distance, weight = combine.similarity(*(_tensor(arrays, n).double() for n in names))
    return [
        _close(arrays, "sim/dist", distance),
        _close(arrays, "sim/weight_tau0.5", weight),
    ]


def _rgmp(arrays: Mapping[str, Any]) -> list[ParityRow]:
    gc = _seeded(GlobalConvolution(12, 6, hidden=8), "GC.")(_tensor(arrays, "rgmp/gc_x"))
    refine = _seeded(Refine(10, 6), "RF4.")
    return [
        _close(arrays, "rgmp/gc_out", gc),
        _close(arrays, "rgmp/refine_out", refine(_tensor(arrays, "rgmp/refine_f"), gc)),
    ]


def _mask_loss(arrays: Mapping[str, Any]) -> list[ParityRow]:
    logits = _tensor(arrays, "maskloss/logits63").double()
    loss = thesis_mask_loss(logits, _tensor(arrays, "maskloss/gt"))
    return [
        _close(arrays, "maskloss/up127_item0", legacy_bilinear(logits, 127)[0]),
        _close(arrays, "maskloss/loss_thesis_sum_mean", loss),
    ]


def _batch_statistics(arrays: Mapping[str, Any]) -> list[ParityRow]:
    batches = _tensor(arrays, "bnstat/x").double()
    norm = torch.nn.BatchNorm2d(batches.shape[2], momentum=0.05).double().train()
    biased = torch.ones(batches.shape[2], dtype=torch.float64)
    for x in batches:
        norm(x)
        biased.lerp_(x.var(dim=(0, 2, 3), correction=0), 0.05)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [
        _close(arrays, "bnstat/mean_after2", norm.running_mean),
        _close(arrays, "bnstat/var_torch_unbiased_after2", norm.running_var),
        _close(arrays, "bnstat/var_tf_biased_after2", biased),
    ]


def _schedules(arrays: Mapping[str, Any]) -> list[ParityRow]:
    steps = arrays["lr/imagenet_steps"].tolist()
    epochs = arrays["lr/track_epoch"].tolist()
    return [
        _equal(arrays, "lr/imagenet_b256", [schedule.imagenet_rate(s, batch=256) for s in steps], 1e-12),
        _equal(arrays, "lr/track_master", [schedule.tracker_rate(e) for e in epochs], 1e-12),
        _equal(arrays, "lr/track_guide_mask", [schedule.guide_mask_rate(e) for e in epochs], 1e-12),
    ]


_PARTS: dict[str, Callable[[Mapping[str, Any]], list[ParityRow]]] = {
    "r50v2": _resnet,
    "siam": _tracker_blocks,
    "xcorr": _correlation,
    "label": _labels,
    "geom": _geometry,
    "parts": _sampling,
    "agg": _aggregation,
    "sim": _similarity,
    "rgmp": _rgmp,
    "maskloss": _mask_loss,
    "bnstat": _batch_statistics,
    "lr": _schedules,
}
