"""Batch normalization over processes: the oracle is torch's own, in float64, on the whole batch in one process."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.distributed as dist
from forked import start_ranks
from torch import nn

from vosrepro.base.errors import ConfigError
from vosrepro.methods.common.batchnorm import (
    LocalBatchNorm2d,
    SyncedBatchNorm2d,
    has_live_norm,
    set_norm,
    synchronize,
)

CHANNELS = 4
SHARES = [(1, 4), (2, 4), (2, 5), (4, 6), (4, 3)]  # processes, samples: equal, unequal, and one process without any
OFFSETS = (0, 1, 3, 10, 30)  # mean / standard deviation of what bfloat16 layers see


def _layer(dtype=torch.float32):
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(CHANNELS).to(dtype)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer.train()


def _batch(samples):
    """Samples of very different scales, so that a wrong weight of a process's share shows."""
    x = torch.randn(samples, CHANNELS, 5, 7, generator=torch.Generator().manual_seed(samples))
    return x * torch.arange(1, samples + 1)[:, None, None, None] + 2


def _far_batch(offset):
    x = torch.randn(6, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(3))
    return (x + offset).to(torch.bfloat16)


def _work(layer, x):
    """Output, gradients and running statistics after one step on a loss in which every pixel counts differently."""
    x = x.clone().requires_grad_()
    out = layer(x)
    (out.double() ** 3).sum().backward()
    state = {k: v.clone() for k, v in layer.state_dict().items() if k.startswith("running")}
    return {"out": out.detach(), "x": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad, **state}


def _rank(rank, folder):
    torch.set_num_threads(1)
    for world in (4, 2, 1):
        if rank >= world:
            continue
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{world}", rank=rank, world_size=world)
        for samples in [n for processes, n in SHARES if processes == world]:
            found = _work(SyncedBatchNorm2d.sharing(_layer()), _batch(samples)[rank::world])
            torch.save(found, f"{folder}/{world}-{samples}-{rank}.pt")
        if world == 2:
            outs = [SyncedBatchNorm2d.sharing(_layer())(_far_batch(o)[rank::2]).detach() for o in OFFSETS]
            torch.save(outs, f"{folder}/far-{rank}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What four processes, then two, then one computed, in one job: starting processes is what costs."""
    folder = tmp_path_factory.mktemp("ranks")
    start_ranks(_rank, (str(folder),), count=4)
    return lambda name, world: [torch.load(folder / f"{name}-{r}.pt", weights_only=True) for r in range(world)]


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize(("world", "samples"), SHARES)
def test_processes_with_shares_of_any_size_equal_one_process(ranks, world, samples):
    found = ranks(f"{world}-{samples}", world)
    expected = _work(_layer(torch.float64), _batch(samples).double())
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    for rank, share in enumerate(found):
        for key in ("out", "x"):
            close(share[key].double(), expected[key][rank::world])
        for key in ("running_mean", "running_var"):
            close(share[key].double(), expected[key])
    for key in ("weight", "bias"):  # processes add up their gradients, as DistributedDataParallel does
        close(sum(share[key] for share in found).double(), expected[key], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.oracle
def test_bfloat16_far_from_zero_is_as_exact_as_its_rounding(ranks):
    for offset, first, second in zip(OFFSETS, *ranks("far", 2), strict=True):
        x = _far_batch(offset)
        ours = torch.empty_like(x)
        ours[0::2], ours[1::2] = first, second
        exact = _layer(torch.float64)(x.double()).detach()
        assert ours.dtype == torch.bfloat16
        error, rounding = ((y.double() - exact).square().mean().sqrt() for y in (ours, exact.to(torch.bfloat16)))
        assert error <= 1.05 * rounding, offset


def test_one_process_is_plain_batch_normalization_to_the_last_bit():
    for ours, plain in zip(
        _work(synchronize(nn.Sequential(_layer()))[0], _batch(4)).values(),
        _work(_layer(), _batch(4)).values(),
        strict=True,
    ):
        assert torch.equal(ours, plain)


def test_in_evaluation_it_uses_the_stored_statistics():
    layer = _layer()
    layer(_batch(4))
    assert torch.equal(SyncedBatchNorm2d.sharing(layer).eval()(_batch(3)), layer.eval()(_batch(3)))


def test_frozen_layers_and_subclasses_stay_and_keys_do_not_change():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    network = nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm2d(2)), "b": Frozen(2), "c": nn.GroupNorm(1, 2)})
    network.train()
    before = {k: v.data_ptr() for k, v in network.state_dict().items()}
    parameters = [id(p) for p in network.parameters()]
    synchronize(network)
    assert type(network["a"][0]) is SyncedBatchNorm2d
    assert type(network["b"]) is Frozen
    assert {k: v.data_ptr() for k, v in network.state_dict().items()} == before
    assert [id(p) for p in network.parameters()] == parameters


def test_only_layers_that_follow_their_batch_are_live():
    layers = nn.ModuleList([nn.BatchNorm2d(2).eval(), nn.GroupNorm(1, 2)])
    assert not has_live_norm(layers)
    assert has_live_norm(nn.ModuleList([*layers, nn.BatchNorm2d(2)]))


def test_statistics_of_one_process_are_chosen_by_name_and_stay():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    set_norm(network, kind="local", momentum=0.05)
    synchronize(network)
    assert [(type(layer), layer.momentum) for layer in network] == [(LocalBatchNorm2d, 0.05)] * 2


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_groups_of_the_published_size_do_not_depend_on_the_number_of_processes(processes):
    images, x = 2, _batch(8)
    out, weight = torch.empty_like(x), torch.zeros(CHANNELS)
    for rank in range(processes):
        layer = _layer()
        set_norm(nn.Sequential(layer), kind="local", momentum=0.1, images=images)
        share = slice(rank, None, processes)  # as `World.share`
        work = _work(layer, x[share])
        out[share] = work["out"]
        weight += work["weight"]
        if rank == 0:
            running = work
    expected, first = torch.empty_like(x), None
    slope = torch.zeros(CHANNELS)
    for group in range(4):
        own = _work(_layer(), x[group::4])
        expected[group::4], slope = own["out"], slope + own["weight"]
        first = first or own
    assert torch.allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(weight, slope, rtol=1e-4)
    assert torch.allclose(running["running_mean"], first["running_mean"])
    assert torch.allclose(running["running_var"], first["running_var"])


def test_more_processes_than_published_are_refused():
    layer = _layer()
    set_norm(nn.Sequential(layer), kind="local", momentum=0.1, images=4)
    with pytest.raises(ConfigError, match=r"a share of 6 samples is not made of groups of 4.*fewer devices"):
        layer(_batch(6))
    layer.eval()(_batch(6))
