from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.methods.pml.pool import Adaptation, ReferencePool
from vosrepro.methods.pml.search import label_similarity, nearest_cells
from vosrepro.methods.pml.votes import hard_vote, margin_vote, soft_vote


def unit(count, dim=8, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def brute_force(query, pool, k):
    distances = (query[:, None] - pool[None]).square().sum(2)
    values, index = distances.sort(dim=1, stable=True)
    return index[:, :k], values[:, :k]


@pytest.mark.parametrize("cells", [5, 16, 17, 100, 333])
def test_neighbours_and_distances_equal_a_full_stable_sort(cells):
    query, pool = unit(40, seed=1), unit(cells)
    index, distance2 = brute_force(query, pool, 5)
    found = nearest_cells(query, pool, 5)
    assert torch.equal(found.index, index)
    assert torch.allclose(found.distance2, distance2, atol=1e-12)


def test_equal_distances_keep_the_order_of_the_pool():
    pool = unit(30).repeat(4, 1)  # every cell four times
    found = nearest_cells(unit(20, seed=1), pool, 5)
    first, second = found.index[:, 0], found.index[:, 4]
    assert bool((first < 30).all())
    assert torch.equal(found.index[:, :4], first[:, None] + torch.tensor([0, 30, 60, 90]))
    assert bool((second < 30).all())


def test_the_chunk_size_changes_nothing():
    query, pool = unit(50, seed=1), unit(200)
    labels = torch.arange(200) % 3
    for chunk in (1, 7, 50):
        assert torch.equal(nearest_cells(query, pool, 3, chunk=chunk).index, nearest_cells(query, pool, 3).index)
        part = label_similarity(query, pool, labels, count=3, rank=2, chunk=chunk)
        assert torch.allclose(part, label_similarity(query, pool, labels, count=3, rank=2), atol=1e-12)


def test_a_pool_smaller_than_k_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="9 nearest neighbours were asked for but .* has 4 cells"):
        nearest_cells(unit(3), unit(4), 9)


def test_embeddings_that_are_not_numbers_are_counted_and_refused():
    query = unit(6)
    query[2, 1] = torch.nan
    with pytest.raises(CheckpointError, match="1 of 6 embeddings of the frame are not finite"):
        nearest_cells(query, unit(9), 1)
    with pytest.raises(CheckpointError, match="reference pool are not finite"):
        label_similarity(unit(2), query, torch.zeros(6, dtype=torch.int64), count=1)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    foreground=st.integers(0, 12),
    background=st.integers(0, 12),
)
def test_the_order_statistics_decide_as_the_majority_does(k, seed, foreground, background):
    if foreground + background < k:
        return
    labels = torch.tensor([1] * foreground + [0] * background)
    pool, query = unit(len(labels), seed=seed), unit(25, seed=seed + 1)
    majority = labels[nearest_cells(query, pool, k).index].sum(1) * 2 > k
    wins = k // 2 + 1
    for_it = label_similarity(query, pool, labels, count=2, rank=wins)[:, 1]
    against = label_similarity(query, pool, labels, count=2, rank=k - wins + 1)[:, 0]
    assert torch.equal(for_it > against, majority)


def test_an_object_needs_more_than_half_of_an_even_number_of_neighbours_as_in_the_seed():
    neighbors = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
    seed = (neighbors.sum(1) > neighbors.shape[1] / 2).long()
    assert hard_vote(neighbors, 2)[0].tolist() == seed.tolist() == [0, 0, 1, 0]
    assert hard_vote(neighbors, 2, ties="nearest")[0].tolist() == [1, 0, 1, 0]
    assert hard_vote(neighbors, 3)[0].tolist() == [1, 0, 1, 0]  # of several objects the nearest decides
    assert hard_vote(neighbors, 2)[1].tolist() == [2, 2, 3, 3]


def test_a_tie_goes_to_the_tied_label_that_owns_the_nearest_neighbour():
    neighbors = torch.tensor([[0, 2, 2, 1, 1], [1, 1, 2, 2, 0], [2, 0, 0, 0, 2], [1, 2, 0, 3, 3]])
    labels, agree = hard_vote(neighbors, 4)
    assert labels.tolist() == [2, 1, 0, 3]
    assert agree.tolist() == [2, 2, 3, 2]


def test_the_soft_vote_is_the_mean_of_the_neighbours_fractions():
    fractions = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
    index = torch.tensor([[0, 1], [1, 2]])
    assert soft_vote(fractions, index).tolist() == [[0.625, 0.375], [0.125, 0.875]]


def test_the_margin_vote_agrees_with_the_majority_and_judges_a_rare_label_by_what_it_has():
    pool, query = unit(60), unit(200, seed=1)
    labels = (torch.arange(60) % 3 == 0).long()
    majority, _ = hard_vote(labels[nearest_cells(query, pool, 5).index], 2)
    probs = margin_vote(query, pool, labels, count=2, k=5, temperature=0.05)
    assert torch.equal(probs.argmax(1), majority)
    assert torch.allclose(probs.sum(1), torch.ones(200, dtype=torch.float64))
    labels[:] = 0
    labels[7] = 1
    at_home = margin_vote(pool[7:8], pool, labels, count=2, k=5, temperature=0.05)
    assert float(at_home[0, 1]) > 0.9


def one_label(count, label, labels=2):
    return F.one_hot(torch.full((count,), label), labels).double()


def test_a_pool_with_one_label_only_answers_with_it():
    for label in (0, 1):
        pool = ReferencePool(5, Adaptation())
        pool.give(unit(20), one_label(20, label))
        answer = pool.ask(unit(10, seed=1))
        assert answer.labels.tolist() == [label] * 10
        votes = pool.vote(unit(10, seed=1), answer, vote="margin", temperature=0.05)
        assert torch.isfinite(votes).all()
        assert votes.argmax(1).tolist() == [label] * 10


def test_additions_leave_after_max_frames_and_given_cells_never():
    pool = ReferencePool(1, Adaptation(max_frames=2, stride=3))
    pool.give(unit(20), one_label(20, 1))
    sizes = []
    for seed in range(1, 5):
        frame = unit(9, seed=seed)
        joined = pool.adapt(frame, pool.ask(frame))
        assert joined.nonzero()[:, 0].tolist() == [0, 3, 6]
        sizes.append(len(pool))
    assert sizes == [23, 26, 26, 26]
    assert torch.equal(pool.contents()[0][:20], unit(20))


def test_only_confident_cells_join():
    pool = ReferencePool(3, Adaptation(max_frames=1, max_distance2=0.01))
    reference = unit(30)
    pool.give(reference, F.one_hot(torch.arange(30) % 2, 2).double())
    far = unit(4, seed=5)
    assert not bool(pool.adapt(far, pool.ask(far)).any())
    strict = ReferencePool(2, Adaptation(max_frames=1))
    strict.give(reference[:2], torch.eye(2, dtype=torch.float64))
    assert not bool(strict.adapt(far, strict.ask(far)).any())  # the two neighbours never agree


def test_a_senseless_adaptation_is_refused():
    with pytest.raises(ConfigError, match="stride 0 makes no sense"):
        Adaptation(max_frames=1, stride=0)
