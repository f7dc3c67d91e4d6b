"""The memory schedule, late objects, and that every shortcut leaves the result as it is."""

from __future__ import annotations

import pytest
import torch

from vosrepro.lab.parity.stm_plain import PlainSegmenter
from vosrepro.methods.stm.model import STM
from vosrepro.methods.stm.original import OriginalSTM
from vosrepro.methods.stm.prepare import prepare
from vosrepro.methods.stm.segmenter import STMSegmenter

TINY = {
    "width": 8,
    "key_dim": 8,
    "value_dim": 16,
    "blocks": (1, 1, 1),
    "decoder_dim": 8,
    "norm": "batch",
    "memory_stride": 8,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = STM(**TINY).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


@pytest.fixture
def two_objects(square_mask):
    square_mask[30:38, 30:50] = 2
    return square_mask


def _run(segmenter, frames, mask):
    segmenter.init(frames[0], mask)
    return torch.stack([segmenter.step(frame) for frame in frames[1:]])


class _Recorded(STMSegmenter):
    """Notes what is remembered, by the frame's index."""

    def _remember(self, entry):
        self.log = [*getattr(self, "log", []), (self._index, entry.permanent)]
        super()._remember(entry)


def test_first_every_nth_and_last_frame_are_remembered_and_the_very_last_is_not(model, square_video, square_mask):
    segmenter = _Recorded(model, memory_every_frames=2)
    _run(segmenter, square_video, square_mask)
    # The entry is made while its successor is asked for.
    expected = [(0, True), (1, False), (2, True), (3, False), (4, True)]
    assert segmenter.log == expected


@pytest.mark.parametrize("top_k", [None, 10])
def test_batched_objects_equal_one_object_at_a_time(model, square_video, two_objects, top_k):
    settings = {"top_k": top_k, "memory_every_frames": 2}
    fast = _run(STMSegmenter(model, **settings), square_video, two_objects)
    plain = _run(PlainSegmenter(model, **settings), square_video, two_objects)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


def test_features_computed_ahead_give_the_same_result(model, square_video, two_objects):
    ahead = STMSegmenter(model, preview_frames=4)
    ahead.preview(square_video)
    torch.testing.assert_close(
        _run(ahead, square_video, two_objects),
        _run(STMSegmenter(model), square_video, two_objects),
        atol=1e-5,
        rtol=0,
    )


def test_the_prepared_network_gives_the_same_result(model, square_video, two_objects):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = prepare(model)
    torch.testing.assert_close(
        _run(STMSegmenter(fast), square_video, two_objects),
        _run(STMSegmenter(model), square_video, two_objects),
        atol=1e-5,
        rtol=0,
    )
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fast.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_result(model, square_video, two_objects, precision):
    half = _run(STMSegmenter(prepare(model, precision=precision)), square_video, two_objects)
    assert half.dtype == torch.float32
    error = (half - _run(STMSegmenter(model), square_video, two_objects)).abs().max()
    assert 0 < error < 0.02


def test_late_objects_are_as_if_each_object_had_its_own_memory(model, square_video, square_mask):
    """Upstream keeps one memory per object; the batched one must give the same."""
    late = torch.zeros_like(square_mask)
    late[28:38, 30:50] = 2
    segmenter = STMSegmenter(model, top_k=None, memory_every_frames=2)
    segmenter.init(square_video[0], square_mask)
    found = [segmenter.step(square_video[t], late if t == 2 else None) for t in range(1, 6)]
    for ours, theirs in zip(found, _late_oracle(model, square_video, square_mask, late), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@torch.no_grad()
def _late_oracle(model, frames, first, late, begin=2, every=2):
    """One list of memories per object, after the definition of the YouTube-VOS loop."""
    from vosrepro.methods.common.aggregation import aggregate
    from vosrepro.methods.stm.memory import read

    x = model.normalize(frames)  # 40 x 56 needs no padding at stride 8

    def memorize(t, probabilities):
        key, value = model.encode_memory(x[t : t + 1], probabilities[None, 1:])
        return [(key[i], value[i]) for i in range(len(probabilities) - 1)]

    previous = aggregate((first == 1)[None].float())
    kept = [[pair] for pair in memorize(0, previous)]
    temporary, last, outputs = [[]], 0, []
    for t in range(1, len(frames)):
        query = model.encode_query(x[t : t + 1])
        objects = []
        for entries, extra in zip(kept, temporary, strict=True):
            keys, values = (torch.cat(parts) for parts in zip(*entries, *extra, strict=True))
            readout = read(query.key, keys[None], values[None])
            objects.append(torch.sigmoid(model.decode(readout, query)))
        objects = torch.cat(objects)
        if t == begin:
            old = aggregate(objects)[1:] * (late == 0)
            objects = torch.cat([old, (late == 2)[None].float()])
            kept, temporary = [*kept, []], [*temporary, []]
        outputs.append(aggregate(objects))
        new = memorize(t, outputs[-1])
        if t == begin or t - last >= every:
            kept, temporary, last = (
                [[*e, n] for e, n in zip(kept, new, strict=True)],
                [[]] * len(new),
                t,
            )
        else:
            temporary = [[n] for n in new]
    return outputs


def test_a_bounded_memory_stays_bounded(model, square_video, square_mask):
    segmenter = STMSegmenter(model, memory_every_frames=1, max_memory_entries=3)
    segmenter.init(square_video[0], square_mask)
    for _ in range(3):
        for frame in square_video:
            segmenter.step(frame)
    assert segmenter._memory.entries <= 3


def test_fewer_memory_cells_than_k_are_all_read(model):
    frames, mask = torch.rand(3, 3, 9, 17), torch.ones(9, 17, dtype=torch.uint8)
    found = _run(STMSegmenter(model, top_k=50), frames, mask)
    torch.testing.assert_close(found, _run(STMSegmenter(model, top_k=None), frames, mask))


def test_a_frame_that_was_not_in_the_preview_is_an_error(model, square_video, square_mask):
    segmenter = STMSegmenter(model)
    segmenter.preview(square_video[:2])
    segmenter.init(square_video[0], square_mask)
    segmenter.step(square_video[1])
    with pytest.raises(IndexError, match="not in the preview of 0 to 1"):
        segmenter.step(square_video[2])


@pytest.mark.slow
def test_the_original_network_runs_and_is_prepared_without_change(square_video, two_objects):
    torch.manual_seed(0)
    model = OriginalSTM().eval()
    frames = square_video[:3]
    found = _run(STMSegmenter(model, top_k=None), frames, two_objects)
    fast = _run(STMSegmenter(prepare(model), top_k=None), frames, two_objects)
    torch.testing.assert_close(found, fast, atol=1e-5, rtol=0)
