"""What methods share: aggregation, padding, masks, resizing, key-seeded weights, checkpoint checks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vosrepro.base.errors import CheckpointError, DataError
from vosrepro.methods.common.aggregation import aggregate, aggregation_logits
from vosrepro.methods.common.checkpoints import checked, without_prefix
from vosrepro.methods.common.masks import first_objects, late_objects, one_hot
from vosrepro.methods.common.padding import Padding
from vosrepro.methods.common.resizing import resize_labels, short_side_size
from vosrepro.methods.common.seeded import seeded_tensor


def test_aggregation_is_the_share_of_the_odds():
    objects = torch.tensor([0.5, 0.8]).view(2, 1, 1)
    odds = torch.tensor([0.1 / 0.9, 1.0, 4.0])
    torch.testing.assert_close(aggregate(objects).flatten(), odds / odds.sum())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_aggregation_is_a_finite_distribution(values):
    objects = torch.tensor(values).view(-1, 1, 1)
    found = aggregate(objects)
    assert torch.isfinite(aggregation_logits(objects)).all()
    assert found.sum() == pytest.approx(1, abs=1e-6)


def test_an_absent_object_changes_nothing():
    one = torch.full((1, 2, 2), 0.7)
    two = torch.cat([one, torch.zeros(1, 2, 2)])
    torch.testing.assert_close(aggregate(two)[:2], aggregate(one), atol=1e-6, rtol=0)


def test_480p_is_padded_as_upstream_does():
    assert Padding.to_multiple(480, 854, multiple=16) == Padding(5, 5, 0, 0)
    assert Padding.to_multiple(480, 853, multiple=16) == Padding(5, 6, 0, 0)


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32]))
def test_cropping_undoes_padding(height, width, multiple):
    x = torch.rand(2, height, width)
    padding = Padding.to_multiple(height, width, multiple=multiple)
    padded = padding.apply(x)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert torch.equal(padding.crop(padded), x)


def test_an_object_without_pixels_still_counts():
    frame, mask = torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.uint8)
    mask[0] = 2
    assert first_objects(frame, mask) == 2
    assert one_hot(mask, range(1, 3)).flatten(1).sum(1).tolist() == [0, 4]


def test_a_new_object_may_not_take_the_number_of_one_that_is_present():
    frame, new = torch.zeros(3, 4, 4), torch.ones(4, 4, dtype=torch.uint8)
    with pytest.raises(DataError, match="from 3"):
        late_objects(frame, new, present=2)


def test_the_long_side_is_truncated():
    assert short_side_size(720, 1281, short_side_px=480) == (480, 854)
    assert short_side_size(90, 150, short_side_px=64) == (64, 106)


def test_labels_are_resized_without_new_ids():
    labels = torch.tensor([[0, 7], [200, 7]], dtype=torch.uint8)
    assert set(resize_labels(labels, (5, 3)).unique().tolist()) <= {0, 7, 200}


def test_seeded_tensors_depend_on_the_key_only():
    one = seeded_tensor("a.conv.weight", (4, 3, 3, 3), gain=1.05)
    assert torch.equal(one, seeded_tensor("a.conv.weight", (4, 3, 3, 3), gain=1.05))
    assert not torch.equal(one, seeded_tensor("b.conv.weight", (4, 3, 3, 3), gain=1.05))
    assert (seeded_tensor("bn.running_var", (64,), gain=1.0) >= 1).all()


def test_a_checkpoint_of_another_layout_is_refused_with_counts_and_names():
    expected = {f"layer.{i}": torch.zeros(2) for i in range(9)}
    state = {f"other.{i}": torch.zeros(2) for i in range(3)} | {"layer.0": torch.zeros(3)}
    with pytest.raises(CheckpointError) as caught:
        checked(state, expected, what="a network")
    message = str(caught.value)
    assert "8 keys are missing (layer.1, layer.2, layer.3, layer.4, layer.5, ...)" in message
    assert "3 keys are unknown (other.0, other.1, other.2)" in message
    assert "layer.0: (3,) instead of (2,)" in message


def test_batch_counters_may_be_missing():
    expected = {"bn.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(0)}
    found = checked({"bn.weight": torch.ones(2)}, expected, what="a network")
    assert list(found) == list(expected)


def test_a_prefix_is_dropped_only_where_all_keys_have_it():
    assert set(without_prefix({"module.a": 1, "module.b": 2}, "module.")) == {"a", "b"}
    assert set(without_prefix({"module.a": 1, "b": 2}, "module.")) == {"module.a", "b"}
