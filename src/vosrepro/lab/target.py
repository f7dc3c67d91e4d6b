"""Target models: the folded, batched optimizer beside the published arithmetic, and what the reuse gate gains.

  solver   initialization of K objects and one update of a full memory: all objects at once on folded terms; one
           after the other on folded terms; one after the other with residuals at image size and double backward
           passes, as published. The same iterations; a short run must reach the same objective.
  video    frames per second of FRTM on a generated video: ours, and object by object with the published
           arithmetic. Random weights; initialization included.
  gate     frames per second of G-FRTM where nothing is reused and where a fixed share is, with both arithmetics.

One round of each way in turn, the best round counts. Values of the objective are printed, for full-length runs
part by percents between correct implementations (see the card of frtm).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from vosrepro.base.errors import VosreproError
from vosrepro.base.machine import device_name, pick_device
from vosrepro.lab.infer import generated_video, size_argument
from vosrepro.lab.timing import seconds, show
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.prepare import prepare
from vosrepro.methods.frtm.segmenter import FRTMSegmenter
from vosrepro.methods.frtm.target import TargetModels, TargetSettings, initial_target
from vosrepro.methods.gfrtm.model import GFRTM, Gate
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter

#: Beyond the third iteration of a run rounding decides (frtm card).
_STABLE = {"init_iterations": (3, 3), "update_iterations": 3}
_INPUTS = {"resnet10": 256, "resnet18": 256, "resnet101": 1024}
_VIEWS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    add = parser.add_argument
    add("part", nargs="?", choices=("all", "solver", "video", "gate"), default="all")
    add("--size", type=size_argument, default=(480, 854), help="HEIGHTxWIDTH (default: 480x854)")
    add("--objects", type=int, nargs="+", default=[1, 3], help="(default: 1 3)")
    add("--frames", type=int, default=50, help="of the video (default: %(default)s)")
    add("--backbone", choices=sorted(_INPUTS), default="resnet18", help="(default: %(default)s)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the optimizer")
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network")
    add("--reuse", type=float, default=0.5, help="share of reused frames (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    add("--repeat", type=int, default=1, help="rounds (%(default)s)")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    tables: dict[str, list[dict[str, Any]]] = {}
    for objects in args.objects:
        options = {"size": args.size, "objects": objects, "device": device, "repeat": args.repeat}
        video = {**options, "frames": args.frames, "backbone": args.backbone, "precision": args.precision}
        if args.part in ("all", "solver"):
            rows = solver_table(inputs=_INPUTS[args.backbone], dtype=args.dtype, **options)
            tables[f"optimizer, {objects} objects"] = rows
        if args.part in ("all", "video"):
            tables[f"FRTM, {objects} objects"] = video_table(**video)
        if args.part in ("all", "gate"):
            tables[f"G-FRTM, {objects} objects"] = gate_table(reuse=args.reuse, **video)
    facts = {"device": device_name(device), "size": "x".join(map(str, args.size)), "torch": torch.__version__}
    facts |= {k: getattr(args, k) for k in ("backbone", "dtype", "precision", "threads", "frames")}
    if args.json:
        sys.stdout.write(json.dumps({**facts, "tables": tables}, indent=1) + "\n")
        return 0
    sys.stdout.write("  ".join(f"{k} {v}" for k, v in facts.items()) + "\n")
    for title, rows in tables.items():
        show(f"\n{title}", rows)
    return 0


# -------------------------------------------------------------------------------------- optimizer


def solver_table(  # noqa: PLR0913, options by name
    *,
    size: tuple[int, int],
    objects: int,
    device: torch.device,
    repeat: int = 1,
    inputs: int = 256,
    dtype: str = "float32",
    samples: int = 80,
    settings: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Seconds of initialization and update, and the objective before the last step, of every way.

    Args:
        size: of the frames; score maps have a sixteenth of it.
        objects: how many.
        device: where.
        repeat: rounds; the best counts.
        inputs: channels of the backbone level.
        dtype: of the optimizer.
        samples: in the memory at the update.
        settings: overrides of `TargetSettings`.

    Raises:
        VosreproError: if the ways disagree about the objective of a short run.
    """
    problem = _Problem(size, objects, inputs, samples, device)
    base = {"dtype": dtype, "capacity": max(samples, _VIEWS), **(settings or {})}
    ways = {
        "folded, all objects at once": ("folded", [list(range(objects))]),
        "folded, one by one": ("folded", [[o] for o in range(objects)]),
        "autograd at image size, one by one": ("autograd", [[o] for o in range(objects)]),
    }
    rows = [{"way": way, "init_s": float("inf"), "update_s": float("inf")} for way in ways]
    for _ in range(repeat):
        for row, (backend, groups) in zip(rows, ways.values(), strict=True):
            made = partial(TargetSettings, backend=backend, **base)
            row["_short"] = problem.solve(made(**_STABLE), groups)[2].tolist()  # warms up, too
            init, update, values = problem.solve(made(), groups)
            row["init_s"] = min(row["init_s"], init)
            row["update_s"] = min(row["update_s"], update)
            row["objective_first"], row["objective_last"] = values[0].item(), values[-1].item()
    _agree(rows, tolerance=1e-6 if dtype == "float64" else 1e-4)
    for row in rows:
        for part in ("init", "update"):
            row[f"{part}_speed_up"] = rows[-1][f"{part}_s"] / row[f"{part}_s"]
        row.pop("_short")
    return rows


