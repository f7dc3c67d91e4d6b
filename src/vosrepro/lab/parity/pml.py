"""Our code against recorded outputs of the original: network, loss, search, adaptation, solver.

The tolerances are those of float64; where a table of the fixture only makes sense for equal decisions, the
row counts differing cells.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vosrepro.base.types import ParityRow
from vosrepro.methods.pml.bilateral import BilateralGrid, bilateral_filter, solve
from vosrepro.methods.pml.cells import to_pixels
from vosrepro.methods.pml.loss import triplet_loss, usable_labels
from vosrepro.methods.pml.model import PML, Coords
from vosrepro.methods.pml.pool import Adaptation, ReferencePool
from vosrepro.methods.pml.refine import Refinement
from vosrepro.methods.pml.search import label_similarity, nearest
from vosrepro.methods.pml.votes import hard_vote

_CELLS = "cells differ"
_RELATIVE = "max abs / max"


def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare with a fixture of the seed's outputs.

    Args:
        arrays: as loaded from pml.npz; groups of arrays that it lacks are left out.
    """
    rows = _loss(arrays) if "loss_emb" in arrays else []
    with torch.no_grad():
        if "net_gain" in arrays:
            model = _seed_network(float(arrays["net_gain"]))
            rows += [*_network(arrays, model.eval()), *_batch_statistics(arrays, model.train())]
        if "knn_ref" in arrays:
            rows += _search(arrays)
        if "ad_ref" in arrays:
            rows += _adaptation(arrays)
        if "bs_image" in arrays:
            rows += [*_solver(arrays, "unit"), *_solver(arrays, "quirk")]
    return rows


def seed_weights(model: torch.nn.Module, gain: float) -> None:
    """Fill a network with weights that depend on the names of its tensors only."""
    state = {}
    for key, value in model.state_dict().items():
        draw = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal
        shape = tuple(value.shape)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros_like(value)
            continue
        if len(shape) > 1:
            array = draw(shape) * gain / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("running_var"):
            array = 1 + 0.1 * np.abs(draw(shape))
        else:
            array = (1.0 if key.endswith("weight") else 0.0) + 0.1 * draw(shape)
        state[key] = torch.from_numpy(array.astype(np.float32))
    model.load_state_dict(state)


def _seed_network(gain: float) -> PML:
    with torch.random.fork_rng(devices=[]):
        model = PML(head="seed", coords="zero", channel_order="rgb", norm="live")
    seed_weights(model, gain)
    return model.double()


def _network(a: Mapping[str, Any], model: PML) -> list[ParityRow]:
    rows = []
    features = model.base_extractor.stages(torch.from_numpy(a["net_image"]).double())
    for name, value in features.items():
        error = _largest(value[0, :3], a[f"net_act_{name}"]) / float(a[f"net_rms_{name}"])
        rows.append(ParityRow(f"net_act_{name}", error, 1e-9, "max abs / rms"))
    cases: tuple[tuple[Coords, str], ...] = (("ij", "net_emb_frac"), ("zero", "net_emb_zero"))
    for coords, name in cases:
        model.coords = coords
        rows.append(ParityRow(name, _largest(model.head(features["layer4"])[0], a[name]), 1e-9))
    return rows


def _batch_statistics(a: Mapping[str, Any], model: PML) -> list[ParityRow]:
    embedded = model.embed(torch.from_numpy(a["net_tr_image"]).double())
    norm = model.get_submodule("base_extractor.layer4.2.bn2")
    rows = [ParityRow("net_tr_emb", _largest(embedded, a["net_tr_emb"]), 1e-8)]
    for name in ("running_mean", "running_var"):
        key = f"net_tr_l4_2_bn2_{name}"
        rows.append(ParityRow(key, _largest(getattr(norm, name), a[key]), 1e-8))
    return rows


