"""Reading and keeping the memory."""

from __future__ import annotations

import math

import pytest
import torch

from vosrepro.methods.stm import memory
from vosrepro.methods.stm.memory import MemoryBank, read


@pytest.fixture
def cells():
    """query (1, 12, 8), keys (3, 40, 8), values (3, 40, 5); the grid is 3 x 4."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 12, 8), (3, 40, 8), (3, 40, 5))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def _dense(query, keys, values, top_k=None, sigma=None, grid=(3, 4)):
    """The definition, object by object, with all weights in a dense matrix, in float64."""
    found = []
    for key, value in zip(keys.double(), values.double(), strict=True):
        a = key @ query[0].double().T  # (N, Q)
        weights = torch.exp(a - a.max(0).values)
        if sigma:
            best = a.argmax(1)
            y, x = torch.arange(12) // grid[1], torch.arange(12) % grid[1]
            squared = (y - (best // grid[1])[:, None]) ** 2 + (x - (best % grid[1])[:, None]) ** 2
            weights = weights * torch.exp(-squared / (2 * sigma**2))
        if top_k:
            smallest = weights.topk(min(top_k, len(a)), dim=0).values[-1]
            weights = weights * (weights >= smallest)
        found.append((weights / weights.sum(0)).T @ value)
    return torch.stack(found).float()


@pytest.mark.oracle
@pytest.mark.parametrize("top_k", [None, 1, 7, 40, 1000])
@pytest.mark.parametrize("sigma", [None, 1.0, 5.6])
def test_every_read_equals_its_definition(cells, top_k, sigma):
    found = read(*cells, top_k=top_k, kernel_sigma=sigma, grid=(3, 4))
    torch.testing.assert_close(found, _dense(*cells, top_k, sigma), atol=1e-5, rtol=1e-5)


def test_a_far_kernel_does_not_underflow(cells):
    query, keys, values = cells
    found = read(query, 60 * keys, values, kernel_sigma=0.05, grid=(3, 4))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("top_k", [None, 7])
def test_cells_that_are_not_valid_are_not_read(cells, top_k):
    query, keys, values = cells
    valid = torch.ones(3, 40, dtype=torch.bool)
    valid[1, :25] = False
    found = read(query, keys, values, top_k=top_k, valid=valid)
    alone = read(query, keys[1:2, 25:], values[1:2, 25:], top_k=top_k)
    torch.testing.assert_close(found[1:2], alone)
    torch.testing.assert_close(found[:1], read(query, keys[:1], values[:1], top_k=top_k))


def test_top_k_reads_a_prefix_of_a_larger_buffer(cells):
    query, keys, values = cells
    found = read(query, keys[:, :30], values[:, :30], top_k=5)
    torch.testing.assert_close(found, read(query, keys[:, :30].clone(), values[:, :30].clone(), top_k=5))


def _entry(objects, number):
    """An entry whose values are the number of the frame."""
    return torch.zeros(objects, 2, 4), torch.full((objects, 2, 3), float(number))


def _mean_of(bank, objects):
    """With equal keys the read is the mean over the remembered frames."""
    found = bank.read(torch.zeros(1, 2, 4), grid=(1, 2), top_k=None, kernel_sigma=None)
    assert found.shape == (objects, 2, 3)
    return found[:, 0, 0].tolist()


def test_a_temporary_entry_is_replaced_by_the_next():
    bank = MemoryBank(2)
    bank.add(*_entry(1, 10), permanent=True)
    for number in (1, 2, 30):
        bank.add(*_entry(1, number), permanent=False)
    assert bank.entries == 2
    assert _mean_of(bank, 1) == [20]


def test_an_object_that_begins_later_reads_only_from_its_first_entry_on():
    bank = MemoryBank(2)
    for number in range(6):  # past the first capacity
        bank.add(*_entry(1, number), permanent=True)
    bank.add(*_entry(3, 100), permanent=True)
    bank.add(*_entry(3, 200), permanent=True)
    assert _mean_of(bank, 3) == pytest.approx([(15 + 300) / 8, 150, 150])


def test_a_bounded_memory_keeps_first_frames_and_the_newest():
    bank = MemoryBank(2, max_entries=3)
    bank.add(*_entry(1, 0), permanent=True)
    for number in (1, 2, 3, 4):
        bank.add(*_entry(1, number), permanent=True)
    assert bank.entries == 3
    assert _mean_of(bank, 1) == pytest.approx([(0 + 3 + 4) / 3])


def test_a_bound_below_two_is_refused():
    with pytest.raises(ValueError, match="two"):
        MemoryBank(2, max_entries=1)


def test_half_precision_reads_close_to_single(cells):
    query, keys, values = cells
    half = read(query.bfloat16(), keys.bfloat16(), values.bfloat16(), top_k=7)
    assert half.dtype == torch.bfloat16
    error = (half.float() - read(*cells, top_k=7)).abs().max()
    assert error < 0.3
    assert math.isfinite(error)


@pytest.mark.parametrize("top_k", [None, 7])
@pytest.mark.parametrize("sigma", [None, 1.0])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_queries_read_a_few_at_a_time_give_the_same(cells, monkeypatch, top_k, sigma, on_gpu):
    settings = {"top_k": top_k, "kernel_sigma": sigma, "grid": (3, 4)}
    whole = read(*cells, **settings)
    monkeypatch.setitem(memory._LOGITS, "cpu", 5 * 3 * 40)  # 5 of 12 rows
    monkeypatch.setattr(memory, "_on_gpu", lambda _: on_gpu)
    torch.testing.assert_close(read(*cells, **settings), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("settings", [{"top_k": 7}, {"kernel_sigma": 1.0, "grid": (3, 4)}])
def test_no_form_of_the_read_holds_all_similarities_at_once(cells, monkeypatch, on_gpu, settings):
    query, keys, values = cells
    monkeypatch.setitem(memory._LOGITS, "cpu", 5 * 3 * 40)
    monkeypatch.setattr(memory, "_on_gpu", lambda _: on_gpu)
    most = 0
    similarity = memory._similarity

    def counting(query, keys):
        nonlocal most
        found = similarity(query, keys)
        most = max(most, found.numel())
        return found

    monkeypatch.setattr(memory, "_similarity", counting)
    read(query, keys, values, **settings)
    assert 0 < most <= 5 * 3 * 40


@pytest.mark.parametrize("settings", [{"top_k": 7}, {"kernel_sigma": 1.0, "grid": (3, 4)}, {}])
def test_what_a_gpu_reads_in_half_precision_can_be_trained(cells, monkeypatch, settings):
    monkeypatch.setattr(memory, "_on_gpu", lambda _: True)
    half = [x.bfloat16().requires_grad_() for x in cells]
    read(*half, **settings).float().square().sum().backward()
    exact = [x.clone().requires_grad_() for x in cells]
    read(*exact, **settings).square().sum().backward()
    for ours, wanted in zip(half, exact, strict=True):
        cosine = torch.cosine_similarity(ours.grad.float().flatten(), wanted.grad.flatten(), dim=0)
        assert cosine > 0.98
