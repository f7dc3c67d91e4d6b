from __future__ import annotations

import pytest
import torch

from vosrepro.base.errors import CheckpointError, ConfigError
from vosrepro.study.params import OptimizerParams, load_method
from vosrepro.training.optimize import Optimizer, _grouped, learning_rate


def problem(seed=0):
    torch.manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
    return parameters, torch.randn(3, 4)


def named(parameters):
    return [(f"layer{i}.weight", p) for i, p in enumerate(parameters)]


def loss(parameters, x):
    return ((parameters[0] @ x) ** 2).mean() + (parameters[1] ** 4).sum()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
        ("adam-amsgrad", lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1, momentum=0.9)),
    ],
)
def test_updates_equal_torchs_own(name, reference):
    ours, x = problem()
    theirs, _ = problem()
    kind, _, amsgrad = name.partition("-")
    params = OptimizerParams(name=kind, lr=1.0, weight_decay=0.1, amsgrad=bool(amsgrad))
    optimizer = Optimizer(params, named(ours))
    other = reference(theirs)
    for _ in range(5):
        loss(ours, x).backward()
        optimizer.step(0.05)
        optimizer.zero_grad()
        other.zero_grad()
        loss(theirs, x).backward()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_restored_optimizer_goes_on_with_the_same_bits():
    ours, x = problem()
    params = OptimizerParams(lr=0.05)
    optimizer = Optimizer(params, named(ours))

    def steps(parameters, optimizer, count):
        for _ in range(count):
            loss(parameters, x).backward()
            optimizer.step(0.05)
            optimizer.zero_grad()

    steps(ours, optimizer, 3)
    saved = (
        [p.detach().clone() for p in ours],
        {k: [t.clone() for t in v] if isinstance(v, list) else v for k, v in optimizer.state_dict().items()},
    )
    steps(ours, optimizer, 3)
    again = [torch.nn.Parameter(p.clone()) for p in saved[0]]
    other = Optimizer(params, named(again))
    other.load_state_dict(saved[1])
    steps(again, other, 3)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def test_parameters_without_gradient_stay():
    ours, x = problem()
    optimizer = Optimizer(OptimizerParams(lr=1.0), named(ours))
    before = ours[1].detach().clone()
    (ours[0] @ x).sum().backward()
    optimizer.step(0.1)
    assert torch.equal(ours[1], before)


def test_clipping_limits_the_joint_norm():
    ours, x = problem()
    optimizer = Optimizer(OptimizerParams(lr=1.0), named(ours))
    (1000 * loss(ours, x)).backward()
    optimizer.clip(0.5)
    assert torch.stack([p.grad.norm() for p in ours]).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_the_state_of_another_optimizer_is_refused():
    ours, _ = problem()
    state = Optimizer(OptimizerParams(lr=1.0), named(ours[:1])).state_dict()
    with pytest.raises(CheckpointError, match="'adam' with 1 parameters, not 'sgd' with 2"):
        Optimizer(OptimizerParams(name="sgd", lr=1.0), named(ours)).load_state_dict(state)


@pytest.mark.oracle
def test_step_schedule_equals_multi_step_lr():
    params = OptimizerParams(lr=0.1, lr_drop_steps=(3, 7))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7])
    for step in range(10):
        assert learning_rate(params, step, 10) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_warmup_cosine_and_poly_have_the_right_ends():
    cosine = OptimizerParams(lr=1.0, lr_warmup_steps=4, schedule="cosine")
    assert [learning_rate(cosine, s, 104) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(cosine, 4, 104) == 1.0
    assert learning_rate(cosine, 54, 104) == pytest.approx(0.5)
    assert learning_rate(cosine, 103, 104) < 0.01
    poly = OptimizerParams(lr=2.0, schedule="poly")
    assert learning_rate(poly, 0, 100) == 2.0
    assert learning_rate(poly, 50, 100) == pytest.approx(2 * 0.5**0.9)


def test_training_does_not_load_torchs_compiler():
    """It costs seconds at every start."""
    import subprocess
    import sys

    code = (
        "import sys, torch\n"
        "from vosrepro.study.params import OptimizerParams as P\n"
        "from vosrepro.training.optimize import Optimizer\n"
        "import vosrepro.training.loop\n"
        "p = [torch.nn.Parameter(torch.ones(2))]\n"
        "o = Optimizer(P(lr=1.0), [('p', p[0])]); p[0].sum().backward(); o.clip(1.0); o.step(0.1)\n"
        "print([m for m in ('torch._dynamo', 'torchvision', 'pandas') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_groups_have_their_own_rate_decay_and_number_of_updates():
    ours, x = problem()
    theirs, _ = problem()
    groups = ({"prefixes": ["layer1."], "lr_factor": 10.0, "weight_decay": 0.0, "updates_per_step": 2},)
    params = OptimizerParams(name="sgd", lr=1.0, weight_decay=0.1, groups=groups)
    optimizer = Optimizer(params, named(ours))
    rest = torch.optim.SGD(theirs[:1], lr=0.01, weight_decay=0.1, momentum=0.9)
    head = torch.optim.SGD(theirs[1:], lr=0.1, momentum=0.9)
    for _ in range(4):
        loss(ours, x).backward()
        optimizer.step(0.01)
        optimizer.zero_grad()
        rest.zero_grad()
        head.zero_grad()
        loss(theirs, x).backward()
        rest.step()
        head.step()
        head.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_group_that_names_no_parameter_is_an_error_with_the_names():
    ours, _ = problem()
    params = OptimizerParams(lr=1.0, groups=({"prefixes": ["head."]},))
    with pytest.raises(ConfigError, match=r"begins with head\., .*: the names begin with layer0, layer1"):
        Optimizer(params, named(ours))


def test_biases_of_the_backbone_of_parts_are_as_slow_as_its_kernels(in_root):
    params = load_method("parts").sizes["full"].stages["s1"].optimizer
    shapes = {"backbone.conv.weight": (2, 2), "backbone.bn.bias": (2,), "head.weight": (2, 2), "head.bias": (2,)}
    named = [(name, torch.nn.Parameter(torch.zeros(shape))) for name, shape in shapes.items()]
    groups = {named[place][0]: group for group in _grouped(params, named) for place in group.places}
    assert {name: group.lr_factor for name, group in groups.items()} == {
        "backbone.conv.weight": 0.1,
        "backbone.bn.bias": 0.1,
        "head.weight": 1.0,
        "head.bias": 1.0,
    }
    assert [name for name, group in groups.items() if group.weight_decay] == ["backbone.conv.weight", "head.weight"]
