from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.methods import get_method
from vosrepro.methods.pml.cells import cell_fractions
from vosrepro.methods.pml.model import PML
from vosrepro.methods.pml.segmenter import PMLSegmenter
from vosrepro.study.params import load_method

TINY = {
    "norm": "batch",
    "initial_std": None,
    "cell_px": 4,
    "width": 4,
    "blocks": (1, 1, 0, 0),
    "hidden_dim": 16,
    "embedding_dim": 16,
    "coords": "ij",
}


class Colors(torch.nn.Module):
    """Embeds a cell by its mean color and, weakly, its place."""

    cell_px = 4

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, frames, times=None):
        size = tuple(n // 4 + 1 for n in frames.shape[2:])
        colors = cell_fractions(frames[0], size, geometry="aligned", cell_px=4) - 0.4
        y, x = torch.meshgrid(*(torch.linspace(0, 0.05, n) for n in size), indexing="ij")
        constant = torch.full_like(x, 0.3)
        return F.normalize(torch.cat([colors * self.scale, torch.stack([y, x, constant])]), dim=0)[None]


@pytest.fixture
def model():
    return Colors().eval()


def video(frames=4, size=(48, 64), objects=1):
    """Colored squares on grey noise that move one pixel a frame."""
    generator = torch.Generator().manual_seed(0)
    background = 0.4 + 0.05 * torch.rand(3, *size, generator=generator)
    images, masks = [], []
    for t in range(frames):
        image, mask = background.clone(), torch.zeros(size, dtype=torch.uint8)
        for i in range(objects):
            left = 4 + 20 * i + t
            image[:, 8:24, left : left + 16] = 0.1
            image[i % 3, 8:24, left : left + 16] = 0.9
            mask[8:24, left : left + 16] = i + 1
        images.append(image)
        masks.append(mask)
    return images, masks


def overlap(probs, mask, label=1):
    ours, theirs = probs.argmax(0) == label, mask == label
    return float((ours & theirs).sum() / (ours | theirs).sum())


@pytest.mark.parametrize("objects", [1, 2, 3])
@pytest.mark.parametrize("vote", ["hard", "soft", "margin"])
def test_probabilities_have_the_promised_form_and_follow_the_objects(model, objects, vote):
    images, masks = video(objects=objects)
    segmenter = PMLSegmenter(model, vote=vote, adapt={"max_frames": 2})
    segmenter.init(images[0], masks[0])
    for image, mask in zip(images[1:], masks[1:], strict=True):
        probs = segmenter.step(image)
        assert probs.shape == (objects + 1, 48, 64)
        assert probs.dtype == torch.float32
        assert float(probs.min()) >= 0
        assert torch.allclose(probs.sum(0), torch.ones(48, 64), atol=1e-5)
        for label in range(1, objects + 1):
            assert overlap(probs, mask, label) > 0.6


@pytest.mark.parametrize("size", [(47, 55), (39, 71), (41, 50)])
def test_odd_sizes_and_sides_of_7_mod_8_pass(size):
    images, masks = video(size=size)
    model = PML(**{**TINY, "cell_px": 8}).eval()
    for geometry in ("aligned", "half-pixel"):
        segmenter = PMLSegmenter(model, geometry=geometry, refine={"kind": "guided"})
        segmenter.init(images[0], masks[0])
        assert segmenter.step(images[1]).shape == (2, *size)


def test_an_object_that_begins_late_joins_with_its_own_cells(model):
    images, masks = video(frames=4, objects=2)
    (first, *_), (mask, *_) = video(objects=1)  # where the second is not yet there
    segmenter = PMLSegmenter(model)
    segmenter.init(first, mask)
    before = segmenter.pool_size
    new = masks[1] * (masks[1] == 2)
    probs = segmenter.step(images[1], new)
    assert probs.shape[0] == 3
    assert torch.equal(probs.argmax(0) == 2, masks[1] == 2)
    assert 0 < segmenter.pool_size - before <= 30
    later = segmenter.step(images[2])
    assert overlap(later, masks[2], 1) > 0.5
    assert overlap(later, masks[2], 2) > 0.5


def test_a_late_object_smaller_than_a_cell_still_joins(model):
    images, masks = video()
    for reference in ("area", "center"):
        segmenter = PMLSegmenter(model, reference=reference)
        segmenter.init(images[0], masks[0])
        new = torch.zeros_like(masks[0])
        new[41, 50] = 2
        before = segmenter.pool_size
        assert segmenter.step(images[1], new).shape[0] == 3
        assert segmenter.pool_size == before + 1


def test_frames_are_independent_without_adaptation_and_not_with_it(model):
    images, masks = video(frames=5)
    for adapt, independent in ((None, True), ({"max_frames": 3, "agree": 3}, False)):
        whole, short = (PMLSegmenter(model, adapt=adapt) for _ in range(2))
        whole.init(images[0], masks[0])
        short.init(images[0], masks[0])
        for image in images[1:4]:
            whole.step(image)
        last, alone = whole.step(images[4]), short.step(images[4])
        assert torch.equal(last, alone) is independent
        assert (whole.pool_size == short.pool_size) is independent


def test_a_mask_that_covers_everything_leaves_nothing_to_the_background(model):
    images, masks = video()
    segmenter = PMLSegmenter(model, vote="margin")
    segmenter.init(images[0], torch.ones_like(masks[0]))
    assert int((segmenter.step(images[1]).argmax(0) == 0).sum()) == 0


def test_clicks_are_reference_cells_of_their_own(model):
    images, masks = video(frames=2)
    images[1] += 0.02 * torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(1))
    segmenter = PMLSegmenter(model, neighbors=1)
    segmenter.init(images[0], masks[0])
    before = segmenter.step(images[1])[1]
    segmenter.add_clicks(images[1], {(40, 56): 1})
    after = segmenter.step(images[1])[1]
    assert float(before[40, 56]) < 0.5 < float(after[40, 56])
    with pytest.raises(ConfigError, match="click at row 99, column 0"):
        segmenter.add_clicks(images[1], {(99, 0): 1})


