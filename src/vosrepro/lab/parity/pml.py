"""Our code against recorded outputs of the original: network, loss, search, adaptation, solver.

The tolerances are those of float64; where a table only makes sense for equal decisions, the row counts differing
cells. Two labels with an even number of neighbours may tie: the seed gives such a cell to the background; recordings
of adaptation and of several objects, for which there is no original, may follow either rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vosrepro.lab.parity.rules import (
    CELLS,
    RELATIVE,
    ArrayPair,
    Groups,
    Measure,
    Recording,
    Rule,
    hard,
    informative,
    inputs,
)
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.pml.bilateral import BilateralGrid, Solution, bilateral_filter, solve
from vosrepro.methods.pml.cells import to_pixels
from vosrepro.methods.pml.loss import triplet_loss, usable_labels
from vosrepro.methods.pml.model import PML
from vosrepro.methods.pml.pool import Adaptation, ReferencePool
from vosrepro.methods.pml.refine import Refinement
from vosrepro.methods.pml.search import Neighbors, label_similarity, nearest_cells
from vosrepro.methods.pml.votes import Ties, hard_vote

_NOT_ADAPTED = 0
_TIES: tuple[Ties, ...] = ("background", "nearest")
_BINARY = 2


# ------------------------------------------------------------------------------------------ network


def _network(r: Recording, *, training: bool) -> PML:
    def make() -> PML:
        with torch.random.fork_rng(devices=[]):
            model = PML(head="seed", coords="zero", channel_order="rgb", norm="live")
        seed_weights(model, gain=r.number("net_gain"))
        return model.double().train(training)

    return r.once(("network", training), make)


@torch.no_grad()
def _stages(r: Recording) -> dict[str, torch.Tensor]:
    return r.once(
        "stages",
        lambda: _network(r, training=False).base_extractor.stages(r.tensor("net_image").double()),
    )


def _activation(r: Recording, g: Groups) -> ArrayPair:
    """The first channels, in units of the root mean square of all."""
    theirs = r[f"net_act_{g['stage']}"]
    scale = float(r[f"net_rms_{g['stage']}"])
    return ArrayPair(_stages(r)[g["stage"]][0, : len(theirs)] / scale, theirs / scale)


@torch.no_grad()
def _embedding(r: Recording, g: Groups) -> torch.Tensor:
    model = _network(r, training=False)
    model.coords = "ij" if g["coords"] == "frac" else "zero"
    found = model.head(_stages(r)["layer4"])
    return found[0] if r[f"net_emb_{g['coords']}"].ndim == found.ndim - 1 else found


def _fractions(r: Recording, _: Groups) -> np.ndarray:
    height, width = r["net_coord_frac"].shape[1:]
    i, j = np.mgrid[:height, :width]
    return np.stack([i / height, j / width])


@torch.no_grad()
def _trained(r: Recording) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings in training mode, and the running statistics after that one pass."""

    def make() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = _network(r, training=True)
        embedded = model.embed(r.tensor("net_tr_image").double())
        norm = model.get_submodule("base_extractor.layer4.2.bn2")
        return embedded, {name: getattr(norm, name) for name in ("running_mean", "running_var")}

    return r.once("trained", make)


# --------------------------------------------------------------------------------------------- loss


def _loss(r: Recording, g: Groups) -> torch.Tensor:
    sampled = g["sampled"]

    def make() -> dict[str, torch.Tensor]:
        labels = torch.from_numpy(r["loss_ann"] > 0).long().flatten(1)
        width = r["loss_ann"].shape[2]
        frames = r.tensor("loss_emb").double().requires_grad_(True)
        cells = frames.flatten(2).transpose(1, 2)
        pool, pool_labels = cells[1:].flatten(0, 1), labels[1:].flatten()
        anchors = {label: (labels[0] == label).nonzero()[:, 0] for label in usable_labels(labels[0], pool_labels)}
        if sampled:
            for label, name in enumerate(("bg", "fg")):
                yx = torch.from_numpy(r[f"loss_anchor_{name}_yx"].astype(np.int64))
                anchors[label] = yx[:, 0] * width + yx[:, 1]
        margin = r.number("alpha", f"loss_{sampled}") if f"loss_{sampled}alpha" in r else float(r["loss_alpha"])
        loss, parts, _ = triplet_loss(cells[0], labels[0], pool, pool_labels, anchors, margin=margin)
        loss.backward()
        assert frames.grad is not None
        return {"total": loss.detach(), "fg": parts[1].detach(), "bg": parts[0].detach(), "grad": frames.grad}

    return r.once(("loss", sampled), make)[g["what"]]


