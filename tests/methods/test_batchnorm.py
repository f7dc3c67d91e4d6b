"""Batch normalization over processes."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from vosrepro.methods.common.batchnorm import SharedBatchNorm2d

WORLD = 2


def _work(network, batch):
    """Gradients of the mean loss and the running statistics."""
    network(batch).square().mean(dim=(1, 2, 3)).mean().backward()
    norm = network[1]
    grads = [p.grad for p in network.parameters()]
    return [*grads, norm.running_mean, norm.running_var, norm.num_batches_tracked.float()]


def _network(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).train()


def _batch():
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1)) * 3 + 1


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    share = _batch().chunk(WORLD)[rank]
    found = _work(_network(SharedBatchNorm2d), share)
    for tensor in found[:6]:  # the average over processes, as DistributedDataParallel takes it
        dist.all_reduce(tensor)
        tensor /= WORLD
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_one_process_is_plain_batch_normalization():
    for ours, plain in zip(
        _work(_network(SharedBatchNorm2d), _batch()),
        _work(_network(nn.BatchNorm2d), _batch()),
        strict=True,
    ):
        assert torch.equal(ours, plain)


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path):
    mp.spawn(_rank, (str(tmp_path),), nprocs=WORLD)
    expected = _work(_network(nn.BatchNorm2d), _batch())
    for rank in range(WORLD):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
