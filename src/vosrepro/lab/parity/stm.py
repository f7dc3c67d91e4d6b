"""Our network and loops on key-seeded weights against recorded outputs of the original programs of stm.

Tolerances are those of float32 on a CPU. `one_` and `yv_` are whole groups of their own with their own settings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vosrepro.base.types import Batch
from vosrepro.lab.parity.rules import (
    ABSOLUTE,
    CELLS,
    SHARE,
    ArrayPair,
    Groups,
    Lacks,
    Measure,
    Recording,
    Rule,
    hard,
    informative,
    inputs,
)
from vosrepro.methods.common.aggregation import aggregate, aggregation_logits
from vosrepro.methods.common.masks import one_hot
from vosrepro.methods.common.padding import Padding
from vosrepro.methods.common.resizing import resize_frame, resize_labels, short_side_size
from vosrepro.methods.common.resnet import IMAGENET_MEAN, IMAGENET_STD
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.stm.correspondence import correspond
from vosrepro.methods.stm.memory import read
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.network import QueryFeatures
from vosrepro.methods.stm.original import OriginalSTM
from vosrepro.methods.stm.segmenter import STMSegmenter
from vosrepro.methods.stm.train import frame_losses, kept_fraction, train_step
from vosrepro.training.data import tps

_GRADIENT_ITERATION = 45_000
_GRADIENT_RTOL, _GRADIENT_ATOL = 5e-3, 1e-3
_MASK_SHARE = 2e-4  # of the pixels
_VARIANT = r"(?P<variant>full|topk|km|km_topk)"
_TRAINED = r"(?P<prefix>mo|so)_"


# ------------------------------------------------------------------------------------------- inputs


def _frames(r: Recording, name: str) -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [0, 1]."""
    return r.tensor(name).movedim(-1, -3).float() / 255


def _frame(r: Recording, name: str, index: int) -> torch.Tensor:
    frames = _frames(r, name)
    if index >= len(frames):
        raise Lacks(f"frame {index} of {name}")
    return frames[index]


def _labels(r: Recording, group: str) -> torch.Tensor:
    """The first label map with its ids numbered 1..k, in ascending order; one object in the group `one_`."""
    labels = r[f"{group}label0"]
    if group == "one_":
        return torch.from_numpy((labels > 0).astype(np.uint8))
    return _numbered(labels, np.unique(labels[labels > 0]))


def _numbered(labels: np.ndarray, ids: np.ndarray) -> torch.Tensor:
    """Label map with the k-th of some ids as k, and 0 elsewhere."""
    numbers = np.zeros(labels.shape, np.uint8)
    for number, known in enumerate(ids.tolist(), 1):
        numbers[labels == known] = number
    return torch.from_numpy(numbers)


def _network(r: Recording, *, objects: int) -> STM:
    def make() -> STM:
        model = STM(objects=objects).eval()
        seed_weights(model, gain=r.number("gain"))
        with torch.no_grad():
            model.get_parameter("decoder.pred.bias").fill_(r.number("pred_bias"))
        return model

    return r.once(("network", objects > 1), make)


def _read_settings(r: Recording, variant: str, group: str = "") -> dict[str, Any]:
    return {
        "top_k": int(r.number("top_k", group)) if "topk" in variant else None,
        "kernel_sigma": r.number("km_sigma", group) if "km" in variant else None,
    }


# ---------------------------------------------------------------------------------- single frames


def _padding(r: Recording) -> Padding:
    return Padding.to_multiple(*r["frames"].shape[1:3], multiple=16)


def _padded(r: Recording, index: int) -> torch.Tensor:
    model = _network(r, objects=2)
    return _padding(r).apply(model.normalize(_frame(r, "frames", index)))[None]


def _given(r: Recording, name: str) -> torch.Tensor:
    """Aggregated probabilities of a label map of the video, with the ids of the first."""
    ids = np.unique(r["label0"][r["label0"] > 0])
    labels = _numbered(r[name], ids)
    return aggregate(_padding(r).apply(one_hot(labels, range(1, len(ids) + 1))))


@torch.inference_mode()
def _query(r: Recording) -> dict[str, torch.Tensor]:
    """Features of frame 1."""

    def make() -> dict[str, torch.Tensor]:
        model, x = _network(r, objects=2), _padded(r, 1)
        fine, middle, coarse = model.rgb_encoder(x)
        query = model.encode_query(x)
        found = {"f4": fine, "f8": middle, "f16": coarse, "v16": query.value, "key": query.key}
        return found | {"middle": query.skip_middle, "fine": query.skip_fine}

    return r.once("query", make)