# ------------------------------------------------------------------------------- search, adaptation


def _reference(r: Recording) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, pool = r.tensor("knn_cur").double(), r.tensor("knn_ref").double()
    return query, pool, torch.from_numpy(r["knn_ref_label"].astype(np.int64)).flatten()


def _nearest(r: Recording) -> Neighbors:
    query, pool, _ = _reference(r)
    return r.once("nearest", lambda: nearest_cells(query, pool, int(r["knn_K"])))


def _votes(r: Recording, g: Groups) -> ArrayPair:
    """Labels of the nearest cells by majority; the mask is the seed's rule for one object."""
    theirs = r[f"knn_{g['vote']}"]
    labels = _reference(r)[2]
    if g["vote"] == "mask":
        return ArrayPair(hard_vote((labels[_nearest(r).index] > 0).long(), _BINARY)[0], hard(theirs).ravel())
    k = int(g["k"] or r["knn_K"])
    count, index = int(labels.max()) + 1, _nearest(r).index[:, :k]
    found = [hard_vote(labels[index], count, ties=ties)[0] for ties in _TIES]
    return ArrayPair(_fitting(found, theirs.ravel()), theirs.ravel())


def _fitting(made: list[torch.Tensor], theirs: np.ndarray) -> torch.Tensor:
    """Of ours by both rules for ties, what differs less."""
    return min(made, key=lambda ours: (ours.numpy() != theirs).sum() if ours.shape == theirs.shape else np.inf)


def _best(r: Recording, _: Groups) -> torch.Tensor:
    query, pool, labels = _reference(r)
    return label_similarity(query, pool, labels, count=r["knn_label_max"].shape[1])


def _adapted(r: Recording, g: Groups) -> Any:
    """Labels, cells that joined, and pool sizes; a tie of two labels by the rule that fits the recording better."""
    suffix, what = g.get("suffix", ""), g["what"]

    def make() -> dict[str, Any]:
        made = [_adaptation(r, suffix, ties) for ties in _TIES]
        if f"ad_labels{suffix}" not in r:
            return made[0]
        best = _fitting([m["labels"] for m in made], r[f"ad_labels{suffix}"])
        return next(m for m in made if m["labels"] is best)

    return r.once(("adapted", suffix), make)[what]


@torch.no_grad()
def _adaptation(r: Recording, suffix: str, ties: Ties) -> dict[str, Any]:
    frames = int(r["ad_max_frames"]) if not suffix else _NOT_ADAPTED
    rule = Adaptation()
    if frames:
        limits = {"agree": int(r["ad_agree"]), "max_distance2": float(r["ad_max_d2"]), "stride": int(r["ad_stride"])}
        rule = Adaptation(max_frames=frames, **limits)
    pool = ReferencePool(int(r["ad_K"]), rule, ties=ties)
    labels = torch.from_numpy(r["ad_ref_label"].astype(np.int64)).flatten()
    fractions = torch.nn.functional.one_hot(labels).double()
    pool.give(r.tensor("ad_ref").double(), fractions)
    found: dict[str, list[Any]] = {"labels": [], "added": [], "pool_sizes": []}
    for frame in r.tensor("ad_frames").double():
        found["pool_sizes"].append(len(pool))
        answer = pool.ask(frame)
        found["labels"].append(answer.labels)
        found["added"].append(pool.adapt(frame, answer))
    return {k: np.array(v) if k == "pool_sizes" else torch.stack(v) for k, v in found.items()}


