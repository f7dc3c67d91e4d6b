"""What a network takes for the same place in two frames, as a heat map over the second.

  vosrepro correspond first.jpg later.jpg --weights stm.safetensors --point 120,80 --out heat.png
  vosrepro correspond first.jpg later.jpg --weights stm.safetensors --mask first.png

--out NAME.png writes the target with the heat in color; NAME.npy the plain map, float32 (H, W) in 0..1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.targets import SourcePath, TargetPath, refuse

if TYPE_CHECKING:
    import torch

    from vosrepro.methods.common.correspondence import Correspondence

_OPACITY = 0.6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which frames, which place, which network."""
    add = parser.add_argument
    add("source", type=SourcePath, metavar="SRC", help="image that the place is in")
    add("target", type=SourcePath, metavar="TGT", help="image of the same size to find it in")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--point", type=_point, metavar="X,Y", help="a pixel of SRC, from the left top")
    place.add_argument("--mask", type=SourcePath, help="a label image of SRC: all its non-zero pixels")
    add("--weights", type=SourcePath, required=True, help="weights of a method with correspondences (stm)")
    add("--out", type=TargetPath, metavar="FILE", help=".png or .npy (default: <SRC>-<TGT>-heat.png, by their names)")
    add("--short-side", type=int, metavar="PX", help="resize both frames first (default: keep)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the heat map and print where it is largest."""
    import torch

    from vosrepro.base.files import atomic
    from vosrepro.base.machine import pick_device
    from vosrepro.datasets import read_frame
    from vosrepro.inference.runner import upload
    from vosrepro.methods import get_method
    from vosrepro.weights.files import open_model

    out: Path = args.out or Path(f"{args.source.stem}-{args.target.stem}-heat.png")
    refuse({"--out": out}, [args.source, args.target])
    if out.suffix not in (".png", ".npy"):
        raise ConfigError(f"--out {out} must end with .png or .npy")
    device = pick_device(args.device)
    images = [read_frame(path, upright=True) for path in (args.source, args.target)]
    if images[0].shape != images[1].shape:
        raise DataError(
            f"{args.source} is {_size(images[0])} pixels but {args.target} is {_size(images[1])}: "
            "give two frames of one video"
        )
    name, model = open_model(args.weights, device=device)
    correspond = get_method(name).correspond
    if correspond is None:
        raise ConfigError(f"method '{name}' of {args.weights} has no correspondences: stm has")
    source, target = (upload(torch.from_numpy(i), device, args.short_side) for i in images)
    found = correspond(model, source, target)
    scale = source.shape[1] / images[0].shape[0]
    if args.mask is not None:
        place = _mask_map(args.mask, images[0].shape[:2], (source.shape[1], source.shape[2]), found)
    else:
        place = _point_map(args.point, images[0].shape[:2], scale, found)
    heat = found.transfer(place).cpu().numpy()
    with atomic(out) as temporary:
        if out.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, heat)
        else:
            temporary.write_bytes(_colored(target, heat))
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    print(f"{out}: largest at {round(x / scale)},{round(y / scale)}")
    return 0


def _point_map(point: tuple[int, int], size: tuple[int, ...], scale: float, found: Correspondence) -> torch.Tensor:
    import torch

    x, y = point
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        raise ConfigError(f"--point {x},{y} lies outside of the image of {size[1]}x{size[0]} pixels")
    place = torch.zeros(found.grid)
    place[found.cell(int(x * scale), int(y * scale))] = 1
    return place


def _mask_map(path: Path, size: tuple[int, ...], shown: tuple[int, int], found: Correspondence) -> torch.Tensor:
    """Share of each source cell that the mask covers."""
    import torch
    from torch.nn import functional as F

    from vosrepro.inference.own.drawn import read_mask
    from vosrepro.methods.common.resizing import resize_labels

    labels = read_mask(path)
    if labels.shape != tuple(size):
        raise DataError(f"{path} is {_size(labels)} pixels but its image is {size[1]}x{size[0]}")
    if not labels.any():
        raise DataError(f"{path} has no object pixel: nothing can be followed")
    inside = (resize_labels(torch.tensor(labels), shown) > 0).float()
    return F.avg_pool2d(found.padding.apply(inside)[None, None], found.cell_px)[0, 0]


def _colored(target: torch.Tensor, heat: np.ndarray) -> bytes:
    import cv2

    frame = (target.permute(1, 2, 0).clamp(0, 1) * 255).byte().cpu().numpy()[..., ::-1]
    colors = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = _OPACITY * np.sqrt(heat)[..., None]
    mixed = frame * (1 - opacity) + colors * opacity
    return cv2.imencode(".png", mixed.round().astype(np.uint8))[1].tobytes()


def _point(text: str) -> tuple[int, int]:
    x, _, y = text.partition(",")
    try:
        return int(x), int(y)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not X,Y, e.g. 120,80") from error


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
