"""Floating-point operations of one training sample: counted while a real step runs, never guessed.

Counted are matrix products and convolutions, forward and backward, a multiplication and its addition as two;
element-wise work, sorting and resampling are not. The network has random weights and its batch is random, of
the stage's own size, so neither data nor a device is needed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vosrepro.base.types import names_cache, without_start_weights
from vosrepro.methods import get_method
from vosrepro.training.data.clips import to_batch

if TYPE_CHECKING:
    from vosrepro.study.params import StageParams
    from vosrepro.study.plan import StageNode


class StageWork(NamedTuple):
    """GFLOP of one sample of a stage; `first_visit` is what is added where nothing of it is in a cache."""

    step: float
    first_visit: float


def gflop(work: Callable[[], Any]) -> float:
    """10^9 floating-point operations of matrix products and convolutions in `work`."""
    from torch.utils.flop_counter import FlopCounterMode

    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops() / 1e9


def _convolution_backward(gradient: torch.Size, inputs: torch.Size, weight: torch.Size, *others: Any, **_: Any) -> int:
    """Shapes -> operations: the gradients of input and weight take as many each as the forward pass.

    torch 2.15 counts the weight's too high by the number of groups.
    """
    transposed, wanted = others[4], others[7]
    places = math.prod((inputs if transposed else gradient)[2:])
    return 2 * inputs[0] * places * math.prod(weight) * sum(wanted[:2])


def stage_work(node: StageNode, *, batch: int = 2) -> StageWork:
    """Work of one sample of a training stage, forward and backward.

    A stage that keeps results of earlier visits (see `names_cache`) is counted with a filled and an empty cache.

    Args:
        node: the stage; the weights that it starts from are not needed.
        batch: samples of the counted step. Some methods treat samples in pairs, so that 1 is not typical.
    """
    method = get_method(node.method)
    assert method.build is not None
    assert method.train_step is not None
    torch.manual_seed(0)
    network = method.build(**without_start_weights(node.model)).train()
    samples = to_batch(random_samples(node.params, batch), torch.device("cpu"))
    step = method.train_step

    with tempfile.TemporaryDirectory(prefix="vosrepro-work-") as scratch:
        loss = private_cache(node.params.loss, scratch)

        def once() -> None:
            torch.manual_seed(0)
            step(network, samples, iteration=0, **loss)["loss"].backward()
            network.zero_grad()

        first = gflop(once)
        cached = gflop(once) if loss != node.params.loss else first
    return StageWork(cached / batch, (first - cached) / batch)


def private_cache(loss: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Arguments of a train step whose cache, if they name one, is another folder."""
    return {k: folder if names_cache(k) else v for k, v in loss.items()}


def random_samples(params: StageParams, count: int) -> dict[str, torch.Tensor]:
    """Collated samples as the loader makes them: noise with upright ellipses that drift.

    Returns:
        see `vosrepro.training.data.clips.Sample`, with a leading dimension of `count`.
    """
    clips = params.clips
    (height, width), frames, objects = clips.size_px, clips.frames, clips.objects
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, frames, height, width, 3), generator=generator)
    masks = torch.zeros(count, frames, objects, height, width, dtype=torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for t in range(frames):
        for k in range(objects):
            x = width * ((k + 0.5) / objects + 0.02 * t)
            inside = ((rows - height / 2) / (height / 4)) ** 2
            inside = inside + ((columns - x) / (width / (4 * objects))) ** 2 < 1
            masks[:, t, k][:, inside] = 255
    present = (masks > 0).int() * torch.arange(1, objects + 1)[:, None, None]
    return {
        "frames": image.to(torch.uint8),
        "masks": masks,
        "labels": present.amax(2).to(torch.uint8),
        "selector": torch.ones(count, objects, dtype=torch.uint8),
        "times": torch.arange(frames).repeat(count, 1),
        "lengths": torch.full((count,), frames),
        **({"classes": torch.arange(count) % 2} if clips.kind == "image" else {}),
    }