# ------------------------------------------------------------------------------------------- solver


def _setting(r: Recording, g: Groups, name: str) -> np.ndarray:
    """The group's own array, or the one of all groups."""
    own = f"bs_{g['name']}_{name}"
    return r[own if own in r else f"bs_{name}"]


def _grid(r: Recording, g: Groups) -> BilateralGrid:
    spatial, luma, chroma = (float(v) for v in _setting(r, g, "grid"))
    image = torch.from_numpy(np.array(_setting(r, g, "image")))
    return r.once(("grid", g["name"]), lambda: BilateralGrid(image, spatial_px=spatial, luma=luma, chroma=chroma))


def _confidence(r: Recording, g: Groups) -> torch.Tensor:
    return torch.from_numpy(np.array(_setting(r, g, "c")))


def _target(r: Recording, g: Groups) -> torch.Tensor:
    return torch.from_numpy(np.array(_setting(r, g, "t")))[None]


def _solved(r: Recording, g: Groups) -> Solution:
    smoothness, diagonal_min, tolerance, iterations = (float(v) for v in _setting(r, g, "params"))
    return r.once(
        ("solved", g["name"]),
        lambda: solve(
            _grid(r, g),
            _target(r, g),
            _confidence(r, g),
            smoothness=smoothness,
            diagonal_min=diagonal_min,
            tolerance=tolerance,
            max_iterations=int(iterations),
        ),
    )


def _vertices(what: str) -> Callable[[Recording, Groups], torch.Tensor]:
    """A value of all vertices, in the order of the recordings."""

    def make(r: Recording, g: Groups) -> torch.Tensor:
        grid = _grid(r, g)
        if what != "Adiag":
            return getattr(grid, what)[grid.place]
        smoothness = float(_setting(r, g, "params")[0])
        return (smoothness * (grid.m - 10 * grid.n.square()) + grid.splat(_confidence(r, g).flatten()))[grid.place]

    return make


def _exact(r: Recording, g: Groups) -> torch.Tensor:
    """The solution of the system itself, which the iterations only approach."""
    grid, confidence, target = _grid(r, g), _confidence(r, g).flatten(), _target(r, g)
    smoothness = float(_setting(r, g, "params")[0])
    trust = grid.splat(confidence)
    smooth = torch.diag(grid.m) - grid.n[:, None] * grid._blur.to_dense() * grid.n[None]
    right = grid.splat(target.flatten() * confidence)
    return grid.slice(torch.linalg.solve(smoothness * smooth + torch.diag(trust), right)).view(target.shape[1:])


def _upsampled(r: Recording) -> torch.Tensor:
    low = r.tensor("bs_low").double()[None]
    height, width = r["bs_image"].shape[:2]
    return to_pixels(low, (height, width), geometry="half-pixel", cell_px=8)


def _mask(r: Recording, g: Groups) -> ArrayPair:
    """The seed's whole post-processing, from the coarse mask to the final one; "03" in the name is 0.3."""
    spatial, luma, chroma = (float(v) for v in _setting(r, g, "grid"))
    smoothness, _, _, iterations = (float(v) for v in _setting(r, g, "params"))
    digits = g["threshold"]
    settings = Refinement(
        kind="solver",
        threshold=float(f"{digits[0]}.{digits[1:]}"),
        rescale_by_max=True,
        confidence=float(_setting(r, g, "c").flat[0]),
        smoothness=smoothness,
        max_iterations=int(iterations),
        spatial_px=spatial,
        luma=luma,
        chroma=chroma,
    )
    frame = torch.from_numpy(np.array(_setting(r, g, "image"))).permute(2, 0, 1).double() / 255
    mask = settings.apply(frame, _upsampled(r)).argmax(0)
    return ArrayPair(mask, hard(r[f"bs_{g['name']}_mask{digits}"]))