def _loss(a: Mapping[str, Any]) -> list[ParityRow]:
    rows = []
    labels = torch.from_numpy(a["loss_ann"] > 0).long().flatten(1)
    width = a["loss_ann"].shape[2]
    for prefix in ("loss", "loss_s"):
        frames = torch.from_numpy(a["loss_emb"]).double().requires_grad_(True)
        cells = frames.flatten(2).transpose(1, 2)
        pool, pool_labels = cells[1:].flatten(0, 1), labels[1:].flatten()
        anchors = {label: (labels[0] == label).nonzero()[:, 0] for label in usable_labels(labels[0], pool_labels)}
        if prefix == "loss_s":
            for label, name in enumerate(("bg", "fg")):
                yx = torch.from_numpy(a[f"loss_anchor_{name}_yx"].astype(np.int64))
                anchors[label] = yx[:, 0] * width + yx[:, 1]
        loss, parts, _ = triplet_loss(cells[0], labels[0], pool, pool_labels, anchors, margin=float(a["loss_alpha"]))
        loss.backward()
        found = {"total": loss, "fg": parts[1], "bg": parts[0], "grad": frames.grad}
        for name, value in found.items():
            assert value is not None
            key = f"{prefix}_{name}"
            rows.append(ParityRow(key, _largest(value.detach(), a[key]), 1e-10))
    return rows


def _search(a: Mapping[str, Any]) -> list[ParityRow]:
    reference, query = (torch.from_numpy(a[k]).double() for k in ("knn_ref", "knn_cur"))
    labels = torch.from_numpy(a["knn_ref_label"].astype(np.int64)).flatten()
    k = int(a["knn_K"])
    found = nearest(query, reference, k)
    multi, _ = hard_vote(labels[found.index], 3)
    binary, _ = hard_vote((labels[found.index] > 0).long(), 2)
    single, _ = hard_vote(labels[found.index[:, :1]], 3)
    top = label_similarity(query, reference, labels, count=3)
    return [
        ParityRow("knn_idx", _differing(found.index, a["knn_idx"]), 0, _CELLS),
        ParityRow("knn_d2", _largest(found.distance2, a["knn_d2"]), 1e-6),
        ParityRow("knn_mask", _differing(binary, a["knn_mask"]), 0, _CELLS),
        ParityRow("knn_multi", _differing(multi, a["knn_multi"]), 0, _CELLS),
        ParityRow("knn_multi_k1", _differing(single, a["knn_multi_k1"]), 0, _CELLS),
        ParityRow("knn_label_max", _largest(top, a["knn_label_max"]), 1e-6),
    ]


def _adaptation(a: Mapping[str, Any]) -> list[ParityRow]:
    rule = Adaptation(
        max_frames=int(a["ad_max_frames"]),
        agree=int(a["ad_agree"]),
        max_distance2=float(a["ad_max_d2"]),
        stride=int(a["ad_stride"]),
    )
    rows = []
    for suffix, adaptation in (("", rule), ("_off", Adaptation())):
        pool = ReferencePool(int(a["ad_K"]), adaptation)
        labels = torch.from_numpy(a["ad_ref_label"].astype(np.int64))
        fractions = torch.nn.functional.one_hot(labels, 2).double()
        pool.give(torch.from_numpy(a["ad_ref"]).double(), fractions)
        answers, joined, sizes = [], [], []
        for frame in torch.from_numpy(a["ad_frames"]).double():
            sizes.append(len(pool))
            answer = pool.ask(frame)
            answers.append(answer.labels)
            joined.append(pool.adapt(frame, answer))
        found = torch.stack(answers)
        key = f"ad_labels{suffix}"
        rows.append(ParityRow(key, _differing(found, a[key]), 0, _CELLS))
        if not suffix:
            rows.append(ParityRow("ad_added", _differing(torch.stack(joined), a["ad_added"]), 0, _CELLS))
            wrong = _differing(torch.tensor(sizes), a["ad_pool_sizes"])
            rows.append(ParityRow("ad_pool_sizes", wrong, 0, "sizes differ"))
    return rows


