from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from vosrepro.training import sync_norm
from vosrepro.training.sync_norm import SyncedBatchNorm2d, has_live_norm, synchronize


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def layers(seed=0):
    torch.manual_seed(seed)
    plain = nn.BatchNorm2d(3)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    synced = nn.Sequential(nn.BatchNorm2d(3))
    synced[0].load_state_dict(plain.state_dict())
    return plain, synchronize(synced)


@pytest.mark.oracle
def test_one_rank_equals_plain_batch_norm(group):
    plain, synced = layers()
    x = torch.randn(4, 3, 5, 6) * 2 + 7
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    first, second = plain(a), synced(b)
    assert torch.allclose(first, second, atol=1e-5)
    (first**3).sum().backward()
    (second**3).sum().backward()
    assert a.grad is not None
    assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    assert torch.allclose(plain.weight.grad, synced[0].weight.grad, rtol=1e-4, atol=1e-4)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value.float(), synced.state_dict()[f"0.{key}"].float(), atol=1e-6), key


def test_two_halves_equal_the_whole(monkeypatch):
    """Both ranks in one process: the sum over ranks is computed from the other half's values."""
    x = torch.randn(6, 3, 4, 4) * 3 + 1
    plain, _ = layers()
    expected = plain(x)
    parts = []
    for own, other in ((x[:2], x[2:]), (x[2:], x[:2])):
        _, synced = layers()

        def add(values, other=other):
            mean, second = other.double().mean((0, 2, 3)), (other.double() ** 2).mean((0, 2, 3))
            count = torch.full_like(mean, other.numel() / 3)
            return values + torch.stack([count, count * mean, count * second])

        monkeypatch.setattr(sync_norm._Sum, "apply", add)
        parts.append(synced(own))
        assert torch.allclose(plain.running_var, synced[0].running_var, atol=1e-5)
    assert torch.allclose(torch.cat(parts), expected, atol=1e-5)


def test_frozen_layers_and_subclasses_stay_and_keys_do_not_change():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    network = nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm2d(2)), "b": Frozen(2), "c": nn.GroupNorm(1, 2)})
    network.train()
    before = {k: v.data_ptr() for k, v in network.state_dict().items()}
    parameters = [id(p) for p in network.parameters()]
    assert has_live_norm(network)
    synchronize(network)
    assert type(network["a"][0]) is SyncedBatchNorm2d
    assert type(network["b"]) is Frozen
    assert {k: v.data_ptr() for k, v in network.state_dict().items()} == before
    assert [id(p) for p in network.parameters()] == parameters
    assert not has_live_norm(network)


def test_in_evaluation_it_uses_the_stored_statistics(group):
    plain, synced = layers()
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(plain.eval()(x), synced.eval()(x))
