"""What every registered method must do; a new method is tested by being in the registry."""

from __future__ import annotations

import pytest
import torch
from mini_batches import clip_batch, first_mask, settings, smooth_video
from torch import nn

from vosrepro.base.errors import ConfigError, DataError
from vosrepro.base.types import Correctable, Counting, MetaOrdered, Previewing, Skipping, Viewed
from vosrepro.methods import REGISTRY, get_method
from vosrepro.study.params import load_method

pytestmark = pytest.mark.contract

TRAINED = [name for name in sorted(REGISTRY) if get_method(name).trainable]
SIZES = [(64, 96), (67, 101), (101, 67)]  # even, odd, portrait


@pytest.fixture(params=sorted(REGISTRY))
def name(request):
    return request.param


@pytest.fixture
def new(name, in_root):
    """Makes segmenters of one network in the method's default variant."""
    method, params = get_method(name), load_method(name)
    torch.manual_seed(0)
    size = params.sizes["mini"]
    model = None if method.build is None else method.build(**size.model).eval()
    options = settings(params, "mini", params.default_variant)
    return lambda: method.segmenter(model, **options)


def _check(probabilities, objects, size):
    assert probabilities.shape == (objects + 1, *size)
    assert probabilities.dtype == torch.float32
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(0), torch.ones(size), atol=1e-5, rtol=0)


def _run(segmenter, frames, mask):
    with torch.inference_mode():
        segmenter.init(frames[0], mask)
        return [segmenter.step(frame) for frame in frames[1:]]


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_probabilities_have_the_shape_of_the_frame_and_sum_to_one(new, objects):
    size = SIZES[objects - 1]
    for probabilities in _run(new(), smooth_video(size), first_mask(size, objects)):
        _check(probabilities, objects, size)


def test_an_object_that_begins_later_gets_its_own_channel_and_its_mask(new):
    size = SIZES[0]
    frames, segmenter = smooth_video(size, frames=4), new()
    late = torch.zeros(size, dtype=torch.uint8)
    late[40:60, 60:90] = 2
    with torch.inference_mode():
        segmenter.init(frames[0], first_mask(size, 1))
        _check(segmenter.step(frames[1]), 1, size)
        begun = segmenter.step(frames[2], late)
        _check(begun, 2, size)
        assert (begun.argmax(0)[late > 0] == 2).all()
        _check(segmenter.step(frames[3]), 2, size)


def test_a_corrected_mask_is_taken_with_objects_that_are_not_seen_and_one_that_begins(new):
    size, segmenter = SIZES[0], new()
    if not isinstance(segmenter, Correctable):
        return  # TRAITS below says which
    frames = smooth_video(size, frames=4)
    mended = torch.zeros(size, dtype=torch.uint8)
    mended[4:24, 8:40], mended[40:60, 60:90] = 1, 3  # object 2 is not drawn
    with torch.inference_mode():
        segmenter.init(frames[0], first_mask(size, 2))
        segmenter.step(frames[1])
        segmenter.correct(frames[2], mended)
        _check(segmenter.step(frames[3]), 3, size)


def test_two_runs_give_the_same_result(new):
    frames, mask = smooth_video(SIZES[0]), first_mask(SIZES[0], 2)
    for one, other in zip(_run(new(), frames, mask), _run(new(), frames, mask), strict=True):
        assert torch.equal(one, other)


def test_what_comes_later_does_not_change_an_earlier_result(new):
    size = SIZES[0]
    frames, mask = smooth_video(size, frames=4), first_mask(size, 1)
    other = frames.clone()
    other[3] = 1 - other[3]
    assert torch.equal(_run(new(), frames, mask)[1], _run(new(), other, mask)[1])


def test_an_empty_first_mask_is_refused_in_a_sentence(new):
    with pytest.raises(DataError, match="empty"):
        new().init(smooth_video(SIZES[0])[0], torch.zeros(SIZES[0], dtype=torch.uint8))


def test_a_mask_of_another_size_than_the_frame_is_refused(new):
    with pytest.raises(DataError, match="64 x 96"):
        new().init(smooth_video(SIZES[0])[0], first_mask((64, 95), 1))


# ---------------------------------------------------------------------------------------- training


class _Counted(nn.Module):
    """A wrapper like DistributedDataParallel that counts calls of the network."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.module(*args, **kwargs)


#: Optional traits by method: a misspelt one would be silently without effect.
TRAITS = {
    "copy": {Correctable},
    "flow": {Correctable},
    "stm": {Correctable, Previewing},
    "pml": {Correctable},
    "frtm": {Correctable, MetaOrdered},
    "mtmfi": {Correctable, MetaOrdered, Skipping},
    "gfrtm": {Correctable, MetaOrdered, Counting},
    "parts": {Viewed},
}


def test_a_segmenter_has_the_traits_that_are_known_of_it(new, name):
    every = {Correctable, Previewing, MetaOrdered, Skipping, Counting, Viewed}
    segmenter = new()
    assert {trait for trait in every if isinstance(segmenter, trait)} == TRAITS.get(name, set())
    assert (get_method(name).draw is not None) == isinstance(segmenter, Viewed)


@pytest.mark.parametrize("name", TRAINED)
def test_one_call_of_the_network_gives_every_trainable_weight_a_gradient(name, in_root):
    method, size = get_method(name), load_method(name).sizes["mini"]
    for stage in size.stages.values():
        if stage.clips.kind not in ("static", "video"):
            continue  # tested beside the method that brings the kind
        torch.manual_seed(0)
        model = method.build(**{**size.model, **stage.model}).train()
        wrapped = _Counted(model)
        found = method.train_step(wrapped, clip_batch(stage.clips), iteration=0, **stage.loss)
        assert wrapped.calls == 1
        found["loss"].backward()
        assert torch.isfinite(found["loss"])
        without = [
            key
            for key, p in model.named_parameters()
            if p.requires_grad and (p.grad is None or (p.ndim > 1 and not p.grad.any()))
        ]
        assert not without


@pytest.mark.parametrize("name", TRAINED)
def test_each_stage_starts_from_the_weights_of_the_one_before(name, in_root):
    method, size = get_method(name), load_method(name).sizes["mini"]
    for recipe in size.recipes.values():
        state = None
        for stage in recipe.stages:
            model = method.build(**{**size.model, **size.stages[stage].model})
            if state is not None:
                model.load_state_dict(method.transfer(state, model) if method.transfer else state)
            state = model.state_dict()


def test_an_unknown_method_is_answered_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'flow'"):
        get_method("flo")
