"""Speed and memory of a method's online part, with random weights on a generated video.

  vosrepro bench infer --method stm --size 480x854 --frames 50 --objects 2 --precision bf16 --device cuda

Frames lie on the device before the clock starts; labels come back to the host at the end. Needs torch,
torchvision, numpy, opencv and pydantic only; with PyYAML and params/ it knows variants and sizes by name. As rows
for `vosrepro plan`: --recipe s012 --variant top50 --write --note "other jobs shared the cores"
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import ConfigError
from vosrepro.base.machine import computes_bf16, device_name, hardware, peak_memory, pick_device
from vosrepro.base.targets import Place
from vosrepro.base.types import Previewing, without_start_weights
from vosrepro.inference.clock import FrameClock, FrameTime, summarize
from vosrepro.methods import get_method
from vosrepro.methods.common.precision import resolve_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from vosrepro.base.types import Method, Segmenter
    from vosrepro.study.params import MethodSize

_COMPARED = 3  # frames of --against-cpu: errors of later ones are mostly those of earlier masks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    add = parser.add_argument
    add("--method", required=True)
    add("--size", type=size_argument, default=(480, 854), help="HEIGHTxWIDTH (default: 480x854)")
    add("--frames", type=int, default=50, help="frames of the video (default: %(default)s)")
    add("--objects", type=int, default=1, help="objects in the first frame (default: %(default)s)")
    add("--precision", choices=("fp32", "bf16", "fp16", "auto"), default="fp32")
    add("--tf32", action="store_true", help="let convolutions and products round to TF32 (CUDA)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, help="CPU threads of torch (default: its own choice)")
    add("--variant", help="inference settings by name, from params/methods/<method>.yaml")
    add("--set", action="append", default=[], metavar="KEY=JSON", help="change an inference setting")
    add("--network", default="full", help="size of the network in params/ (default: %(default)s)")
    add("--model", action="append", default=[], metavar="KEY=JSON", help="change the network")
    add("--recipe", help="the recipe of that size whose network it is (default: the size's)")
    add(
        "--write",
        type=Place,
        nargs="?",
        const="params/throughput.csv",
        metavar="CSV",
        help="put rows into params/throughput.csv; wants --recipe and --variant",
    )
    add("--note", default="", help="circumstances, for the rows' source")
    add("--no-preview", action="store_true", help="hide the frames ahead from the method")
    add("--plain", action="store_true", help="also run the method's plain form, without shortcuts, if it has one")
    add(
        "--ceiling",
        action="store_true",
        help="count the products of a frame; compare their rate with one large product's",
    )
    add(
        "--against-cpu",
        action="store_true",
        help="compare the probabilities of the first frames with those of the CPU in fp32",
    )
    add("--warmup", type=int, default=None, help="frames before measuring (default: 10 on CUDA, 2)")
    add("--rounds", type=int, default=1, help="videos to measure (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.write and not (args.recipe and args.variant):
        raise ConfigError("--write needs --recipe and --variant: rows of the file are named by them")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    _set_backend(device, tf32=args.tf32)
    method = get_method(args.method)
    network, settings = _parameters(args)
    if args.precision == "auto":
        args.precision = resolve_precision(method, "auto", native=computes_bf16(device))
    video, mask = generated_video(args.frames, args.size, objects=args.objects, device=device)
    model = _model(method, network, args.precision, device)

    def fast() -> Segmenter:
        return method.segmenter(model, **settings)

    result = {"optimized": measure(fast, video, mask, args, preview=not args.no_preview)}
    if args.ceiling:
        result["optimized"] |= _ceiling(fast, video, mask, args, result["optimized"]["fps_steady"])
    if args.against_cpu:
        cpu = torch.device("cpu")
        reference = method.segmenter(_model(method, network, "fp32", cpu), **settings)
        result["optimized"] |= _differences(fast(), reference, video[:_COMPARED], mask)
    if args.plain:
        plain = _plain(method)
        base = _base_model(method, network, device)
        if args.precision != "fp32" and base is not None:
            base = base.to({"bf16": torch.bfloat16, "fp16": torch.float16}[args.precision])
        again = measure(lambda: plain(base, **settings), video, mask, args, preview=False)
        result["plain"] = again
    facts = _facts(args, device, settings)
    print(json.dumps({**facts, **result}, indent=1) if args.json else _table(facts, result))
    if args.write:
        _write(args, facts, result["optimized"])
    return 0


def generated_video(
    frames: int, size: tuple[int, int], *, objects: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """A drifting texture and a label map with `objects` upright rectangles.

    Returns:
        float32 (T, 3, H, W) in [0, 1] and uint8 (H, W), on the device.
    """
    height, width = size
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(3, height, width, generator=generator)
    shifts = range(frames)
    video = torch.stack([texture.roll((s, 2 * s), dims=(1, 2)) for s in shifts])
    mask = torch.zeros(height, width, dtype=torch.uint8)
    column = width // objects
    for i in range(objects):
        left = i * column + column // 4
        mask[height // 4 : 3 * height // 4, left : left + max(1, column // 2)] = i + 1
    return video.to(device), mask.to(device)


def measure(
    make: Callable[[], Segmenter],
    video: torch.Tensor,
    mask: torch.Tensor,
    args: argparse.Namespace,
    *,
    preview: bool,
) -> dict[str, Any]:
    """Segment the video `args.rounds` times after a warm-up.

    Returns:
        `summarize`'s figures, total wall seconds, memory, and a digest of the label maps.
    """
    device = video.device
    height, width = mask.shape
    warmup = args.warmup if args.warmup is not None else (10 if device.type == "cuda" else 2)
    if warmup:
        _pass(make(), video[: warmup + 1], mask, None, preview=preview)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[FrameTime] = []
    begin = time.perf_counter()
    labels = torch.empty(0)
    for number in range(args.rounds):
        clock = FrameClock(device)
        labels = _pass(make(), video, mask, clock, preview=preview).cpu()
        for i, seconds in enumerate(clock.seconds()):
            kind = "init" if i == 0 else "step"
            name = f"{i:05d}"
            times.append(FrameTime(f"round-{number}", name, kind, args.objects, height, width, seconds))
    wall = time.perf_counter() - begin
    foreground = float((labels > 0).float().mean()) if labels.numel() else 0.0
    return {
        **summarize(times),
        "fps_wall": len(times) / wall,
        "wall_seconds": wall,
        "foreground_share": foreground,
        **peak_memory(device),
    }


@torch.inference_mode()
def _pass(
    segmenter: Segmenter,
    video: torch.Tensor,
    mask: torch.Tensor,
    clock: FrameClock | None,
    *,
    preview: bool,
) -> torch.Tensor:
    """Labels (T - 1, H, W) of all later frames."""
    labels = []
    for i, frame in enumerate(video):
        if clock is not None:
            clock.start()
        if i == 0:
            if preview and isinstance(segmenter, Previewing):
                segmenter.preview(video)
            segmenter.init(frame, mask)
        else:
            labels.append(segmenter.step(frame).argmax(dim=0).to(torch.uint8))
        if clock is not None:
            clock.stop()
    return torch.stack(labels) if labels else mask[None]


def _differences(ours: Segmenter, reference: Segmenter, video: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """How far the probabilities of a segmenter are from those of one on the CPU, which sees the same frames."""
    found, expected = _probabilities(ours, video, mask), _probabilities(reference, video.cpu(), mask.cpu())
    errors = (found - expected).abs()
    return {
        "largest_error": float(errors.max()),
        "mean_error": float(errors.mean()),
        "equal_labels_share": float((found.argmax(dim=1) == expected.argmax(dim=1)).float().mean()),
    }


@torch.inference_mode()
def _probabilities(segmenter: Segmenter, video: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    segmenter.init(video[0], mask)
    return torch.stack([segmenter.step(frame).float().cpu() for frame in video[1:]])


def _ceiling(
    make: Callable[[], Segmenter], video: torch.Tensor, mask: torch.Tensor, args: argparse.Namespace, fps: float
) -> dict[str, float]:
    # A bare GPU machine, where videos are only timed, lacks what counting imports.
    from vosrepro.lab.ceiling import ceiling

    if args.frames < 2:
        raise ConfigError("--ceiling is that of later frames: say --frames 2 or more")
    return ceiling(make, video, mask, args.precision, fps)


def _parameters(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the network and of the segmenter."""
    network: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    try:
        from vosrepro.base.errors import pick
        from vosrepro.study.params import load_method
    except ModuleNotFoundError as error:
        if args.variant or args.network != "full":
            raise ConfigError(
                f"names of variants and sizes need {error.name}: install it, or use --set and --model"
            ) from error
    else:
        params = None
        try:
            params = load_method(args.method)
        except ConfigError:
            if args.variant or args.network != "full":
                raise
        if params is not None:
            where = f"method '{args.method}'"
            size = None
            if args.network in params.sizes or args.network != "full" or args.recipe:
                size = pick(params.sizes, args.network, what="size", where=where)
                network = _network(size, args.recipe, where=f"{where}, size '{args.network}'")
            if args.variant:
                settings = dict(pick(params.variants, args.variant, what="variant", where=where))
                settings |= size.variants.get(args.variant, {}) if size else {}
    return {**network, **_pairs(args.model)}, {**settings, **_pairs(args.set)}


