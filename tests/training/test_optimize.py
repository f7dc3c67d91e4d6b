from __future__ import annotations

import pytest
import torch

from vosrepro.errors import CheckpointError
from vosrepro.params import OptimizerParams
from vosrepro.training.optimize import Optimizer, learning_rate


def problem(seed=0):
    torch.manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
    return parameters, torch.randn(3, 4)


def loss(parameters, x):
    return ((parameters[0] @ x) ** 2).mean() + (parameters[1] ** 4).sum()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1, momentum=0.9)),
    ],
)
def test_updates_equal_torchs_own(name, reference):
    ours, x = problem()
    theirs, _ = problem()
    optimizer = Optimizer(OptimizerParams(name=name, lr=1.0, weight_decay=0.1), ours)
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
    optimizer = Optimizer(params, ours)

    def steps(parameters, optimizer, count):
        for _ in range(count):
            loss(parameters, x).backward()
            optimizer.step(0.05)
            optimizer.zero_grad()

    steps(ours, optimizer, 3)
    saved = (
        [p.detach().clone() for p in ours],
        {
            k: [t.clone() for t in v] if isinstance(v, list) else v
            for k, v in optimizer.state_dict().items()
        },
    )
    steps(ours, optimizer, 3)
    again = [torch.nn.Parameter(p.clone()) for p in saved[0]]
    other = Optimizer(params, again)
    other.load_state_dict(saved[1])
    steps(again, other, 3)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def test_parameters_without_gradient_stay():
    ours, x = problem()
    optimizer = Optimizer(OptimizerParams(lr=1.0), ours)
    before = ours[1].detach().clone()
    (ours[0] @ x).sum().backward()
    optimizer.step(0.1)
    assert torch.equal(ours[1], before)


def test_clipping_limits_the_joint_norm():
    ours, x = problem()
    optimizer = Optimizer(OptimizerParams(lr=1.0), ours)
    (1000 * loss(ours, x)).backward()
    optimizer.clip(0.5)
    assert torch.stack([p.grad.norm() for p in ours]).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_the_state_of_another_optimizer_is_refused():
    ours, _ = problem()
    state = Optimizer(OptimizerParams(lr=1.0), ours[:1]).state_dict()
    with pytest.raises(CheckpointError, match="'adam' with 1 parameters, not 'sgd' with 2"):
        Optimizer(OptimizerParams(name="sgd", lr=1.0), ours).load_state_dict(state)


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
        "from vosrepro.params import OptimizerParams as P\n"
        "from vosrepro.training.optimize import Optimizer\n"
        "import vosrepro.training.loop\n"
        "p = [torch.nn.Parameter(torch.ones(2))]\n"
        "o = Optimizer(P(lr=1.0), p); p[0].sum().backward(); o.clip(1.0); o.step(0.1)\n"
        "print([m for m in ('torch._dynamo', 'torchvision', 'pandas') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
