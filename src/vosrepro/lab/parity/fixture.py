"""The recorded videos of the family: key-seeded networks and target models, and runs on the recorded views."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vosrepro.methods.common.seeded import seeded_tensor
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vosrepro.methods.frtm.model import TargetNetwork
    from vosrepro.methods.frtm.segmenter import FRTMSegmenter


def relative(ours: Any, theirs: Any) -> float:
    """Largest absolute error over the largest absolute reference."""
    a, b = (torch.as_tensor(np.asarray(x)).double() for x in (ours, theirs))
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    return float((a - b).abs().max() / b.abs().max())


def seeded_networks(build: Callable[[], TargetNetwork], arrays: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fixture's network in both precisions, with the name of each."""
    for dtype in ("float64", "float32"):
        yield dtype, seeded_network(build(), arrays, dtype)


def seeded_network(network: TargetNetwork, arrays: Mapping[str, Any], dtype: str) -> Any:
    """Fill a network by its keys as the fixture's weights were, in evaluation mode."""
    meta = json.loads(str(arrays["meta"]))
    gains = {"backbone": meta["backbone_gain"], "refiner": meta["refiner_gain"]}
    state = network.state_dict()
    for key, value in state.items():
        part = key.partition(".")[0]
        name = key.removeprefix("backbone.")
        gain = gains.get(part, meta.get("other_gain", 1.0))
        tensor = seeded_tensor(name, tuple(value.shape), gain=gain)
        if key == "refiner.project.conv2.bias":
            tensor += meta["bias_shift"]
        if key.endswith("transform.0.weight"):
            tensor[:, 64:] *= meta["score_boost"]
        state[key] = tensor
    network.load_state_dict(state)
    return network.to(getattr(torch, dtype)).eval()


def seeded_target(inputs: int, channels: int, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """The fixture's initial target model."""
    shapes = {"project.weight": (channels, inputs, 1, 1), "filter.weight": (1, channels, 3, 3)}
    made = [seeded_tensor(prefix + key, shape, gain=1.0) for key, shape in shapes.items()]
    return made[0], made[1]


def seeded(segmenter: FRTMSegmenter) -> FRTMSegmenter:
    """Let all target models of a segmenter start from the fixture's weights."""
    channels = segmenter.settings.channels

    def initial(level: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [seeded_target(segmenter.model.backbone.channels[level], channels)] * count

    segmenter._initial = initial  # type: ignore[method-assign]
    return segmenter


def frames(arrays: Mapping[str, Any], dtype: str) -> torch.Tensor:
    """(T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(arrays["images"]).to(getattr(torch, dtype)) / 255


def run_options(dtype: str) -> dict[str, Any]:
    """How the fixture's videos were segmented: the memory overflows, and re-training is frequent."""
    return {"memory": 7, "update_every": 2, "dtype": dtype, "record": True}


def stored_views(scene: str, prefix: str = "") -> dict[int, str]:
    """Number of the object -> prefix of its recorded views; object 2 begins late in some scenes."""
    late = scene in ("yt", "ytv")
    return {1: f"{prefix}dv.o1", 2: f"{prefix}{'yt' if late else 'dv'}.o2"}


def run_video(
    segmenter: Any, arrays: Mapping[str, Any], scene: str, views: Mapping[int, str], dtype: str
) -> list[torch.Tensor]:
    """Segment the fixture's video with its stored views; label maps of all frames.

    Args:
        segmenter: a new one, see `seeded`.
        arrays: the fixture.
        scene: "yt" and "ytv" let object 2 begin on frame 2; "so" merges both objects.
        views: number of the object -> prefix of its stored views.
        dtype: of the frames.
    """
    _use_stored_views(segmenter, arrays, views)
    images, labels = frames(arrays, dtype), torch.from_numpy(arrays["labels"])
    labels = (labels > 0).byte() if scene == "so" else labels
    late = scene.rpartition(".")[2] in ("yt", "ytv")
    first = torch.where(labels[0] == 2, 0, labels[0]) if late else labels[0]
    found = [first]
    segmenter.init(images[0], first)
    for t in range(1, len(images)):
        new = torch.where(labels[t] == 2, 2, 0).byte() if late and t == 2 else None
        found.append(segmenter.step(images[t], new).argmax(0).byte())
    return found


def _use_stored_views(segmenter: Any, arrays: Mapping[str, Any], views: Mapping[int, str]) -> None:
    """Give a segmenter the recorded views instead of its own (those of an older OpenCV may differ)."""

    def add(frame: torch.Tensor, masks: torch.Tensor) -> None:
        keys = [views[segmenter.objects + 1 + i] for i in range(len(masks))]
        images = torch.from_numpy(np.stack([arrays[f"{k}.aug_images"] for k in keys]))
        labels = torch.from_numpy(np.stack([arrays[f"{k}.aug_masks"][:, 0] for k in keys]))
        segmenter.add_views(images, labels)
        if isinstance(segmenter, GFRTMSegmenter):
            segmenter.start_gate(frame, masks)

    segmenter._add = add