def test_diverged_weights_are_named(model):
    images, masks = video()
    with torch.no_grad():
        model.scale.fill_(torch.nan)
    segmenter = PMLSegmenter(model)
    segmenter.init(images[0], masks[0])
    with pytest.raises(CheckpointError, match="not finite: the weights have diverged"):
        segmenter.step(images[1])


def test_wrong_settings_and_masks_are_refused(model):
    images, masks = video()
    with pytest.raises(ConfigError, match="vote 'firm'"):
        PMLSegmenter(model, vote="firm")
    with pytest.raises(ConfigError, match="unknown setting of refinement"):
        PMLSegmenter(model, refine={"kind": "solver", "lambda": 3})
    with pytest.raises(DataError, match="first mask is empty"):
        PMLSegmenter(model).init(images[0], torch.zeros_like(masks[0]))
    tiny = PMLSegmenter(model, neighbors=500)
    tiny.init(images[0], masks[0])
    with pytest.raises(ConfigError, match="500 nearest neighbours were asked for"):
        tiny.step(images[1])


@pytest.mark.contract
def test_every_variant_and_size_of_the_parameter_file_can_be_built(in_root):
    params, card = load_method("pml"), get_method("pml")
    images, masks = video(frames=2)
    for size in params.sizes.values():
        for stage in size.stages.values():
            small = {"width": 4, "blocks": (1, 1, 0, 0), "start": None}
            network = card.build(**{**size.model, **stage.model, **small})
            assert network.cell_px == stage.loss["cell_px"]
    mini = params.sizes["mini"]
    torch.manual_seed(0)
    network = card.build(**mini.model).eval()
    for name, variant in params.variants.items():
        settings = {**variant, **mini.variants.get(name, {})}
        segmenter = card.segmenter(network, **settings)
        segmenter.init(images[0], masks[0])
        assert torch.isfinite(segmenter.step(images[1])).all(), name
