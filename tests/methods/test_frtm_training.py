"""FRTM and G-FRTM: a training step on two processes is the step on one."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from forked import start_ranks
from torch import nn

from vosrepro.methods import get_method
from vosrepro.methods.common.batchnorm import synchronize

WORLD = 2
QUICK = {"channels": 4, "init_iterations": [2, 2], "update_iterations": 2}
NETWORKS = {"frtm": {"norm": "batch"}, "gfrtm": {"norm": "batch", "gate_dim": 8}}


def _network(name):
    torch.manual_seed(0)
    network = get_method(name).build(backbone="resnet10", width=8, channels=8, stem_stride=2, **NETWORKS[name])
    return network.train()


def _batch():
    g = torch.Generator().manual_seed(0)
    frames = torch.rand(4, 3, 3, 32, 48, generator=g)
    masks = torch.zeros(4, 3, 1, 32, 48)
    for b in range(4):
        for t in range(3):
            masks[b, t, :, 6 + b : 20, 8 + 2 * t + b : 28 + 2 * t] = 1
    return {
        "frames": frames,
        "masks": masks,
        "labels": masks[:, :, 0].long(),
        "selector": torch.ones(4, 1),
    }


def _step(name, model, batch):
    values = get_method(name).train_step(model, batch, iteration=0, views=2, target=QUICK)
    values["loss"].backward()
    return values["loss"].detach()


def _rank(rank, folder, name):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    network = _network(name)
    synchronize(network)
    model = nn.parallel.DistributedDataParallel(network)
    share = {key: value.chunk(WORLD)[rank] for key, value in _batch().items()}
    loss = _step(name, model, share)
    found = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    torch.save({"loss": loss, "gradients": found}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path, name):
    start_ranks(_rank, (str(tmp_path), name), count=WORLD)
    network = _network(name)
    loss = _step(name, network, _batch())
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    torch.testing.assert_close(sum(r["loss"] for r in ranks) / WORLD, loss, rtol=1e-4, atol=1e-5)
    expected = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    assert set(expected) == set(ranks[0]["gradients"])
    assert any(g.abs().max() > 0 for g in expected.values())
    for key, gradient in expected.items():
        scale = float(gradient.abs().max())
        for rank in ranks:
            error = float((rank["gradients"][key] - gradient).abs().max())
            assert error <= 1e-3 * scale + 1e-6, key