_BS = r"bs_(?P<name>(?!up$|low$|image$|grid$|params$|t$|c$)\w+?)_"
_ITERATIONS = Measure("iterations", lambda a, b: float(np.abs(a - b).max()))
_VERTICES = Measure("vertices", lambda a, b: float(np.abs(a - b).max()))
_RMS = Measure("max abs / rms", lambda a, b: float(np.abs(a - b).max()), lambda _, half: half)

RULES: tuple[Rule, ...] = (
    *inputs(
        r"net_(gain|image|tr_image|rms_\w+)",
        r"loss_(emb|ann|(s_)?alpha|anchor_(fg|bg)_yx)",
        r"knn_(ref|ref_label|cur|cur_shape|K)",
        r"ad_(ref|ref_label|frames|K|agree|max_frames|stride|max_d2)",
        r"bs_(\w+_)?(image|grid|params|t|c)|bs_low",
    ),
    *informative(r"meta|\w+_version"),
    Rule(r"net_coord_frac", _fractions, 1e-12),
    Rule(r"net_act_(?P<stage>maxpool|layer[1-4])", _activation, 1e-9, _RMS),
    Rule(
        r"net_rms_(?P<stage>maxpool|layer[1-4])",
        lambda r, g: _stages(r)[g["stage"]].square().mean().sqrt(),
        1e-9,
        RELATIVE,
    ),
    Rule(r"net_emb_(?P<coords>zero|frac)", _embedding, 1e-9),
    Rule(r"net_tr_emb", lambda r, _: _trained(r)[0], 1e-8),
    Rule(r"net_tr_l4_2_bn2_(?P<what>running_mean|running_var)", lambda r, g: _trained(r)[1][g["what"]], 1e-8),
    Rule(r"loss_(?P<sampled>s_|)(?P<what>total|fg|bg|grad)", _loss, 1e-10),
    Rule(r"knn_idx", lambda r, _: _nearest(r).index, 0, CELLS),
    Rule(r"knn_d2", lambda r, _: _nearest(r).distance2, 1e-6),
    Rule(r"knn_(?P<vote>mask|multi(_k(?P<k>\d+))?)", _votes, 0, CELLS),
    Rule(r"knn_label_max", _best, 1e-6),
    Rule(r"ad_(?P<what>labels)(?P<suffix>_off|)", _adapted, 0, CELLS),
    Rule(r"ad_(?P<what>added)", _adapted, 0, CELLS),
    Rule(r"ad_(?P<what>pool_sizes)", _adapted, 0, Measure("sizes differ", CELLS.error)),
    Rule(r"bs_up", lambda r, _: _upsampled(r)[0], 1e-6),
    Rule(rf"{_BS}nvertices", lambda r, g: _grid(r, g).vertices, 2, _VERTICES),
    Rule(rf"{_BS}n", _vertices("n"), 1e-9, RELATIVE),
    Rule(rf"{_BS}m", _vertices("m"), 1e-9, RELATIVE),
    Rule(rf"{_BS}Adiag", _vertices("Adiag"), 1e-9, RELATIVE),
    Rule(rf"{_BS}iters", lambda r, g: _solved(r, g).iterations, 0, _ITERATIONS),
    # The seed's confidence makes a system that amplifies rounding a hundred times more.
    Rule(r"bs_(?P<name>unit)_out", lambda r, g: _solved(r, g).values[0], 1e-9, RELATIVE),
    Rule(r"bs_(?P<name>(?!unit_)\w+)_out", lambda r, g: _solved(r, g).values[0], 1e-7, RELATIVE),
    Rule(rf"{_BS}exact", _exact, 1e-6, RELATIVE),
    Rule(rf"{_BS}filter", lambda r, g: bilateral_filter(_grid(r, g), _target(r, g))[0], 1e-9, RELATIVE),
    Rule(rf"{_BS}mask(?P<threshold>\d\d+)", _mask, 2, CELLS),
)
