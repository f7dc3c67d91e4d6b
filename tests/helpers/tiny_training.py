"""A method of a few hundred weights and a data set of a few blobs, for tests of the training loop.

Also a program: `python tiny_training.py '{"steps": 10, ...}'` trains in the current folder, as one rank or
under torchrun; `begin` does so in a process that another has started.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vosrepro import datasets
from vosrepro.base import extensions
from vosrepro.base.types import Method
from vosrepro.methods import REGISTRY
from vosrepro.study.params import DataParams, SelectionParams, StageParams, Study
from vosrepro.study.paths import data_manifest
from vosrepro.study.plan import StageNode
from vosrepro.study.records import DataManifest

STUDY = Study(
    study="tiny",
    title="tiny",
    size="mini",
    data=DataParams(root="data"),
    selection=SelectionParams(sequences=()),
    entries=(),
)
HEIGHT, WIDTH = 20, 30


@dataclass(frozen=True)
class FakeVideo:
    name: str
    frames: tuple[Path, ...]
    annotations: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeImage:
    name: str
    image: Path
    mask: Path


def fake_videos(set_name: str, data: Any, *, exclude: Any = ()) -> list[FakeVideo]:
    videos = []
    for v in range(5):
        names = [f"{t:05d}" for t in range(6)]
        frames = tuple(Path(f"v{v}/{n}.jpg") for n in names)
        videos.append(FakeVideo(f"v{v}", frames, {n: Path(f"v{v}/{n}.png") for n in names}))
    return [v for v in videos if v.name not in exclude]


def _place(path: Path) -> tuple[int, int]:
    return int(path.parent.name[1:]), int(path.stem)


def fake_labels(video: FakeVideo, frame: str) -> np.ndarray:
    v, t = _place(video.annotations[frame])
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4 + v : 10 + v, 3 + 2 * t : 11 + 2 * t] = 1
    labels[12:17, 18 - t : 25 - t] = 2
    return labels


def fake_frame(path: Path) -> np.ndarray:
    v, t = _place(path)
    rng = np.random.default_rng([v, t])
    frame = rng.integers(60, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    video = fake_videos("any", None)[v]
    frame[fake_labels(video, path.stem) > 0] += 100
    return frame


class TinyNet(nn.Module):
    """Two convolutions per frame; stage "b" has one more output channel that transfer must add."""

    def __init__(self, width: int = 4, objects: int = 2, norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.second = nn.Conv2d(width, objects + 1, 3, padding=1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        b, t = frames.shape[:2]
        y = self.second(self.dropout(F.relu(self.norm(self.first(frames.flatten(0, 1))))))
        return y.unflatten(0, (b, t))


def train_step(
    model: nn.Module,
    batch: Mapping[str, torch.Tensor],
    *,
    iteration: int,
    nan_at: int = -1,
    slow_s: float = 0.0,
    dropout: bool = True,
    skip_from: int | None = None,
) -> dict[str, torch.Tensor]:
    _shoot(iteration)
    if slow_s:
        time.sleep(slow_s)
    if not dropout:
        next(m for m in model.modules() if isinstance(m, nn.Dropout)).eval()
    logits = model(batch["frames"])
    loss = F.cross_entropy(logits.transpose(1, 2), batch["labels"])
    if iteration == nan_at:
        loss = loss * float("nan")
    values = {"loss": loss, "iou": (logits.argmax(2) == batch["labels"]).float().mean()}
    if skip_from is not None:
        values["skipped"] = torch.tensor(float(iteration >= skip_from))
    return values


def shoot_at(step: int, number: signal.Signals) -> None:
    """Let this folder's next training receive a signal while it computes step `step`, once."""
    Path("shot.json").write_text(json.dumps([step, int(number)]))


def _shoot(iteration: int) -> None:
    shot = Path("shot.json")
    try:
        step, number = json.loads(shot.read_text())
        if step != iteration:
            return
        shot.rename("shot.done.json")
    except FileNotFoundError:  # nobody shoots, or another process was hit at this moment
        return
    os.kill(os.getpid(), number)


def transfer(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    wanted = model.second.weight.shape[0] - state["second.weight"].shape[0]
    if wanted:
        extra = torch.randn(wanted, *state["second.weight"].shape[1:])
        state["second.weight"] = torch.cat([state["second.weight"], extra])
        state["second.bias"] = torch.cat([state["second.bias"], torch.zeros(wanted)])
    return state


METHOD = Method(
    name="tiny",
    summary="For tests.",
    segmenter=lambda model: None,  # type: ignore[arg-type,return-value]
    build=TinyNet,
    train_step=train_step,
    transfer=transfer,
)


def stage(**changes: Any) -> StageParams:
    """Stage parameters; keys of `StageParams`, and "loss" options directly."""
    value: dict[str, Any] = {
        "title": "tiny",
        "data": [{"set": "davis17-train"}],
        "clips": {"kind": "video", "size_px": [16, 16], "augment": "mini-video"},
        "batch_size": 4,
        "steps": 10,
        "optimizer": {"name": "adam", "lr": 0.01},
        "checkpoint_every_steps": 5,
        "log_every_steps": 3,
    }
    return StageParams.model_validate({**value, **changes})


def node(
    params: StageParams,
    *,
    name: str = "a",
    parent: StageNode | None = None,
    seed: int = 0,
    **model: Any,
) -> StageNode:
    digest = f"{name}{params.model_dump_json()}{model}{seed}{parent.digest if parent else ''}"
    return StageNode("tiny", "tiny", "r", seed, name, params, model, digest, parent)


def install(monkeypatch: Any = None) -> None:
    """Register the method and put the fake data set in place of the real ones."""
    patch = setattr if monkeypatch is None else lambda o, n, v: monkeypatch.setattr(o, n, v, raising=False)
    if monkeypatch is None:
        REGISTRY["tiny"] = "tiny_training:METHOD"
    else:
        monkeypatch.setitem(REGISTRY, "tiny", "tiny_training:METHOD")
    patch(extensions, "foreign_methods", lambda: {"tiny": "tiny_training:METHOD"})
    patch(datasets, "training_videos", fake_videos)
    patch(datasets, "read_frame", fake_frame)
    patch(datasets, "read_annotation", fake_labels)
    DataManifest(digest="0123").write(data_manifest("tiny"))


def main() -> int:
    """Train with the stage parameters of the first argument; other options in "train"."""
    from vosrepro.base.errors import VosreproError
    from vosrepro.training.loop import train

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    options = json.loads(sys.argv[1])
    model = options.pop("model", {})
    install()
    try:
        train(node(stage(**options), **model), STUDY, device="cpu", threads=1)
    except VosreproError as error:
        print(f"vosrepro: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def begin(folder: Path, log: Path, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Be that program, from a process with torch loaded; what it says goes to `log`."""
    os.chdir(folder)
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv[1:] = [json.dumps(options)]
    sys.exit(main())


if __name__ == "__main__":
    sys.modules["tiny_training"] = sys.modules["__main__"]
    sys.exit(main())
