from __future__ import annotations

import pytest
import torch
from forked import start_ranks, torch_context

from vosrepro.base.errors import ConfigError
from vosrepro.methods import get_method
from vosrepro.methods.common.batchnorm import LocalBatchNorm2d, SyncedBatchNorm2d, synchronize
from vosrepro.methods.parts.learning.mask_loss import legacy_bilinear, mask_loss
from vosrepro.methods.parts.learning.own_guess import guess_earlier
from vosrepro.methods.parts.learning.pairs import Warp, follow_boxes, pick_parts, tight_boxes
from vosrepro.methods.parts.model import PartsNet
from vosrepro.methods.parts.schedule import imagenet_rate, linear_rate
from vosrepro.methods.parts.train import train_step
from vosrepro.study.params import load_method
from vosrepro.training.optimize import Optimizer, learning_rate

SMALL = {"widths": (8, 8, 16, 16), "width": 8}


def _net(**changes):
    torch.manual_seed(0)
    return PartsNet(**{**SMALL, **changes}).train()


def _images(count=6, classes=10):
    generator = torch.Generator().manual_seed(0)
    return {
        "frames": torch.rand(count, 1, 3, 32, 32, generator=generator),
        "classes": torch.arange(count) % classes,
    }


def _clips(frames=3, batch=4, size=(64, 80)):
    """A bright textured square on noise that moves by two pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(batch, frames, 3, *size, generator=generator) * 0.3
    masks = torch.zeros(batch, frames, 1, *size)
    patch = 0.5 + 0.5 * torch.rand(batch, 3, 28, 28, generator=generator)
    for t in range(frames):
        video[:, t, :, 18:46, 20 + 2 * t : 48 + 2 * t] = patch
        masks[:, t, 0, 18:46, 20 + 2 * t : 48 + 2 * t] = 1
    return {"frames": video, "masks": masks}


# ------------------------------------------------------------------------------------------- stage 0


def test_classification_learns_six_images():
    net, batch = _net(task="classify"), _images()
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
    losses = []
    for i in range(25):
        found = train_step(net, batch, iteration=i)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert float(found["top5"]) >= float(found["top1"]) > 0.8


def test_skipped_images_teach_nothing_and_are_counted():
    net, batch = _net(task="classify", bn="local").eval(), _images(4)
    full = train_step(net, {k: v[:2] for k, v in batch.items()}, iteration=0)
    batch["classes"][2:] = -1
    part = train_step(net, batch, iteration=0)
    assert torch.allclose(part["loss"], full["loss"], atol=1e-6)
    assert float(part["corrupt"]) == 0.5
    batch["classes"][:] = -1
    assert float(train_step(net, batch, iteration=0)["loss"].detach()) == 0


def test_tensorflows_labels_put_a_background_class_first():
    net, batch = _net(task="classify", classes=1001), _images(2)
    net.head.fc.weight.data.zero_()
    net.head.fc.bias.data.zero_()
    net.head.fc.bias.data[1] = 50  # 0-based class 0
    batch["classes"][:] = 0
    assert float(train_step(net, batch, iteration=0)["top1"]) == 1


def test_clips_without_classes_are_refused():
    with pytest.raises(ConfigError, match="kind 'image'"):
        train_step(_net(task="classify"), _clips(), iteration=0)


def test_the_full_recipe_has_the_published_schedule(in_root):
    stage = load_method("parts").sizes["full"].stages["s0"]
    assert stage.optimizer.lr == pytest.approx(linear_rate(stage.batch_size))
    for step in (0, 150150, 150151, 300300, 300301, 400401, 450450, 450451, 500499):
        ours = learning_rate(stage.optimizer, step, stage.steps)
        assert ours == pytest.approx(imagenet_rate(step, batch=256), rel=1e-9)


def test_weight_decay_spares_biases_and_scales(in_root):
    params = load_method("parts").sizes["full"].stages["s0"].optimizer
    net = _net(task="classify")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    Optimizer(params, net.named_parameters()).step(1.0)
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    trained = {n: p.ndim for n, p in net.named_parameters() if p.requires_grad}
    assert changed == {n for n, ndim in trained.items() if ndim >= 2}


# ---------------------------------------------------------------------------------- batch statistics


def test_synchronised_statistics_are_joined_and_local_ones_left_alone():
    shared, local = (
        synchronize(_net(task="classify")),
        synchronize(_net(task="classify", bn="local")),
    )
    kinds = {type(m) for m in shared.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert kinds == {SyncedBatchNorm2d}
    kinds = {type(m) for m in local.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert kinds == {LocalBatchNorm2d}


def _rank(rank, batch, port, queue):
    import torch.distributed as dist

    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    net = synchronize(_net(task="classify"))
    share = {name: value[rank::2] for name, value in batch.items()}
    train_step(net, share, iteration=0)["loss"].backward()
    norm, weight = net.backbone.layer1.bn1, net.backbone.layer1.conv1.weight
    gradient = weight.grad.clone()
    dist.all_reduce(gradient)
    if rank == 0:
        queue.put([t.numpy().copy() for t in (norm.running_mean, norm.running_var, gradient / 2)])
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_statistics_and_gradients_of_one():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    batch = _images(8)
    net = _net(task="classify")
    train_step(net, batch, iteration=0)["loss"].backward()
    context = torch_context()
    queue = context.Queue()
    ranks = [context.Process(target=_rank, args=(r, batch, port, queue)) for r in range(2)]
    for process in ranks:
        process.start()
    mean, variance, gradient = (torch.from_numpy(a) for a in queue.get(timeout=120))
    for process in ranks:
        process.join(60)
    norm = net.backbone.layer1.bn1
    assert torch.allclose(mean, norm.running_mean, atol=1e-6)
    assert torch.allclose(variance, norm.running_var, atol=1e-6)
    expected = net.backbone.layer1.conv1.weight.grad
    assert torch.allclose(gradient, expected, atol=1e-5 * float(expected.abs().max()) + 1e-6)


def _ddp_rank(rank, port):
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for task, frames in (("track", 2), ("segment", 3)):
        net = synchronize(_net(task=task))
        model = torch.nn.parallel.DistributedDataParallel(net)
        for i in range(2):  # the second step fails if a weight had no gradient in the first
            torch.manual_seed(10 * i + rank)
            batch = _clips(frames, batch=2, size=(64 + 32 * rank, 80))
            train_step(model, batch, iteration=i, parts=1, side_px=(12, 14))["loss"].backward()
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_whose_parts_lie_on_other_levels_train_together():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_ranks(_ddp_rank, (port,), count=2)


def test_frozen_statistics_stay():
    net = _net(task="track", freeze_norm=True)
    before = net.backbone.layer1.bn1.running_mean.clone()
    train_step(net, _clips(2), iteration=0)
    assert torch.equal(net.backbone.layer1.bn1.running_mean, before)
    assert float(net.track.bn.running_mean.abs().sum()) > 0


# --------------------------------------------------------------------------------- stages 1 and 2


@pytest.mark.parametrize(("task", "frames"), [("track", 2), ("segment", 3)])
def test_a_stage_reports_and_improves(task, frames):
    net, batch = _net(task=task), _clips(frames)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    losses = []
    for i in range(14):
        torch.manual_seed(i % 2)
        found = train_step(net, batch, iteration=i, parts=2, side_px=(10, 20))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    assert "error_cells" in found


def test_own_guesses_change_no_statistics_and_carry_no_gradient():
    net, batch = _net(task="segment"), _clips(3)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    frames, masks = batch["frames"], batch["masks"][:, :, 0]
    parts, _ = pick_parts(masks[:, 0], count=2, side_px=(10, 20))
    guess = guess_earlier(net, frames[:, :2], parts, parts, masks[:, 0], share_object=0.4)
    assert guess.shape == masks[:, 0].shape
    assert not guess.requires_grad
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    found = train_step(net, batch, iteration=0, own=1.0, parts=2, side_px=(10, 20))
    assert torch.isfinite(found["loss"])


@pytest.mark.parametrize("empty", [[0], [0, 1, 2, 3]])
def test_samples_without_an_object_teach_nothing_and_break_nothing(empty):
    batch = _clips(3)
    batch["masks"][empty] = 0
    found = train_step(_net(task="segment"), batch, iteration=0, parts=2, side_px=(10, 20))
    assert torch.isfinite(found["loss"])


def test_clips_of_another_length_are_refused():
    with pytest.raises(ConfigError, match="2 or 3 frames, not 4"):
        train_step(_net(task="segment"), _clips(4), iteration=0)


def test_an_unknown_task_is_refused():
    with pytest.raises(ConfigError, match="task 'detect'"):
        PartsNet(task="detect")


def test_the_class_head_stays_behind_and_everything_else_is_handed_on():
    method = get_method("parts")
    first, second = _net(task="classify"), _net(task="track")
    state = method.transfer(first.state_dict(), second)
    second.load_state_dict(state)
    assert torch.equal(second.backbone.layer1.conv1.weight, first.backbone.layer1.conv1.weight)
    assert not any(name.startswith("head.") for name in state)


def test_earlier_and_later_stages_have_their_own_weights_to_train():
    for task, idle in (("classify", "track"), ("track", "mask"), ("track", "adj_m")):
        net = _net(task=task)
        assert not any(p.requires_grad for p in net.get_submodule(idle).parameters())
    assert all(p.requires_grad for p in _net(task="segment").parameters())


# --------------------------------------------------------------------------------------------- pairs


def test_parts_of_a_warped_frame_are_where_the_warp_puts_their_pixels():
    torch.manual_seed(3)
    warp = Warp.draw(1, (64, 80), device=torch.device("cpu"))
    places = torch.tensor([[[30.0, 30.0], [50.0, 25.0], [40.0, 40.0]]])
    moved = warp.points(places)
    for (x, y), target in zip(places[0].tolist(), moved[0], strict=True):
        dot = torch.zeros(1, 1, 64, 80)
        rows, columns = torch.arange(64)[:, None] + 0.5, torch.arange(80)[None] + 0.5
        dot[0, 0] = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
        image = warp.images(dot)[0, 0]
        center = torch.stack([(image * columns).sum(), (image * rows).sum()]) / image.sum()
        assert torch.allclose(center, target, atol=0.3)


def test_half_of_a_warp_is_between_nothing_and_all_of_it():
    torch.manual_seed(0)
    warp = Warp.draw(1, (64, 80), device=torch.device("cpu"))
    places = torch.tensor([[[30.0, 30.0]]])
    half, full = warp.partly(0.5).points(places), warp.points(places)
    assert 0.2 < float((half - places).norm() / (full - places).norm()) < 0.8


def test_parts_follow_the_box_of_their_object():
    before, after = torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[20.0, 10, 60, 50]])
    parts = torch.tensor([[[20.0, 30, 40], [10.0, 10, 8], [30.0, 50, 8]]])
    moved = follow_boxes(parts, before, after)
    assert moved[0, 0].tolist() == [40, 30, 40]
    assert moved[0, 1, :2].tolist() == [20, 10]
    assert moved[0, 2, :2].tolist() == [60, 50]
    assert float(moved[0, 1, 2]) == pytest.approx(8 * 2**0.5)


def test_drawn_parts_lie_on_the_object_and_inside_of_the_frame():
    torch.manual_seed(0)
    masks = torch.zeros(3, 60, 70)
    masks[0, 10:40, 20:60] = 1
    masks[1, 0:12, 0:50] = 1
    parts, valid = pick_parts(masks, count=4, side_px=(8, 20))
    assert not valid[2].any()  # nothing there
    for b in range(2):
        assert valid[b, 0]
        for (x, y, side), good in zip(parts[b, 1:].tolist(), valid[b, 1:].tolist(), strict=True):
            if good:
                assert masks[b, int(y), int(x)] == 1
                assert side / 2 <= min(x, y, 70 - x, 60 - y) + 1e-4


def test_boxes_are_tight_and_an_empty_mask_has_the_whole_frame():
    masks = torch.zeros(2, 20, 30)
    masks[0, 3:7, 4:9] = 1
    boxes, found = tight_boxes(masks)
    assert boxes.tolist() == [[4, 3, 9, 7], [0, 0, 30, 20]]
    assert found.tolist() == [True, False]


def test_a_perfect_mask_costs_nothing_and_an_inverted_one_much():
    target = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert float(mask_loss(40 * (2 * target - 1), target).max()) < 1e-3
    assert float(mask_loss(-40 * (2 * target - 1), target).min()) > 10


def test_tensorflow_1_resizing_has_no_half_pixel_shift():
    line = torch.arange(3.0).expand(1, 3, 3)
    assert legacy_bilinear(line, 6)[0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["s1", "s2", "s1-torchvision", "s2-torchvision"])
def test_the_full_networks_of_all_stages_fit_each_other(in_root, stage):
    size = load_method("parts").sizes["full"]
    with torch.device("meta"):
        made = {**size.model, **size.stages[stage].model, "pretrained": None}
        net = PartsNet(**made)
        before = PartsNet(**{**made, "task": "classify"})
    state = get_method("parts").transfer(before.state_dict(), net)
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert net.level_range == (2, 5)
