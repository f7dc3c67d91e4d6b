"""The target-model family online: unusual objects and frames, seeds, upstream's faults as flags."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.inference.runner import Objects, segment_video
from vosrepro.methods import get_method
from vosrepro.methods.common.masks import most_likely
from vosrepro.methods.frtm.prepare import prepare
from vosrepro.methods.mtmfi.segmenter import SKIPPED_VIDEOS, MTMFISegmenter
from vosrepro.weights.files import load_strictly

FAMILY = ("frtm", "mtmfi", "gfrtm")
SMALL = {"backbone": "resnet10", "width": 8, "channels": 8, "stem_stride": 2, "norm": "group"}
QUICK = {"channels": 4, "init_iterations": [2, 2], "update_iterations": 2}
OPTIONS = {"views": 2, "update_every": 2, "memory": 6, "target": QUICK}


def _network(name, **changes):
    torch.manual_seed(0)
    return get_method(name).build(**{**SMALL, **changes}).eval()


def _run(name, network, video, mask, **options):
    return _pass(get_method(name).segmenter(network, **{**OPTIONS, **options}), video, mask)


def _pass(segmenter, video, mask):
    with torch.inference_mode():
        segmenter.init(video[0], mask)
        return torch.stack([segmenter.step(frame) for frame in video[1:]])


def _sound(found):
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("area", ["one pixel", "nine pixels", "the whole frame"])
def test_tiny_and_frame_filling_objects_are_segmented(name, area, square_video):
    mask = torch.zeros(square_video.shape[-2:], dtype=torch.uint8)
    if area == "the whole frame":
        mask[:] = 1
    else:
        mask[20:23, 30:33] = area == "nine pixels"
        mask[21, 31] = 1
    _sound(_run(name, _network(name), square_video, mask))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("size", [(33, 47), (96, 171)])
def test_odd_sizes_are_segmented(name, size, square_video):
    video = torch.nn.functional.interpolate(square_video[:3], size)
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[8:20, 9:25] = 1
    found = _run(name, _network(name), video, mask)
    assert found.shape[-2:] == size
    _sound(found)


@pytest.mark.parametrize("name", FAMILY)
def test_a_run_repeats_itself_and_another_seed_is_another_repetition(name, square_video, square_mask):
    network = _network(name)
    runs, filters = [], []
    for seed in (0, 0, 1):
        segmenter = get_method(name).segmenter(network, **OPTIONS, double_merge=False, seed=seed)
        runs.append(_pass(segmenter, square_video, square_mask))
        filters.append(segmenter.targets["layer4"].filters)
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(filters[0], filters[1])
    assert runs[0].std() > 0
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(filters[0], filters[2])


@pytest.mark.parametrize("name", FAMILY)
def test_objects_do_not_share_their_seed_with_those_before(name, square_video, square_mask):
    """Every object is seeded anew, so what came before it does not matter."""
    network = _network(name)
    segmenter = get_method(name).segmenter(network, **OPTIONS)
    first = segmenter._initial("layer4", 1)[0]
    segmenter.objects = 3
    again = segmenter._initial("layer4", 2)
    assert all(torch.equal(a, b) for pair in again for a, b in zip(first, pair, strict=True))


@pytest.mark.parametrize("name", FAMILY)
def test_weights_of_another_backbone_are_refused_naming_keys(name):
    narrow, wide = _network(name), _network(name, width=16)
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*conv1\.weight"):
        load_strictly(narrow, wide.state_dict(), source="other.safetensors")


@pytest.mark.parametrize("name", FAMILY)
def test_the_copy_for_inference_gives_the_same_probabilities(name, square_video, square_mask):
    network = _network(name, norm="batch")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    fast = prepare(network)
    batch_norms = [m for m in fast.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(batch_norms) == (1 if name == "gfrtm" else 0)  # the gate's
    found = [
        _run(name, n, square_video[:2], square_mask, target=QUICK | {"update_iterations": 1}) for n in (network, fast)
    ]
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("name", FAMILY)
def test_half_precision_segments(name, square_video, square_mask):
    fast = prepare(_network(name), precision="bf16")
    assert fast.backbone.conv1.weight.dtype == torch.bfloat16
    found = _run(name, fast, square_video[:3], square_mask)
    assert found.dtype == torch.float32
    _sound(found)


class _Source:
    """Two frames; the object with id 5 is there from the start, the one with id 2 begins later."""

    def __init__(self, name="video"):
        self.name = name
        self.frame_names = ["0", "1", "2"]
        self.starts = {2: "1", 5: "0"}

    def image(self, index):
        return np.full((16, 20, 3), 40 * index, np.uint8)

    def labels(self, name):
        labels = np.zeros((16, 20), np.uint8)
        labels[2:8, 2:8] = 5
        labels[9:14, 10:18] = 2
        return labels

    def where(self, name):
        return name


class _Repeat:
    """Returns the given labels again."""

    def __init__(self, **facts):
        for key, value in facts.items():
            setattr(self, key, value)

    def init(self, frame, mask):
        self.mask = mask

    def step(self, frame, new=None):
        if new is not None:
            self.mask = torch.where(new > 0, new, self.mask)
        count = int(self.mask.max()) + 1
        return torch.stack([(self.mask == k).float() for k in range(count)])


def _labels(segmenter, name="video"):
    results = segment_video(lambda: segmenter, _Source(name), device=torch.device("cpu"))
    return [result.labels for result in results]


def test_the_label_order_fault_exchanges_the_ids_of_objects_that_appear_in_another_order():
    right = _labels(_Repeat())[-1]
    wrong = _labels(_Repeat(labels_in_meta_order=True))[-1]
    assert (right[4, 4], right[10, 12]) == (5, 2)
    assert (wrong[4, 4], wrong[10, 12]) == (2, 5)
    assert np.array_equal(right > 0, wrong > 0)


def test_ids_are_right_by_default_and_wrong_on_request(square_mask):
    objects = Objects(written=[2, 5])
    objects.ids = [5]
    assert objects.restore(np.array([[0, 1]], np.uint8)).tolist() == [[0, 2]]
    assert get_method("frtm").segmenter(_network("frtm")).labels_in_meta_order is False
    flagged = get_method("frtm").segmenter(_network("frtm"), meta_label_order=True)
    assert flagged.labels_in_meta_order is True


def test_a_video_that_upstream_skips_gets_its_given_masks_only():
    segmenter = _Repeat(skipped_videos=("big",))
    labels = _labels(segmenter, name="big")
    assert [sorted(np.unique(frame)) for frame in labels] == [[0, 5], [0, 2], [0]]
    assert sorted(np.unique(_labels(segmenter)[-1])) == [0, 2, 5]


def test_mtmfi_skips_videos_only_on_request():
    network = _network("mtmfi", head="initial")
    assert MTMFISegmenter(network).skipped_videos == ()
    assert MTMFISegmenter(network, skip_videos=True).skipped_videos == SKIPPED_VIDEOS
    assert len(set(SKIPPED_VIDEOS)) == 6


def test_the_most_likely_label_is_that_of_argmax_also_on_ties():
    g = torch.Generator().manual_seed(0)
    probabilities = torch.randint(0, 4, (5, 30, 40), generator=g).float()
    assert torch.equal(most_likely(probabilities), probabilities.argmax(0).to(torch.uint8))
    assert most_likely(probabilities[:1]).max() == 0
