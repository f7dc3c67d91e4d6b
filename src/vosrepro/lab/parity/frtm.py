"""FRTM on key-seeded weights against recorded outputs of the original code.

Full-length runs of the optimizer are chaotic (see the card), so the sharp rows are staged: operators, short
runs, and everything else from recorded inputs. Rows in float64 are our optimizer's reference mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vosrepro.base.types import ParityRow
from vosrepro.lab.parity.fixture import (
    frames,
    relative,
    run_options,
    run_video,
    seeded,
    seeded_network,
    seeded_networks,
    seeded_target,
    stored_views,
)
from vosrepro.methods.frtm.augment import augment_first_frame
from vosrepro.methods.frtm.merging import merged_labels
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.segmenter import FRTMSegmenter
from vosrepro.methods.frtm.solver import gauss_newton_step
from vosrepro.methods.frtm.target import TargetModels, TargetSettings, pixel_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHANNELS = 96


@torch.no_grad()
def parity(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Compare with every array of the fixture that a correct implementation must reproduce.

    Args:
        arrays: golden/frtm.npz.
    """
    rows = []
    for dtype, network in seeded_networks(FRTM, arrays):
        rows += optimizer_rows(arrays, dtype)
        rows += feature_rows(arrays, network, dtype)
        rows += _logit_rows(arrays, network, dtype)
        for scene, code in (("dv", "main"), ("yt", "main"), ("so", "main"), ("ytv", "ytvos")):
            segmenter = FRTMSegmenter(network, code=code, **run_options(dtype))  # type: ignore[arg-type]
            views = {1: "so.o1"} if scene == "so" else stored_views(scene)
            rows += free_run(segmenter, arrays, scene, views, dtype)
    rows += augmentation_rows(arrays, ("dv.o1", "dv.o2", "yt.o2", "so.o1"))
    return rows + _merge_rows(arrays)


def free_run(
    segmenter: Any,
    arrays: Mapping[str, Any],
    scene: str,
    views: Mapping[int, str],
    dtype: str,
    level: str = "",
) -> list[ParityRow]:
    """Segment the fixture's video from seeded target models; see `video_rows`."""
    found = run_video(seeded(segmenter), arrays, scene, views, dtype)
    return video_rows(segmenter, arrays, found, scene, dtype, level)


def optimizer_rows(arrays: Mapping[str, Any], dtype: str) -> list[ParityRow]:
    """Operators at the first point and runs of few iterations."""
    exact = dtype == "float64"
    tight, loose = (1e-6, 1e-5) if exact else (1e-5, 0.1)
    features = torch.from_numpy(arrays["dv.o1.feat_aug"])[None]
    masks = torch.from_numpy(arrays["dv.o1.aug_masks"])[None, :, 0]
    start = seeded_target(features.shape[2], _CHANNELS)
    probe = seeded_target(features.shape[2], _CHANNELS, "probe.")
    found: dict[str, tuple[Any, float]] = {}
    weights = pixel_weights(masks > 0, TargetSettings().hinge)[0, :, None]
    found["st.pixel_weights"] = weights, tight
    for count, tolerance in ((3, tight), (5, loose)):
        problem, point, step = _first_problem(features, masks, start, dtype)
        if count == 3:
            found["st.objective0"] = problem.objective(point)[0], tight
            gradient = problem.linearize(point)
            found |= _named("st.grad", tuple(-g for g in gradient), tight)
            found |= _named("st.Ap", problem.normal(_blocks(probe, point)), tight)
        found |= _named(f"st.gn{count}.", step(count), tolerance, separator="")
    short = _models(dtype, init_iterations=(3, 3), update_iterations=3, capacity=7, every=2)
    short.add(features, masks, [start])
    project, kernel = short.weights()
    found["st.gn33u3.project"] = project[0], tight
    found["st.gn33u3.filter"] = kernel[0], tight
    found |= {k: (v, tight) for k, v in _short_run(arrays, short, dtype).items()}
    long = _models(dtype, init_iterations=(3,), update_iterations=10)
    long.add(features, masks, [start])
    # Ten iterations are at the edge of chaos: correct implementations part by 1.0e-3 in float64.
    found["st.gn3u10.filter"] = long.weights()[1][0], 2e-3 if exact else 0.1
    return [
        ParityRow(f"{name} [{dtype}]", relative(value, arrays[name]), tolerance, "rel")
        for name, (value, tolerance) in found.items()
    ]


def feature_rows(arrays: Mapping[str, Any], network: Any, dtype: str) -> list[ParityRow]:
    """Backbone features of frame 1."""
    features = network.backbone(frames(arrays, dtype)[1:2])
    tolerance = 1e-6 if dtype == "float64" else 5e-6
    return [
        ParityRow(f"feat1.{k} [{dtype}]", relative(v[0], arrays[f"feat1.{k}"]), tolerance, "rel")
        for k, v in features.items()
    ]