class _Problem:
    """Features and masks of K objects, the same for every way."""

    def __init__(
        self,
        size: tuple[int, int],
        objects: int,
        inputs: int,
        samples: int,
        device: torch.device,
    ) -> None:
        g = torch.Generator().manual_seed(0)
        low = (-(-size[0] // 16), -(-size[1] // 16))
        smooth = torch.randn(_VIEWS, inputs, *low, generator=g).relu()
        self._features = smooth.expand(objects, -1, -1, -1, -1).to(device)
        mask = generated_video(1, size, objects=objects, device=torch.device("cpu"))[1]
        each = torch.stack([(mask == o + 1).byte() for o in range(objects)])
        shifts = range(0, 8 * _VIEWS, 8)
        self._masks = torch.stack([each.roll(s, -1) for s in shifts], 1).to(device)
        self._initial = [
            initial_target(inputs, TargetSettings().channels, torch.Generator().manual_seed(0)) for _ in range(objects)
        ]
        self._samples, self._device = samples, device

    @torch.inference_mode()
    def solve(self, settings: TargetSettings, groups: list[list[int]]) -> tuple[float, float, torch.Tensor]:
        """Seconds of initialization and of one update, and the objective before each step, summed over objects."""
        spent, again, values = 0.0, 0.0, []
        for group in groups:
            models = TargetModels(settings, record=True)
            initial = [self._initial[o] for o in group]
            features, masks = self._features[group], self._masks[group]
            spent += seconds(lambda: models.add(features, masks, initial), self._device)  # noqa: B023
            values.append(models.objectives[0].double().sum(1))
            again += self._update(models, group)
        return spent, again, torch.stack(values).sum(0)

    def _update(self, models: TargetModels, group: list[int]) -> float:
        soft = self._masks[group, 0].float() * 0.9
        frame = self._features[:1, 1]
        every = models.settings.every
        filled = models.samples.count
        for number in range(filled, self._samples):
            models.tracked = [0] * len(group)  # no re-training while the memory fills
            models.score(frame * (1 + number / 1000))
            models.update(soft)
        models.tracked = [every - 1] * len(group)
        models.score(frame)
        return seconds(lambda: models.update(soft), self._device)


def _agree(rows: list[dict[str, Any]], *, tolerance: float) -> None:
    wanted = rows[-1]["_short"]
    for row in rows:
        pairs = zip(row["_short"], wanted, strict=True)
        error = max(abs(a - b) / abs(b) for a, b in pairs)
        if not error <= tolerance:
            raise VosreproError(
                f"'{row['way']}' and '{rows[-1]['way']}' differ by {error:.1e} in the objective of a short "
                f"run, where at most {tolerance:.0e} is rounding: the optimizer is broken on this device"
            )


# ------------------------------------------------------------------------------------ whole videos


class ObjectByObject(FRTMSegmenter):
    """FRTM as published: autograd at image size, and target models and network for one object at a time."""

    def __init__(self, model: FRTM, **options: Any) -> None:
        """See `FRTMSegmenter`."""
        super().__init__(model, backend="autograd", **options)

    def add_views(self, views: torch.Tensor, labels: torch.Tensor) -> None:
        """See `FRTMSegmenter.add_views`."""
        for i in range(len(views)):
            super().add_views(views[i : i + 1], labels[i : i + 1])

    def _probabilities(self, frame: torch.Tensor) -> torch.Tensor:
        features = self.model.backbone(frame[None])
        found, target = [], self.targets["layer4"]
        current = []
        assert self._size is not None
        for row in range(self.objects):
            score = target.score(features["layer4"], [row])
            current.append(target.current)  # what `_update` stores
            found.append(self.model.refiner(features, [score], self._size)[:, 0])
        self._current = current
        return torch.sigmoid(torch.cat(found).to(frame.dtype))

    def _update(self, soft: torch.Tensor) -> None:
        for row in range(len(soft)):
            self.targets["layer4"].current = self._current[row]
            self.targets["layer4"].update(soft[row : row + 1], [row])


class ForcedGate(GFRTMSegmenter):
    """Reuses a fixed share of the frames, whatever the gate says, which is computed all the same."""

    def __init__(self, model: GFRTM, *, reuse: float, **options: Any) -> None:
        """See `GFRTMSegmenter`; `reuse` is the share."""
        super().__init__(model, tau=1.0, **options)
        self._share, self._due = reuse, 0.0

    def _decide(self, gate: Gate) -> list[bool]:
        decided = super()._decide(gate)  # pays for the wait
        self._due += self._share
        reuse = self._due >= 1 - 1e-9
        self._due -= reuse
        return [reuse] * len(decided)


def video_table(**options: Any) -> list[dict[str, Any]]:
    """Frames per second of FRTM, ours and object by object with the published arithmetic."""
    network = _network(FRTM, options)
    ways = {
        "ours": partial(FRTMSegmenter, network),
        "object by object, autograd": partial(ObjectByObject, network),
    }
    return _videos(ways, base="object by object, autograd", **options)


def gate_table(*, reuse: float, **options: Any) -> list[dict[str, Any]]:
    """Frames per second of G-FRTM with and without reuse, for both arithmetics; the first row is FRTM."""
    network = _network(GFRTM, options)
    ways: dict[str, Callable[[], Any]] = {"FRTM fast, folded": partial(FRTMSegmenter, network, fast=True)}
    for backend in ("folded", "autograd"):
        ways[f"no reuse, {backend}"] = partial(ForcedGate, network, reuse=0.0, backend=backend)
        ways[f"reuse {reuse:.0%}, {backend}"] = partial(ForcedGate, network, reuse=reuse, backend=backend)
    rows = _videos(ways, base="FRTM fast, folded", **options)
    for index in (2, 4):
        gain = rows[index]["fps_steady"] / rows[index - 1]["fps_steady"]
        rows[index]["gain_of_reuse"] = gain
    return rows


def _network(build: Callable[..., Any], options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    network = build(backbone=options["backbone"]).to(options["device"])
    return prepare(network, precision=options["precision"])


def _videos(
    ways: dict[str, Callable[[], Any]],
    *,
    base: str,
    size: tuple[int, int],
    objects: int,
    frames: int,
    device: torch.device,
    repeat: int,
    **_: Any,
) -> list[dict[str, Any]]:
    video, mask = generated_video(frames, size, objects=objects, device=device)
    rows = {way: {"init_s": float("inf"), "step_s": float("inf")} for way in ways}
    for number in range(repeat + 1):  # the first round warms up
        for way, make in ways.items():
            length = frames if number else min(frames, 3)
            init, steps = _pass(make(), video[:length], mask)
            if number:
                rows[way]["init_s"] = min(rows[way]["init_s"], init)
                rows[way]["step_s"] = min(rows[way]["step_s"], steps)
    made = []
    for way, row in rows.items():
        fps = frames / (row["init_s"] + row["step_s"])
        steady = (frames - 1) / row["step_s"]
        made.append({"way": way, "init_s": row["init_s"], "fps": fps, "fps_steady": steady})
    reference = next(row for row in made if row["way"] == base)
    for row in made:
        row["speed_up"] = row["fps"] / reference["fps"]
    return made


@torch.inference_mode()
def _pass(segmenter: Any, video: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
    """Seconds of the first frame and of all others."""

    def others() -> None:
        for frame in video[1:]:
            segmenter.step(frame)

    init = seconds(lambda: segmenter.init(video[0], mask), video.device)
    return init, seconds(others, video.device)