def _network(size: MethodSize, recipe: str | None, *, where: str) -> dict[str, Any]:
    """Arguments of a network that starts from random weights."""
    from vosrepro.base.errors import pick

    if recipe is None:
        return without_start_weights(size.model)
    return without_start_weights(size.model_of(pick(size.recipes, recipe, what="recipe", where=where)))


def _write(args: argparse.Namespace, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    """Rows of first and of later frames."""
    from vosrepro.costs.rates import RATE_COLUMNS, RATE_PLACE, machine_name, put_rows

    gpus = int(facts["device"] != "cpu")
    threads = "" if gpus else f", {facts['threads']} threads"
    source = f"vosrepro bench infer, {args.frames} frames of {facts['size']}, {facts['precision']}{threads}"
    base = {
        "method": args.method,
        "size": args.network,
        "name": f"{args.recipe}/{args.variant}",
        "objects": args.objects,
        "machine": machine_name(hardware(), gpus=gpus),
        "gpus": gpus,
        "source": "; ".join(filter(None, (source, args.note))),
    }
    rates = {"init": 1 / figures["init_seconds_mean"], "infer": figures["fps_steady"]}
    rows = [{**base, "kind": k, "samples_per_second": f"{r:.4g}"} for k, r in rates.items()]
    put_rows(args.write, RATE_COLUMNS, rows, same=RATE_PLACE)


def _model(method: Method, network: dict[str, Any], precision: str, device: torch.device) -> nn.Module | None:
    model = _base_model(method, network, device)
    if model is not None and method.prepare is not None:
        return method.prepare(model, precision=precision)
    if precision != "fp32":
        raise ConfigError(f"method '{method.name}' runs in fp32 only: drop --precision {precision}")
    return model


def _base_model(method: Method, network: dict[str, Any], device: torch.device) -> nn.Module | None:
    if method.build is None:
        return None
    torch.manual_seed(0)
    return method.build(**network).to(device).eval()


def _plain(method: Method) -> Callable[..., Segmenter]:
    from vosrepro.lab.parity import get_plain

    plain = get_plain(method.name)
    if plain is None:
        raise ConfigError(f"method '{method.name}' has no plain form to compare with: drop --plain")
    return plain


def _set_backend(device: torch.device, *, tf32: bool) -> None:
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32


def _facts(args: argparse.Namespace, device: torch.device, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": args.method,
        "size": "x".join(str(n) for n in args.size),
        "frames": args.frames,
        "objects": args.objects,
        "precision": args.precision + (" (tf32)" if args.tf32 else ""),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "settings": settings,
        "torch": torch.__version__,
    }


def _table(facts: dict[str, Any], result: dict[str, dict[str, Any]]) -> str:
    lines = ["  ".join(f"{key} {value}" for key, value in facts.items() if value != {})]
    names = [
        "fps_amortised",
        "fps_steady",
        "fps_wall",
        "init_seconds_mean",
        "latency_median_ms",
        "latency_p95_ms",
        "peak_rss_mb",
        "peak_gpu_allocated_mb",
        "peak_gpu_reserved_mb",
        "gflop_per_frame",
        "gflops",
        "gflops_ceiling",
        "share_of_ceiling",
    ]
    lines.append(f"{'':<22}" + "".join(f"{form:>12}" for form in result))
    for name in names:
        values = [figures.get(name) for figures in result.values()]
        if any(value is not None for value in values):
            cells = "".join("-".rjust(12) if v is None else f"{v:>12.3f}" for v in values)
            lines.append(f"{name:<22}{cells}")
    if "plain" in result:
        ratio = result["optimized"]["fps_steady"] / result["plain"]["fps_steady"]
        lines.append(f"{'speed-up (steady)':<22}{ratio:>12.2f}")
    return "\n".join(lines)


def size_argument(text: str) -> tuple[int, int]:
    """Height and width of a HEIGHTxWIDTH argument."""
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH, e.g. 480x854") from error


def _pairs(texts: list[str]) -> dict[str, Any]:
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"'{text}' is not KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found
