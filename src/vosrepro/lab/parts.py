"""Parts: all regions and correlations at once beside a loop over parts, pasting, frames, and classification.

Both ways of a table run in turn in one process, the best round of each counts, and their results are asserted to
be equal before anything is printed. Without a GPU figures are CPU seconds of this process.

  match     features -> search regions -> correlation of all parts of all objects, against one part at a time
  paste     part masks joined in a frame by matrix products, against frame-sized maps of every part
  frame     a whole step of the segmenter at 480p, 1 and 3 objects
  classify  training steps of stage 0 on decoded images, and the loader's images per second on one core
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vosrepro.lab.timing import fastest, show
from vosrepro.methods.parts.combine import combine_parts, paste
from vosrepro.methods.parts.matching import correlate
from vosrepro.methods.parts.model import PartsNet
from vosrepro.methods.parts.segmenter import PartsSegmenter
from vosrepro.study.params import OptimizerParams
from vosrepro.training.optimize import Optimizer

_TABLES = ("match", "paste", "frame", "classify")
_MINI = {"parts": 27, "width": 32, "template": 7, "search": 15}
_LARGE = {"parts": 50, "width": 64, "template": 7, "search": 15}
_FULL = {"parts": 50, "width": 256, "template": 15, "search": 31}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and where."""
    parser.add_argument("part", nargs="?", choices=("all", *_TABLES), default="all")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the best counts (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--size", choices=("mini", "full"), default="mini", help="network of `frame` and `classify` (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=0, help="images of a step of `classify` (16, full: 256)")
    parser.add_argument("--parts", type=int, default=8, help="parts per object in `frame` (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    chosen = _TABLES if args.part == "all" else (args.part,)
    if "match" in chosen:
        for name, shape in (("mini", _MINI), ("50 parts", _LARGE), *([("full", _FULL)] * (device.type == "cuda"))):
            show(f"match, {name}: {shape}", match_table(device, repeat=args.repeat, **shape))
    if "paste" in chosen:
        show("paste of 50 parts, 480 x 854", paste_table(device, repeat=args.repeat))
    if "frame" in chosen:
        rows = frame_table(device, size=args.size, parts=args.parts, precision=args.precision, repeat=args.repeat)
        show(f"frame at 480 x 854, {args.size}, {args.precision}", rows)
    if "classify" in chosen:
        rows = classify_table(device, size=args.size, batch=args.batch, precision=args.precision, repeat=args.repeat)
        show(f"classification, {args.size}, {args.precision}", rows)
    return 0


def match_table(
    device: torch.device, *, parts: int, width: int, template: int, search: int, repeat: int = 5
) -> list[dict[str, Any]]:
    """Seconds of search and correlation, at once and one part at a time, with equal outputs.

    "a crop per part" is what the seed does: the features of a crop around each part. It computes something
    else (crops end at their border) and is shown for its cost only.
    """
    generator = torch.Generator().manual_seed(0)
    net = PartsNet(width=width, template=template, search=search).eval().to(device)
    maps = [torch.randn(1, width, 128 // s, 224 // s, generator=generator).to(device) for s in net.strides]
    place = torch.rand(parts, 3, generator=generator).to(device)
    place = place * place.new_tensor([224.0, 128.0, 18.0]) + place.new_tensor([0.0, 0.0, 12.0])
    z = torch.randn(parts, width, template, template, generator=generator).to(device)
    level = net.track_level(place[:, 2])
    image = torch.zeros(parts, dtype=torch.int64, device=device)

    def together() -> torch.Tensor:
        return correlate(z, net.searches(maps, place, image, level))

    def one_by_one() -> torch.Tensor:
        pieces = ((slice(i, i + 1), z[i : i + 1]) for i in range(parts))
        return torch.cat([correlate(t, net.searches(maps, place[s], image[s], level[s])) for s, t in pieces])

    def only_correlate() -> torch.Tensor:
        return correlate(z, regions)

    def correlate_one_by_one() -> torch.Tensor:
        return torch.cat([correlate(z[i : i + 1], regions[i : i + 1]) for i in range(parts)])

    def crops() -> torch.Tensor:
        crop = torch.zeros(1, 3, 128, 128, device=device)
        return torch.stack([net.pyramid(crop)[0].sum() for _ in range(parts)])

    with torch.inference_mode():
        regions = net.searches(maps, place, image, level)
        assert torch.allclose(together(), one_by_one(), rtol=1e-4, atol=1e-4)
        assert torch.allclose(only_correlate(), correlate_one_by_one(), rtol=1e-4, atol=1e-4)
        both = {"at once": together, "part by part": one_by_one, "a crop per part": crops}
        alone = {
            "correlation at once": only_correlate,
            "correlation part by part": correlate_one_by_one,
        }
        return [*_faster(fastest(both, repeat, device)), *_faster(fastest(alone, repeat, device))]


def paste_table(device: torch.device, *, parts: int = 50, repeat: int = 5) -> list[dict[str, Any]]:
    """Seconds of the weighted mean of part masks in a 480p frame, with results equal to 1e-5."""
    generator = torch.Generator().manual_seed(0)
    size = (480, 854)
    values = torch.rand(parts, 28, 28, generator=generator).to(device)
    weight = torch.rand(parts, generator=generator).to(device)
    corner = torch.rand(parts, 2, generator=generator) * torch.tensor([700.0, 380.0])
    side = 40 + 80 * torch.rand(parts, 1, generator=generator)
    boxes = torch.cat([corner, corner + side], dim=1).to(device)

    def products() -> torch.Tensor:
        return combine_parts(values, weight, boxes, size)[0]

    def frames() -> torch.Tensor:
        maps, covered = paste(values, boxes, size)
        total = (maps * weight[:, None, None]).sum(0)
        return total / (covered * weight[:, None, None]).sum(0).clamp_min(1e-12)

    assert torch.allclose(products(), frames(), atol=1e-5)
    return _faster(fastest({"products": products, "frame-sized maps": frames}, repeat, device))


def frame_table(
    device: torch.device, *, size: str, parts: int, precision: str, repeat: int = 5
) -> list[dict[str, Any]]:
    """Seconds of a step of the segmenter on noise, with 1 and 3 objects."""
    torch.manual_seed(0)
    net = _network(size).eval().to(device)
    frames = torch.rand(2, 3, 480, 854).to(device)
    rows = []
    for objects in (1, 3):
        mask = torch.zeros(480, 854, dtype=torch.uint8)
        for i in range(objects):
            mask[120:360, 60 + 260 * i : 260 + 260 * i] = i + 1
        settings = {"limit": parts, "refresh_every": 0, "failure": {"enabled": False}}
        segmenter = PartsSegmenter(net, precision=precision, **settings)  # type: ignore[arg-type]
        with torch.inference_mode():
            segmenter.init(frames[0], mask.to(device))
            found = fastest({f"{objects} objects": lambda s=segmenter: s.step(frames[1])}, repeat, device)
        rows += [{**row, "parts": len(segmenter.parts), "fps": 1 / row["seconds"]} for row in found]
    return rows


def classify_table(
    device: torch.device, *, size: str, batch: int, precision: str, repeat: int = 5
) -> list[dict[str, Any]]:
    """Images per second of training steps on decoded images, and of decoding and cropping on one core."""
    side = 64 if size == "mini" else 224
    batch = batch or (16 if size == "mini" else 256)
    torch.manual_seed(0)
    net = _network(size, task="classify").to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    params = OptimizerParams(name="sgd", lr=1e-6, weight_decay=1e-4)
    optimizer = Optimizer(params, net.named_parameters())
    frames = torch.rand(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    classes = torch.randint(0, 10, (batch,), device=device)

    def step() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(net(frames), classes)
        loss.backward()
        optimizer.step(params.lr)
        optimizer.zero_grad()
        return loss.detach()

    rows = fastest({"training step": step}, repeat, device, calls=10 if device.type == "cuda" else 1)
    rows[0]["images_per_second"] = batch / rows[0]["seconds"]
    loading = fastest({"decode and crop 500 x 375": _loading(side)}, repeat, torch.device("cpu"))
    loading[0]["images_per_second"] = 8 / loading[0]["seconds"]
    return rows + loading


def _loading(side: int) -> Callable[[], None]:
    """Decodes and crops 8 JPEGs of ImageNet's usual size."""
    import cv2

    from vosrepro.training.data.images import random_crop

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    def load() -> None:
        import io

        from PIL import Image

        for _ in range(8):
            decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            random_crop(decoded, (side, side), rng, smallest=0.1)

    return load


def _network(size: str, *, task: Any = "segment") -> PartsNet:
    if size == "mini":
        return PartsNet(task=task)
    return PartsNet(
        task=task,
        backbone="resnet50v2",
        width=256,
        template=15,
        search=31,
        trunk="global",
        classes=1000,
    )


def _faster(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with how much longer each takes than the first."""
    return [{**row, "times_the_first": row["seconds"] / rows[0]["seconds"]} for row in rows]
