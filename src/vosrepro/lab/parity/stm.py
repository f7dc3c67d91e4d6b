"""Our network and loops on key-seeded weights against stored outputs of the upstream code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from vosrepro.base.types import Batch, ParityRow
from vosrepro.methods.common.aggregation import aggregate, aggregation_logits
from vosrepro.methods.common.masks import one_hot
from vosrepro.methods.common.padding import Padding
from vosrepro.methods.common.resizing import resize_frame, resize_labels, short_side_size
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.stm.correspondence import correspond
from vosrepro.methods.stm.memory import read
from vosrepro.methods.stm.model import MEAN, STD, STM
from vosrepro.methods.stm.network import QueryFeatures
from vosrepro.methods.stm.original import OriginalSTM
from vosrepro.methods.stm.segmenter import STMSegmenter
from vosrepro.methods.stm.train import frame_losses, kept_fraction, train_step

_GRADIENT_ITERATION = 45_000
_GRADIENT_RTOL, _GRADIENT_ATOL = 5e-3, 1e-3
_MASK_SHARE = 2e-4  # of the pixels


def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare every array that the fixture has and that this method makes.

    Args:
        arrays: the fixture, as loaded from its .npz.

    Returns:
        one row per array; tolerances are those for float32 on a CPU.
    """
    rows: list[ParityRow] = []
    for part, needs in _PARTS:
        if needs in arrays:
            rows += part(arrays)
    return rows


# ---------------------------------------------------------------------------------------- comparing


def _close(arrays: Mapping[str, Any], name: str, ours: torch.Tensor, tolerance: float) -> ParityRow:
    theirs = np.asarray(arrays[name], dtype=np.float64)
    mine = ours.detach().double().cpu().numpy()
    if mine.shape != theirs.shape:
        return ParityRow(name, float("nan"), tolerance, f"shape {mine.shape}, not {theirs.shape}")
    return ParityRow(name, float(np.abs(mine - theirs).max()), tolerance)


def _same_mask(arrays: Mapping[str, Any], name: str, ours: torch.Tensor) -> ParityRow:
    different = float((ours.cpu().numpy() != arrays[name]).mean())
    return ParityRow(name, different, _MASK_SHARE, "share of pixels")


def _frames(array: Any) -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(array)).movedim(-1, -3).float() / 255