def _solver(a: Mapping[str, Any], name: str) -> list[ParityRow]:
    prefix = f"bs_{name}"
    spatial, luma, chroma = (float(v) for v in a[f"{prefix}_grid"])
    smoothness, diagonal_min, tolerance, iterations = (float(v) for v in a[f"{prefix}_params"])
    grid = BilateralGrid(torch.from_numpy(a["bs_image"]), spatial_px=spatial, luma=luma, chroma=chroma)
    rows = [ParityRow(f"{prefix}_nvertices", abs(grid.vertices - int(a[f"{prefix}_nvertices"])), 2, "vertices")]
    target = torch.from_numpy(a[f"{prefix}_t"])[None]
    confidence = torch.from_numpy(a[f"{prefix}_c"])
    found = solve(
        grid,
        target,
        confidence,
        smoothness=smoothness,
        diagonal_min=diagonal_min,
        tolerance=tolerance,
        max_iterations=int(iterations),
    )
    diagonal = smoothness * (grid.m - 10 * grid.n.square()) + grid.splat(confidence.flatten())
    for key, value in (("n", grid.n), ("m", grid.m), ("Adiag", diagonal)):
        expected = a[f"{prefix}_{key}"]
        error = _relative(value[grid.place], expected) if len(value) == len(expected) else float("nan")
        rows.append(ParityRow(f"{prefix}_{key}", error, 1e-9, _RELATIVE))
    off = abs(found.iterations - int(a[f"{prefix}_iters"]))
    rows.append(ParityRow(f"{prefix}_iters", off, 0, "iterations"))
    tolerance_out = 1e-9 if name == "unit" else 1e-7
    error = _relative(found.values[0], a[f"{prefix}_out"])
    rows.append(ParityRow(f"{prefix}_out", error, tolerance_out, _RELATIVE))
    error = _relative(bilateral_filter(grid, target)[0], a[f"{prefix}_filter"])
    rows.append(ParityRow(f"{prefix}_filter", error, 1e-9, _RELATIVE))
    if name == "quirk":
        rows += _seed_mask(a, spatial, luma, chroma)
    return rows


def _seed_mask(a: Mapping[str, Any], spatial: float, luma: float, chroma: float) -> list[ParityRow]:
    """The seed's whole post-processing, from the coarse mask to the final one."""
    frame = torch.from_numpy(a["bs_image"]).permute(2, 0, 1).double() / 255
    low = torch.from_numpy(a["bs_low"]).double()[None]
    pixels = to_pixels(low, (frame.shape[1], frame.shape[2]), geometry="half-pixel", cell_px=8)
    settings = Refinement(
        kind="solver",
        threshold=0.3,
        rescale_by_max=True,
        confidence=float(a["bs_quirk_c"].flat[0]),
        spatial_px=spatial,
        luma=luma,
        chroma=chroma,
    )
    mask = settings.apply(frame, pixels).argmax(0)
    return [
        ParityRow("bs_up", _largest(pixels[0], a["bs_up"]), 1e-6),
        ParityRow("bs_quirk_mask03", _differing(mask, a["bs_quirk_mask03"] > 0), 2, "pixels differ"),
    ]


def _largest(ours: torch.Tensor, theirs: Any) -> float:
    expected = torch.as_tensor(np.asarray(theirs), dtype=torch.float64)
    return float((ours.double() - expected.reshape(ours.shape)).abs().max())


def _relative(ours: torch.Tensor, theirs: Any) -> float:
    return _largest(ours, theirs) / float(np.abs(theirs).max())


def _differing(ours: torch.Tensor, theirs: Any) -> float:
    expected = torch.from_numpy(np.asarray(theirs).astype(np.int64)).reshape(ours.shape)
    return float((ours.long() != expected).sum())