def augmentation_rows(arrays: Mapping[str, Any], names: Sequence[str]) -> list[ParityRow]:
    """Our views against the recorded ones; exact with the same major version of OpenCV."""
    rows = []
    for name in names:
        scene, number = name.rsplit(".", 1)
        start = 2 if scene.endswith("yt") and number == "o2" else 0
        labels = arrays["labels"][start]
        mask = labels > 0 if scene == "so" else labels == int(number[1:])
        image = arrays["images"][start].transpose(1, 2, 0)
        views, masks = augment_first_frame(image, mask.astype(np.uint8), views=5, rng=np.random.RandomState(0))
        theirs = arrays[f"{name}.aug_images"].transpose(0, 2, 3, 1).astype(int)
        rows.append(ParityRow(f"{name}.aug_images", abs(views - theirs).mean(), 1.0, "mean abs levels"))
        wrong = (masks != arrays[f"{name}.aug_masks"][:, 0]).mean()
        rows.append(ParityRow(f"{name}.aug_masks", float(wrong), 0.01, "share of pixels"))
    return rows


def video_rows(
    segmenter: FRTMSegmenter,
    arrays: Mapping[str, Any],
    found: Sequence[torch.Tensor],
    prefix: str,
    dtype: str,
    level: str = "",
) -> list[ParityRow]:
    """Free-running results: objective values, memory weights, labels."""
    exact, rows = dtype == "float64", []
    masks = arrays[f"{prefix}.masks"]
    # A free run is not a sharp test: two correct implementations part by percents.
    for name, models in segmenter.targets.items():
        part = f"{name}." if level else ""
        for o in range(segmenter.objects):
            key = f"{prefix}.o{o + 1}.{part}"
            if f"{key}mem_w" in arrays:
                last = arrays[f"{key}mem_w"][-1]
                error = abs(models.samples.gains[o].double().numpy() - last).max()
                rows.append(ParityRow(f"{key}mem_w [{dtype}]", error, 1e-6))
            if f"{key}init_objective" in arrays:
                rows += _objective_rows(models, arrays, key, o, dtype)
    wrong = [(f.numpy() != m).mean() for f, m in zip(found, masks, strict=True)]
    share = float(np.mean(wrong))
    tolerance = 0.05 if exact else 0.10
    return [*rows, ParityRow(f"{prefix}.masks [{dtype}]", share, tolerance, "share of pixels")]


def _objective_rows(
    models: TargetModels, arrays: Mapping[str, Any], key: str, number: int, dtype: str
) -> list[ParityRow]:
    ours = torch.cat([x.double() for x in models.objectives], 1)[:, number].numpy()
    theirs = arrays[f"{key}init_objective"]
    name = f"{key}init_objective"
    last = abs(ours[-1] / theirs[-1] - 1)
    if dtype == "float64":  # the second row is sharper than the first, which the first value dominates
        return [
            ParityRow(f"{name} [{dtype}]", relative(ours, theirs), 1e-2, "rel"),
            ParityRow(f"{name}[-1] [{dtype}]", last, 3e-2, "rel"),
        ]
    # Upstream's own float32 run misses its float64 run by up to 19 % (layer3): no more is asked of ours.
    own = arrays.get(f"f32.{name}", theirs)
    spread = max(0.1, abs(own[-1] / theirs[-1] - 1))
    return [
        ParityRow(f"{name}[0] [{dtype}]", abs(ours[0] / theirs[0] - 1), 1e-6, "rel"),
        ParityRow(f"{name}[1] [{dtype}]", abs(ours[1] / theirs[1] - 1), 0.5, "rel"),
        ParityRow(f"{name}[-1] [{dtype}]", last, spread, "rel"),
    ]


def _logit_rows(arrays: Mapping[str, Any], network: Any, dtype: str) -> list[ParityRow]:
    """Logits from recorded scores, and scores from recorded filters."""
    images, tight = frames(arrays, dtype), dtype == "float64"
    size, worst, score_error = images.shape[-2:], 0.0, 0.0
    for t in range(1, len(images)):
        features = network.backbone(images[t : t + 1])
        theirs = [arrays[f"dv.o{o}.score"][t - 1] for o in (1, 2)]
        score = torch.from_numpy(np.stack(theirs))[:, None].to(images)
        logits = network.refiner(features, [score], size)[:, 0]
        for o in (1, 2):
            worst = max(worst, relative(logits[o - 1], arrays[f"dv.o{o}.logit"][t - 1]))
        models = _models(dtype)
        before = [_filter_before(arrays, f"dv.o{o}", t) for o in (1, 2)]
        projects = torch.from_numpy(np.stack([arrays[f"dv.o{o}.project"] for o in (1, 2)]))
        models.load(projects, torch.from_numpy(np.stack(before)), (score.shape[-2], score.shape[-1]))
        ours = models.score(features["layer4"])
        score_error = max(score_error, relative(ours[:, 0], np.stack(theirs)))
    return [
        ParityRow(f"dv.score from recorded filters [{dtype}]", score_error, 5e-6 if tight else 2e-5, "rel"),
        ParityRow(f"dv.logit from recorded scores [{dtype}]", worst, 1e-5 if tight else 5e-5, "rel"),
    ]