def _maps(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(K, cells, C) -> (K, C, h, w)."""
    return x.transpose(1, 2).unflatten(2, (height, width))


def _network(arrays: Mapping[str, Any], *, objects: int) -> STM:
    model = STM(objects=objects).eval()
    seed_weights(model, gain=float(arrays["gain"]))
    with torch.no_grad():
        model.get_parameter("decoder.pred.bias").fill_(float(arrays["pred_bias"]))
    return model


# ------------------------------------------------------------------------------------------- parts


@torch.inference_mode()
def _steps(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """Encoders, memory reads, decoder and aggregation of single frames."""
    model = _network(arrays, objects=2)
    frames = _frames(arrays["frames"])
    padding = Padding.to_multiple(*frames.shape[-2:], multiple=model.stride)
    sides = (padding.left, padding.right, padding.top, padding.bottom)
    yield _close(arrays, "pad", torch.tensor(sides), 0)
    x = padding.apply(model.normalize(frames))
    first, second = (
        aggregate(padding.apply(one_hot(torch.from_numpy(arrays[name]), range(1, 3)))) for name in ("label0", "label2")
    )
    yield _close(arrays, "prob0", first, 1e-4)
    fine, middle, coarse = model.rgb_encoder(x[1:2])
    query = model.encode_query(x[1:2])
    height, width = query.value.shape[-2:]
    yield _close(arrays, "q_f16", coarse, 2e-4)
    yield _close(arrays, "q_f8", middle, 2e-4)
    yield _close(arrays, "q_f4", fine[:, ::4], 2e-4)
    yield _close(arrays, "q_k16", _maps(query.key, height, width), 2e-4)
    yield _close(arrays, "q_v16", query.value, 2e-4)
    key, value = model.encode_memory(x[:1], first[None, 1:])
    unscaled = _maps(key, height, width) * model.key_dim**0.5
    yield _close(arrays, "m_k0", unscaled[:, :, None], 2e-4)
    yield _close(arrays, "m_v0", _maps(value, height, width)[:, :, None], 2e-4)
    later_key, later_value = model.encode_memory(x[2:3], second[None, 1:])
    keys, values = torch.cat([key, later_key], dim=1), torch.cat([value, later_value], dim=1)
    for name, settings in _variants(arrays).items():
        readout = read(
            query.key,
            keys,
            values,
            top_k=settings["top_k"],
            kernel_sigma=settings["kernel_sigma"],
            grid=(height, width),
        )
        yield _close(arrays, f"read_{name}", _maps(readout, height, width), 5e-5)
        if f"logits_{name}" in arrays:
            logits = model.decode(readout, query)
            yield _close(arrays, f"logits_{name}", logits, 2e-4)
            yield _close(arrays, f"agg_{name}", aggregate(torch.sigmoid(logits)), 1e-4)


def _variants(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    top, sigma = int(arrays["top_k"]), float(arrays["km_sigma"])
    return {
        "full": {"top_k": None, "kernel_sigma": None},
        "topk": {"top_k": top, "kernel_sigma": None},
        "km": {"top_k": None, "kernel_sigma": sigma},
        "km_topk": {"top_k": top, "kernel_sigma": sigma},
    }


def _loops(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """The whole video, with each read."""
    model = _network(arrays, objects=2)
    frames, label = _frames(arrays["frames"]), torch.from_numpy(np.array(arrays["label0"]))
    every = int(arrays["mem_freq"])
    for name, settings in _variants(arrays).items():
        segmenter = _Observed(model, memory_every_frames=every, **settings)
        segmenter.init(frames[0], label)
        for frame in frames[1:]:
            segmenter.step(frame)
        truth = segmenter.padding.apply(one_hot(label, range(1, 3)))
        probabilities = torch.stack([aggregate(p) for p in (truth, *segmenter.found)], dim=1)
        masks = segmenter.padding.crop(probabilities.argmax(dim=0))
        yield _same_mask(arrays, f"masks_{name}", masks)
        if f"prob_{name}" in arrays:
            yield _close(arrays, f"prob_{name}", probabilities, 1e-4)
        if f"problast_{name}" in arrays:
            yield _close(arrays, f"problast_{name}", probabilities[:, -1], 1e-4)


class _Observed(STMSegmenter):
    """The segmenter, keeping what it finds in the padded frames."""

    def __init__(self, model: torch.nn.Module, **settings: Any) -> None:
        super().__init__(model, **settings)
        self.found: list[torch.Tensor] = []

    def _segment(self, query: QueryFeatures) -> torch.Tensor:
        self.found.append(super()._segment(query))
        return self.found[-1]


def _correspondence(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """Affinity of two frames and a transferred point."""
    model = _network(arrays, objects=2)
    found = correspond(model, _frames(arrays["corr_src"]), _frames(arrays["corr_tar"]))
    row, column = (int(n) for n in arrays["corr_point"])
    point = torch.zeros(found.grid)
    point[row, column] = 1
    yield _close(arrays, "corr_W", found.weights, 2e-5)
    carried = (point.flatten() @ found.weights).view(point.shape)
    yield _close(arrays, "corr_map16", carried, 2e-5)
    yield _close(arrays, "corr_heat", found.transfer(point), 2e-5)


def _training(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """Clip forward, losses, gradients and one optimizer step, with two objects and with one."""
    for prefix, objects in (("mo", 2), ("so", 1)):
        batch = _training_batch(arrays, objects)
        model = _network(arrays, objects=objects).train()
        logits = model(batch["frames"], batch["masks"], batch["selector"])
        for i in range(2):
            yield _close(arrays, f"{prefix}_logits_{i + 1}", logits[:, i], 2e-4)
        yield from _losses(arrays, prefix, logits.detach(), batch)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, weight_decay=1e-7)
        optimizer.zero_grad()
        train_step(model, batch, iteration=_GRADIENT_ITERATION)["loss"].backward()
        yield _gradients(arrays, prefix, model)
        optimizer.step()
        with torch.no_grad():
            logits = model(batch["frames"], batch["masks"], batch["selector"])
            after = _loss_row(logits, batch, _GRADIENT_ITERATION)
        yield _close(arrays, f"{prefix}_loss_after_step", after, 2e-4)


def _training_batch(arrays: Mapping[str, Any], objects: int) -> Batch:
    labels = torch.from_numpy(np.array(arrays["train_labels"])).long()
    if objects == 1:
        labels = (labels == 1).long()
    selector = torch.from_numpy(np.array(arrays["train_selector"]))[:, :objects]
    ids = torch.arange(1, objects + 1)
    return {
        "frames": _frames(arrays["train_frames"]),
        "masks": (labels[:, :, None] == ids[:, None, None]).float(),
        "labels": labels,
        "selector": selector,
    }


def _losses(arrays: Mapping[str, Any], prefix: str, logits: torch.Tensor, batch: Batch) -> Iterator[ParityRow]:
    iterations = [int(n) for n in arrays[f"{prefix}_loss_its"]]
    found = torch.stack([_loss_row(logits, batch, n) for n in iterations])
    yield _close(arrays, f"{prefix}_loss", found, 1e-4)
    fractions = torch.tensor([_fraction(n) for n in iterations])
    yield _close(arrays, f"{prefix}_p", fractions, 1e-6)


def _fraction(iteration: int) -> float:
    return kept_fraction(iteration, start=20_000, end=70_000, fraction=0.15)


def _loss_row(logits: torch.Tensor, batch: Batch, iteration: int) -> torch.Tensor:
    """Losses of both frames and their sum."""
    losses = frame_losses(logits, batch["labels"][:, 1:], batch["selector"], fraction=_fraction(iteration))
    return torch.stack([*losses, sum(losses, start=torch.zeros(()))])


def _gradients(arrays: Mapping[str, Any], prefix: str, model: STM) -> ParityRow:
    """Largest deviation of a parameter's gradient norm, in units of atol + rtol * |norm|."""
    name = f"{prefix}_grad_norms"
    theirs = dict(zip(arrays[f"{prefix}_grad_names"].tolist(), arrays[name].tolist(), strict=True))
    unit = f"of {_GRADIENT_ATOL:g} + {_GRADIENT_RTOL:g} * norm"
    ours = {key: float(p.grad.norm()) if p.grad is not None else 0.0 for key, p in model.named_parameters()}
    if set(ours) != set(theirs):
        return ParityRow(name, float("nan"), 1.0, "other parameters")
    errors = [abs(ours[key] - norm) / (_GRADIENT_ATOL + _GRADIENT_RTOL * abs(norm)) for key, norm in theirs.items()]
    return ParityRow(name, max(errors), 1.0, unit)


@torch.inference_mode()
def _original(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """The network of ICCV 2019 on the same video."""
    model = OriginalSTM().eval()
    seed_weights(model, gain=float(arrays["gain"]), keep=(".mean", ".std"))
    model.get_parameter("Decoder.pred2.bias").copy_(torch.tensor([1.0, -1.0]))
    frames = _frames(arrays["frames"])[: arrays["orig_masks"].shape[0]]
    segmenter = _Observed(model, top_k=None, memory_every_frames=3)
    mask = torch.from_numpy(np.array(arrays["label0"]))
    segmenter.init(frames[0], mask)
    found = [one_hot(mask, range(3)), *(segmenter.step(frame) for frame in frames[1:])]
    probabilities = torch.stack(found, dim=1)
    logits = segmenter.padding.crop(aggregation_logits(segmenter.found[0]))
    yield _close(arrays, "orig_logit1", logits, 2e-4)
    yield _close(arrays, "orig_prob", probabilities, 1e-4)
    yield _same_mask(arrays, "orig_masks", probabilities.argmax(dim=0))


def _resizing(arrays: Mapping[str, Any]) -> Iterator[ParityRow]:
    """Frame and mask at the evaluation size of YouTube-VOS."""
    frame, labels = _frames(arrays["frames"])[0], torch.from_numpy(np.array(arrays["label0"]))
    size = short_side_size(*labels.shape, short_side_px=int(arrays["resize_lab"].shape[0]))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    yield _close(arrays, "resize_img", resize_frame((frame - mean) / std, size), 1e-4)
    yield _same_mask(arrays, "resize_lab", resize_labels(labels, size))


#: Each part with one array that only it needs: a fixture may hold some of them.
_PARTS = (
    (_steps, "read_full"),
    (_loops, "masks_full"),
    (_correspondence, "corr_W"),
    (_training, "train_frames"),
    (_original, "orig_prob"),
    (_resizing, "resize_img"),
)
