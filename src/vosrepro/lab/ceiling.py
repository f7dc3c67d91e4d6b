"""How near a method's online part comes to what its device computes at best.

The ceiling is not a data sheet's: it is the rate of one large matrix product in the same precision, on the same
device and threads, in the same process. Work is that of matrix products and convolutions (see `lab.work.gflop`), so
a share far below 1 is time spent on small products, on memory, or on what is not counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from vosrepro.lab.work import gflop

if TYPE_CHECKING:
    from collections.abc import Callable

    from vosrepro.base.types import Segmenter

#: Length of the sides of the product that is timed: large enough for its rate to be the device's.
SIDE = {"cpu": 1536, "cuda": 8192}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@torch.inference_mode()
def ceiling(
    make: Callable[[], Segmenter], video: torch.Tensor, mask: torch.Tensor, precision: str, fps: float
) -> dict[str, float]:
    """Work of the later frames of a video at a measured rate, beside the rate of one large product.

    Args:
        make: a new segmenter.
        video: float32 (T, 3, H, W) in [0, 1], T at least 2, on the device.
        mask: uint8 (H, W), the first frame's.
        precision: fp32, bf16 or fp16.
        fps: later frames in a second, as they were measured without counting.

    Returns:
        GFLOP of a later frame, GFLOP/s at that rate and of the large product, and the first as a share of the second.
    """
    segmenter = make()
    segmenter.init(video[0], mask)
    work = gflop(lambda: [segmenter.step(frame) for frame in video[1:]]) / (len(video) - 1)
    best = product_rate(video.device, DTYPES[precision])
    return {
        "gflop_per_frame": work,
        "gflops": work * fps,
        "gflops_ceiling": best,
        "share_of_ceiling": work * fps / best,
    }


def product_rate(device: torch.device, dtype: torch.dtype, *, side: int | None = None, rounds: int = 5) -> float:
    """GFLOP/s of the fastest of several products of two square matrices."""
    side = side or SIDE[device.type]
    one = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    spent = []
    for _ in range(rounds + 1):
        _finish(device)
        began = time.perf_counter()
        one @ one
        _finish(device)
        spent.append(time.perf_counter() - began)
    return 2 * side**3 / min(spent[1:]) / 1e9


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