def _features(r: Recording, groups: Groups) -> torch.Tensor:
    """A level of frame 1; the recording may hold every n-th channel."""
    found, size = _query(r), r[f"q_{groups['level']}"].shape
    value = found["v16"]
    value = _maps(found["key"], value) if groups["level"] == "k16" else found[groups["level"]]
    return value[:, :: max(1, value.shape[1] // max(1, size[1]))]


def _maps(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(K, cells, C) -> (K, C, h, w)."""
    return x.transpose(1, 2).unflatten(2, like.shape[-2:])


@torch.inference_mode()
def _remembered(r: Recording, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    def make() -> tuple[torch.Tensor, torch.Tensor]:
        given = _given(r, f"label{frame}")
        return _network(r, objects=2).encode_memory(_padded(r, frame), given[None, 1:])

    return r.once(("memory", frame), make)


def _memory_key(r: Recording, _: Groups) -> torch.Tensor:
    key, model = _remembered(r, 0)[0], _network(r, objects=2)
    height, width = (n // model.stride for n in _padded(r, 0).shape[-2:])
    return (key.transpose(1, 2).unflatten(2, (height, width)) * model.key_dim**0.5)[:, :, None]


def _memory_value(r: Recording, _: Groups) -> torch.Tensor:
    model = _network(r, objects=2)
    height, width = (n // model.stride for n in _padded(r, 0).shape[-2:])
    return _remembered(r, 0)[1].transpose(1, 2).unflatten(2, (height, width))[:, :, None]


@torch.inference_mode()
def _readout(r: Recording, groups: Groups) -> torch.Tensor:
    """(K, cells, C) of frame 1 from the two frames whose labels are recorded."""

    def make() -> torch.Tensor:
        found = _query(r)
        labelled = sorted(int(m["frame"]) for m in r.matches(r"label(?P<frame>\d+)"))
        if len(labelled) < 2:
            raise Lacks("a second label map, such as label2")
        pairs = [_remembered(r, frame) for frame in labelled]
        keys, values = (torch.cat([pair[i] for pair in pairs], dim=1) for i in (0, 1))
        grid = (found["v16"].shape[2], found["v16"].shape[3])
        return read(found["key"], keys, values, grid=grid, **_read_settings(r, groups["variant"]))

    return r.once(("readout", groups["variant"]), make)


def _readout_maps(r: Recording, groups: Groups) -> torch.Tensor:
    return _maps(_readout(r, groups), _query(r)["v16"])


@torch.inference_mode()
def _logits(r: Recording, groups: Groups) -> torch.Tensor:
    found = _query(r)
    query = QueryFeatures(found["key"], found["v16"], found["middle"], found["fine"])
    return _network(r, objects=2).decode(_readout(r, groups), query)


# ------------------------------------------------------------------------------------------ videos


class _Observed(STMSegmenter):
    """The segmenter, keeping what it finds in the padded frames."""

    def __init__(self, model: torch.nn.Module, **settings: Any) -> None:
        super().__init__(model, **settings)
        self.found: list[torch.Tensor] = []

    def _segment(self, query: QueryFeatures) -> torch.Tensor:
        self.found.append(super()._segment(query))
        return self.found[-1]

    @property
    def kept(self) -> torch.Tensor:
        """Aggregated probabilities of the last frame, padded."""
        assert self._pending is not None
        return self._pending.probabilities


def _loop(r: Recording, groups: Groups) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (k + 1, T, h, w) in the padded frames, and label maps."""
    group, variant = groups["group"], groups["variant"]

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        labels, frames = _labels(r, group), _frames(r, f"{group}frames")
        settings = _read_settings(r, variant, group)
        every = int(r.number("mem_freq", group))
        segmenter = _Observed(_network(r, objects=2), memory_every_frames=every, **settings)
        segmenter.init(frames[0], labels)
        for frame in frames[1:]:
            segmenter.step(frame)
        truth = segmenter.padding.apply(one_hot(labels, range(1, int(labels.max()) + 1)))
        probabilities = torch.stack([aggregate(p) for p in (truth, *segmenter.found)], dim=1)
        return probabilities, segmenter.padding.crop(probabilities.argmax(dim=0))

    return r.once(("loop", group, variant), make)


def _loop_masks(r: Recording, groups: Groups) -> Any:
    masks = _loop(r, groups)[1]
    name = f"{groups['group']}masks_{groups['variant']}"
    return ArrayPair(masks, hard(r[name]) if groups["group"] == "one_" else r[name])


def _loop_probabilities(r: Recording, groups: Groups) -> ArrayPair:
    """All frames that are recorded, time first."""
    theirs = r[f"{groups['group']}prob_{groups['variant']}"]
    return ArrayPair(_loop(r, groups)[0].transpose(0, 1), theirs.swapaxes(0, 1))


def _youtube(r: Recording) -> tuple[int, torch.Tensor, torch.Tensor]:
    """First frame, probabilities (T', N + 1, h, w) by ascending id, and label maps (T', H, W) in file ids."""

    def make() -> tuple[int, torch.Tensor, torch.Tensor]:
        frames, given = _frames(r, "yv_frames"), r["yv_gt_masks"]
        order = np.argsort(r["yv_gt_frames"], kind="stable")
        starts = {int(r["yv_gt_frames"][i]): given[i] for i in order}
        ids = np.unique(given[given > 0])
        size = short_side_size(*frames.shape[-2:], short_side_px=int(r["yv_short"]))
        top_k = int(r.number("top_k", "yv_"))
        every = int(r.number("mem_freq", "yv_"))
        segmenter = _Observed(_network(r, objects=2), top_k=top_k, memory_every_frames=every)
        begun: list[int] = []
        first, found, masks = min(starts), [], []
        for t in range(first, len(frames)):
            new = None
            if t in starts:
                fresh = [i for i in np.unique(starts[t]).tolist() if i and i not in begun]
                begun += fresh
                numbered = _numbered(starts[t], np.array(begun))
                new = resize_labels(torch.where(numbered > len(begun) - len(fresh), numbered, 0).byte(), size)
            frame = resize_frame(frames[t], size)
            if t == first:
                assert new is not None
                segmenter.init(frame, new)
                padded = aggregate(segmenter.padding.apply(one_hot(new, range(1, len(begun) + 1))))
            else:
                segmenter.step(frame, new)
                padded = segmenter.kept
            channels = [0, *(1 + int(np.searchsorted(ids, i)) for i in begun)]
            placed = padded.new_zeros(len(ids) + 1, *padded.shape[1:])
            placed[channels] = padded
            found.append(placed)
            inside = segmenter.padding.crop(placed)[None]
            full = torch.nn.functional.interpolate(inside, frames.shape[-2:], mode="bilinear", align_corners=False)[0]
            masks.append(torch.from_numpy(np.concatenate([[0], ids]))[full.argmax(0)])
        return first, torch.stack(found), torch.stack(masks)

    return r.once("youtube", make)


def _youtube_probabilities(r: Recording, _: Groups) -> ArrayPair:
    first, ours, _masks = _youtube(r)
    return ArrayPair(ours, r["yv_prob"].swapaxes(0, 1)[first:])


# ------------------------------------------------------------------------- correspondence, training


def _correspondence(r: Recording) -> Any:
    return r.once(
        "correspondence",
        lambda: correspond(_network(r, objects=2), _frames(r, "corr_src"), _frames(r, "corr_tar")),
    )


def _point(r: Recording) -> torch.Tensor:
    row, column = (int(n) for n in r["corr_point"])
    point = torch.zeros(_correspondence(r).grid)
    point[row, column] = 1
    return point


def _carried(r: Recording, _: Groups) -> torch.Tensor:
    point = _point(r)
    return (point.flatten() @ _correspondence(r).weights).view(point.shape)


def _batch(r: Recording, prefix: str) -> Batch:
    labels, selector = r.tensor("train_labels").long(), r.tensor("train_selector").float()
    objects = 1 if prefix == "so" else selector.shape[1]
    if prefix == "so":
        labels = (labels == 1).long()
    ids = torch.arange(1, objects + 1)
    return {
        "frames": _frames(r, "train_frames"),
        "masks": (labels[:, :, None] == ids[:, None, None]).float(),
        "labels": labels,
        "selector": selector[:, :objects],
    }


def _trained(r: Recording, prefix: str) -> dict[str, Any]:
    """Logits, gradient norms, and the loss after one step."""

    def make() -> dict[str, Any]:
        batch = _batch(r, prefix)
        model = STM(objects=batch["selector"].shape[1]).train()
        seed_weights(model, gain=r.number("gain"))
        with torch.no_grad():
            model.get_parameter("decoder.pred.bias").fill_(r.number("pred_bias"))
            logits = model(batch["frames"], batch["masks"], batch["selector"])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, weight_decay=1e-7)
        optimizer.zero_grad()
        train_step(model, batch, iteration=_GRADIENT_ITERATION)["loss"].backward()
        norms = {k: float(p.grad.norm()) if p.grad is not None else 0.0 for k, p in model.named_parameters()}
        optimizer.step()
        with torch.no_grad():
            after = model(batch["frames"], batch["masks"], batch["selector"])
        return {"logits": logits, "norms": norms, "after": _losses(after, batch, _GRADIENT_ITERATION), "batch": batch}

    return r.once(("trained", prefix), make)


def _fraction(iteration: int) -> float:
    return kept_fraction(iteration, start=20_000, end=70_000, fraction=0.15)


def _losses(logits: torch.Tensor, batch: Batch, iteration: int) -> torch.Tensor:
    """Losses of the frames and their sum."""
    losses = frame_losses(logits, batch["labels"][:, 1:], batch["selector"], fraction=_fraction(iteration))
    return torch.stack([*losses, sum(losses, start=torch.zeros(()))])


def _training_logits(r: Recording, groups: Groups) -> torch.Tensor:
    index = int(groups["frame"]) - 1
    logits = _trained(r, groups["prefix"])["logits"]
    if index >= logits.shape[1]:
        raise Lacks(f"frame {index + 1} of train_frames")
    return logits[:, index]


def _training_losses(r: Recording, groups: Groups) -> torch.Tensor:
    made = _trained(r, groups["prefix"])
    iterations = r[f"{groups['prefix']}_loss_its"].tolist()
    return torch.stack([_losses(made["logits"], made["batch"], int(n)) for n in iterations])


def _gradient_names(r: Recording, groups: Groups) -> ArrayPair:
    """How many names only one of both has."""
    theirs = set(r[f"{groups['prefix']}_grad_names"].tolist())
    return ArrayPair(np.array([len(theirs ^ set(_trained(r, groups["prefix"])["norms"]))]), np.zeros(1))


def _gradient_norms(r: Recording, groups: Groups) -> list[float]:
    norms = _trained(r, groups["prefix"])["norms"]
    return [norms[name] for name in r[f"{groups['prefix']}_grad_names"].tolist()]


def _gradient_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((np.abs(ours - theirs) / (_GRADIENT_ATOL + _GRADIENT_RTOL * np.abs(theirs))).max())


_GRADIENTS = Measure(f"of {_GRADIENT_ATOL:g} + {_GRADIENT_RTOL:g} * norm", _gradient_error)


# --------------------------------------------------------------------------- STM of 2019, and resizing


@torch.inference_mode()
def _original(r: Recording) -> dict[str, torch.Tensor]:
    """The network of ICCV 2019 on the same video."""

    def make() -> dict[str, torch.Tensor]:
        model = OriginalSTM().eval()
        seed_weights(model, gain=r.number("gain", "orig_"), keep=(".mean", ".std"))
        model.get_parameter("Decoder.pred2.bias").copy_(torch.tensor([1.0, -1.0]))
        labels, frames = _labels(r, ""), _frames(r, "frames")
        segmenter = _Observed(model, top_k=None, memory_every_frames=int(r.number("mem_freq", "orig_")))
        segmenter.init(frames[0], labels)
        first = one_hot(labels, range(int(labels.max()) + 1))
        found = torch.stack([first, *(segmenter.step(frame) for frame in frames[1:])])
        made = {"prob": found, "masks": found.argmax(dim=1)}
        if segmenter.found:
            made["logit1"] = segmenter.padding.crop(aggregation_logits(segmenter.found[0]))
        return made

    return r.once("original", make)


def _original_logits(r: Recording, _: Groups) -> torch.Tensor:
    found = _original(r)
    if "logit1" not in found:
        raise Lacks("frame 1 of frames")
    return found["logit1"][: len(r["orig_logit1"])]


def _original_probabilities(r: Recording, _: Groups) -> ArrayPair:
    """Time first; the recording shows the first few channels."""
    theirs = r["orig_prob"].swapaxes(0, 1)
    return ArrayPair(_original(r)["prob"][:, : theirs.shape[1]], theirs)


def _resized(r: Recording, groups: Groups) -> torch.Tensor:
    """Frame and mask at the evaluation size of YouTube-VOS."""
    frame = _frame(r, "frames", 0)
    short = min(r[f"resize_{groups['what']}"].shape[-2:])
    size = short_side_size(*frame.shape[-2:], short_side_px=short)
    if groups["what"] == "lab":
        return resize_labels(r.tensor("label0"), size)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return resize_frame((frame - mean) / std, size)


def _warp(r: Recording, groups: Groups) -> Any:
    height, width = r[f"tps_map{groups['axis']}"].shape
    maps = tps.warp_maps(r["tps_src"], r["tps_dst"], height, width)
    return maps[groups["axis"] == "y"]


_LOOP = r"(?P<group>|one_)"

#: Sharp rows are single frames; loops follow, whose errors do not grow either.
RULES: tuple[Rule, ...] = (
    *inputs(
        r"(one_|yv_)?frames",
        r"(one_)?label\d+",
        r"(one_|yv_|orig_)?(mem_freq|top_k|km_sigma)",
        r"(orig_)?gain|pred_bias",
        r"yv_(gt_frames|gt_masks|short)",
        r"corr_(src|tar|point)",
        r"train_(frames|labels|selector)",
        rf"{_TRAINED}loss_its",
        r"tps_(src|dst)",
    ),
    *informative(r"torch_version|numpy_version|opencv_version|meta"),
    Rule(r"pad", lambda r, _: [(p := _padding(r)).left, p.right, p.top, p.bottom], 0, needs=("frames",)),
    Rule(r"prob0", lambda r, _: _given(r, "label0"), 1e-4, needs=("frames", "label0")),
    Rule(r"q_(?P<level>f16|f8|f4|k16|v16)", _features, 2e-4, needs=("frames",)),
    Rule(r"m_k0", _memory_key, 2e-4, needs=("frames", "label0")),
    Rule(r"m_v0", _memory_value, 2e-4, needs=("frames", "label0")),
    Rule(rf"read_{_VARIANT}", _readout_maps, 5e-5, needs=("frames", "label0")),
    Rule(rf"logits_{_VARIANT}", _logits, 2e-4, needs=("frames", "label0")),
    Rule(rf"agg_{_VARIANT}", lambda r, g: aggregate(torch.sigmoid(_logits(r, g))), 1e-4, needs=("frames", "label0")),
    Rule(r"corr_W", lambda r, _: _correspondence(r).weights, 2e-5),
    Rule(r"corr_map16", _carried, 2e-5),
    Rule(r"corr_heat", lambda r, _: _correspondence(r).transfer(_point(r)), 2e-5),
    Rule(r"resize_(?P<what>img)", _resized, 1e-4, needs=("frames",)),
    Rule(r"resize_(?P<what>lab)", _resized, _MASK_SHARE, SHARE, needs=("frames", "label0")),
    Rule(r"tps_map(?P<axis>x|y)", _warp, 1e-3, needs=("tps_src", "tps_dst")),
    Rule(rf"{_TRAINED}logits_(?P<frame>\d+)", _training_logits, 2e-4),
    Rule(rf"{_TRAINED}loss", _training_losses, 1e-4),
    Rule(rf"{_TRAINED}p", lambda r, g: [_fraction(int(n)) for n in r[f"{g['prefix']}_loss_its"]], 1e-6),
    Rule(rf"{_TRAINED}grad_names", _gradient_names, 0, CELLS),
    Rule(rf"{_TRAINED}grad_norms", _gradient_norms, 1, _GRADIENTS),
    Rule(rf"{_TRAINED}loss_after_step", lambda r, g: _trained(r, g["prefix"])["after"], 2e-4),
    Rule(rf"{_LOOP}prob_{_VARIANT}", _loop_probabilities, 1e-4, series=True, late=True),
    Rule(rf"{_LOOP}problast_{_VARIANT}", lambda r, g: _loop(r, g)[0][:, -1], 1e-4, late=True),
    Rule(rf"{_LOOP}masks_{_VARIANT}", _loop_masks, _MASK_SHARE, SHARE, series=True, late=True),
    Rule(r"yv_min_idx", lambda r, _: min(r["yv_gt_frames"]), 0, ABSOLUTE),
    Rule(r"yv_prob", _youtube_probabilities, 1e-4, series=True, late=True),
    Rule(
        r"yv_out",
        lambda r, _: ArrayPair((found := _youtube(r))[2], r["yv_out"][found[0] :]),
        _MASK_SHARE,
        SHARE,
        series=True,
        late=True,
    ),
    Rule(r"orig_logit1", _original_logits, 2e-4, late=True),
    Rule(r"orig_prob", _original_probabilities, 1e-4, series=True, late=True),
    Rule(r"orig_masks", lambda r, _: _original(r)["masks"], _MASK_SHARE, SHARE, series=True, late=True),
)