def _merge_rows(arrays: Mapping[str, Any]) -> list[ParityRow]:
    """Labels from recorded logits and sigmoids."""
    wrong = soft_error = 0.0
    for t in range(5):
        logits = np.stack([arrays[f"dv.o{o}.logit"][t] for o in (1, 2)])
        probabilities, soft = merged_labels(torch.sigmoid(torch.from_numpy(logits).double()))
        wrong += float((probabilities.argmax(0).numpy() != arrays["dv.masks"][t + 1]).sum())
        soft_error = max(soft_error, abs(soft.numpy() - arrays["dv.soft"][t][1:]).max())
    once = 0.0
    for t in range(3, 6):
        objects = torch.from_numpy(arrays["ytv.sigmoid"][t]).double()
        labels = merged_labels(objects, twice=False)[0].argmax(0).numpy()
        once += float((labels != arrays["ytv.masks"][t]).sum())
    return [
        ParityRow("dv.masks from recorded logits", wrong, 2, "pixels"),
        ParityRow("dv.soft from recorded logits", float(soft_error), 1e-4),
        ParityRow("ytv.masks from recorded sigmoids", once, 2, "pixels"),
    ]


def _filter_before(arrays: Mapping[str, Any], key: str, t: int) -> np.ndarray:
    return arrays[f"{key}.filter_init"] if t == 1 else arrays[f"{key}.filter"][t - 2]


def _models(dtype: str, **changes: Any) -> TargetModels:
    return TargetModels(TargetSettings(dtype=dtype, **changes))  # type: ignore[arg-type]


def _first_problem(features: torch.Tensor, masks: torch.Tensor, start: Any, dtype: str) -> Any:
    """The joint problem of one object, its first point, and a function that makes one step from it."""
    from vosrepro.methods.frtm.memory import initial_weights
    from vosrepro.methods.frtm.solver import Memory

    models = _models(dtype)
    models._size = (features.shape[-2], features.shape[-1])
    flat = features.flatten(3).to(models.settings.torch_dtype)
    terms = models._terms(masks.to(flat), pixel_weights(masks > 0, models.settings.hinge))
    problem = models._joint(flat, terms, initial_weights(flat.shape[1]).to(flat)[None])
    point = _blocks(start, (flat,))

    def step(iterations: int) -> Any:
        return gauss_newton_step(problem, point, iterations=iterations, memory=Memory(), forget=models.settings.forget)

    return problem, point, step


def _blocks(pair: Any, like: Any) -> tuple[torch.Tensor, torch.Tensor]:
    project, kernel = pair
    taps = kernel[0].flatten(1)[None].flip(-1)
    return project.flatten(1)[None].to(like[0]), taps.to(like[0])


def _named(prefix: str, blocks: Any, tolerance: float, *, separator: str = "_") -> dict[str, tuple[Any, float]]:
    project, taps = blocks
    return {
        f"{prefix}{separator}project": (project[0][..., None, None], tolerance),
        f"{prefix}{separator}filter": (taps.flip(-1).unflatten(-1, (3, 3)), tolerance),
    }


def _short_run(arrays: Mapping[str, Any], models: TargetModels, dtype: str) -> dict[str, np.ndarray]:
    """Five frames with given soft masks and short updates."""
    network = seeded_network(FRTM(), arrays, dtype)
    images, labels = frames(arrays, dtype), torch.from_numpy(arrays["labels"])
    scores, filters, gains = [], [], []
    for t in range(1, len(images)):
        scores.append(models.score(network.backbone(images[t : t + 1])["layer4"])[0, 0].numpy())
        models.update(0.875 * (labels[t : t + 1] == 1).to(images))
        filters.append(models.weights()[1][0].numpy().copy())
        gains.append(models.samples.gains[0].numpy().copy())
    return {
        "st.gn33u3.score": np.stack(scores),
        "st.gn33u3.filter_t": np.stack(filters),
        "st.gn33u3.mem_w": np.stack(gains),
    }
