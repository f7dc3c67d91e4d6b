"""Every method's variants and training stages on a device that only claims to be a GPU (see `pretend_cuda`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mini_batches import clip_batch, first_mask, settings, smooth_video
from pretend_cuda import CUDA, OnCuda, move, on_cuda, on_host, pretend_cuda

from vosrepro.methods import REGISTRY, get_method
from vosrepro.methods.stm import segmenter as stm_segmenter
from vosrepro.study.params import load_method
from vosrepro.training.optimize import Optimizer

pytestmark = pytest.mark.pretend_cuda

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
#: The same code as another variant, with other numbers.
NUMBERS_ONLY = ("p8", "p25", "p300", "epoch", "top20", "tau0.8", "full-repeat", "three-scales")
#: Of target models: every branch of the optimizer is taken, few times.
QUICK = {"target": {"init_iterations": [2, 2], "update_iterations": 2}, "update_every": 2}


def _variants():
    for name in sorted(REGISTRY):
        for variant in load_method(name, root=ROOT / "params").variants:
            if not variant.startswith(NUMBERS_ONLY):
                yield pytest.param(name, variant, id=f"{name}-{variant}")


def _stages():
    for name in sorted(REGISTRY):
        size = load_method(name, root=ROOT / "params").sizes["mini"]
        for stage in size.stages:
            yield pytest.param(name, stage, id=f"{name}-{stage}")


@pytest.fixture
def cuda():
    with pretend_cuda() as device:
        yield device


# --------------------------------------------------------------------------- the pretence itself


def test_what_is_made_moved_or_computed_there_says_so(cuda):
    made = torch.zeros(3, device="cuda")
    moved = torch.ones(3).to(cuda)
    for tensor in (made, moved, made + moved, moved[1:], moved.new_zeros(2), torch.zeros_like(moved), moved.long()):
        assert tensor.is_cuda
        assert tensor.device == CUDA
    for tensor in (torch.zeros(3), moved.cpu(), moved.to("cpu"), torch.zeros(2, device="cpu")):
        assert not tensor.is_cuda
        assert tensor.device.type == "cpu"
    assert (made + moved).cpu().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "mixed",
    [
        lambda a, b: a + b,
        lambda a, b: b * a,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: a.index_select(0, b.long()),
        lambda a, b: torch.nn.functional.linear(a[None], b[None]),
        lambda a, b: a.__setitem__(slice(None), b),
        lambda a, b: b[a.long()],
        lambda a, b: a.add_(b),
        lambda a, b: torch.stack([a[0], b[0]]),
        lambda a, b: torch.bmm(a[None, None], b[None, :, None]),
    ],
)
def test_tensors_of_two_devices_do_not_meet(cuda, mixed):
    mixed(torch.ones(2, device=cuda), torch.ones(2, device=cuda))
    with pytest.raises(RuntimeError, match="same device"):
        mixed(torch.ones(2, device=cuda), torch.ones(2))


def test_what_a_gpu_takes_from_the_host_is_taken(cuda):
    there = torch.arange(3.0, device=cuda)
    assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]
    assert there[torch.tensor([2, 0])].tolist() == [2, 0]
    assert there.copy_(torch.ones(3)).sum().item() == 3


def test_the_way_to_numpy_leads_over_the_host(cuda):
    there = torch.ones(2, device=cuda)
    with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
        there.numpy()
    assert there.cpu().numpy().sum() == 2


def test_gradients_are_those_of_the_cpu_and_lie_beside_their_weights(cuda):
    torch.manual_seed(0)
    network, image = torch.nn.Conv2d(3, 2, 3), torch.rand(1, 3, 5, 5)
    network(image).square().sum().backward()
    expected = network.weight.grad.clone()
    network.zero_grad()
    move(network)
    assert isinstance(network.weight, torch.nn.Parameter)
    network(image.to(cuda)).square().sum().backward()
    assert network.weight.grad.is_cuda
    torch.testing.assert_close(on_host(network.weight.grad), expected)


def test_autocast_has_the_types_of_cuda(cuda):
    a, b = torch.rand(2, 2, device=cuda), torch.rand(2, 2, device=cuda)
    with torch.autocast("cuda", torch.bfloat16):
        product = a @ b
        assert product.dtype == torch.bfloat16
        assert torch.softmax(product, 0).dtype == torch.float32
        assert product.sum().dtype == torch.float32
        assert torch.relu(product).dtype == torch.bfloat16
        assert torch.cat([product, a]).dtype == torch.float32
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            torch.nn.functional.binary_cross_entropy(a, b)
        with torch.autocast("cuda", enabled=False):
            assert (a @ b).dtype == torch.float32
    assert (a @ b).dtype == torch.float32


def test_a_mismatch_that_is_planted_into_a_method_is_found(cuda, in_root, monkeypatch):
    _segment("stm", "full", cuda)
    true = stm_segmenter.one_hot
    monkeypatch.setattr(stm_segmenter, "one_hot", lambda *arguments: true(*arguments).cpu())
    with pytest.raises(RuntimeError, match="same device"):
        _segment("stm", "full", cuda)


# ------------------------------------------------------------------------------------------- methods


def _segment(name, variant, device, *, precision="fp32"):
    """Probabilities of four frames with two objects, and a third that begins on the third frame."""
    method, params = get_method(name), load_method(name)
    options = settings(params, "mini", variant)
    network = {**params.sizes["mini"].model, **({"head": options["head"]} if "head" in options else {})}
    torch.manual_seed(0)
    model = None if method.build is None else method.build(**network).eval()
    if device.type == "cuda" and model is not None:
        move(model)
    if model is not None and method.prepare is not None:
        model = method.prepare(model, **({} if precision == "fp32" else {"precision": precision}))
    if name in ("frtm", "gfrtm", "mtmfi"):
        options |= QUICK
    if precision != "fp32" and method.prepare is None:
        options["precision"] = precision
    segmenter = method.segmenter(model, **options)
    frames, mask = smooth_video(SIZE, 5).to(device), first_mask(SIZE, 2).to(device)
    late = torch.zeros(SIZE, dtype=torch.uint8)
    late[48:60, 60:90] = 3
    with torch.inference_mode():
        segmenter.init(frames[0], mask)
        found = [segmenter.step(frame, late.to(device) if t == 1 else None) for t, frame in enumerate(frames[1:])]
    for probabilities in found:
        assert probabilities.is_cuda is (device.type == "cuda")
        assert probabilities.dtype == torch.float32
    return [on_host(probabilities) for probabilities in found]


@pytest.mark.parametrize(("name", "variant"), [*_variants()])
def test_a_variant_gives_there_what_it_gives_on_the_cpu(in_root, name, variant):
    expected = _segment(name, variant, torch.device("cpu"))
    with pretend_cuda() as device:
        found = _segment(name, variant, device)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.argmax(0) != theirs.argmax(0)).float().mean() <= 0.01
        assert (ours - theirs).abs().mean() <= 0.005


@pytest.mark.parametrize("name", ["stm", "frtm", "gfrtm", "mtmfi", "pml", "parts"])
def test_half_precision_has_fitting_types(cuda, in_root, name):
    for probabilities in _segment(name, load_method(name).default_variant, cuda, precision="bf16"):
        assert torch.isfinite(probabilities).all()


@pytest.mark.parametrize(("name", "stage"), [*_stages()])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_stage_learns_there(cuda, in_root, name, stage, precision):
    method, size = get_method(name), load_method(name).sizes["mini"]
    params = size.stages[stage]
    torch.manual_seed(0)
    model = move(method.build(**{**size.model, **params.model}).train())
    optimizer = Optimizer(params.optimizer, model.named_parameters())
    before = [on_host(p).clone() for p in optimizer.parameters]
    batch = {key: on_cuda(value) for key, value in clip_batch(params.clips).items()}
    with torch.autocast(cuda.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        values = method.train_step(model, batch, iteration=0, **params.loss)
    assert isinstance(values["loss"], OnCuda)
    assert torch.isfinite(values["loss"])
    values["loss"].backward()
    assert all(p.grad is not None and p.grad.is_cuda and p.grad.dtype == p.dtype for p in optimizer.parameters)
    optimizer.clip(1.0)
    optimizer.step(0.01)
    assert any(not torch.equal(on_host(p), old) for p, old in zip(optimizer.parameters, before, strict=True))
