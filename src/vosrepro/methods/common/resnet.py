"""The stem and the stages of post-activation ResNets, with torchvision's key names: its weights load as they are.

Networks choose their blocks, widths, strides, normalization and how many stages they need, and look at what each
stage yields. Apart from it are `pml`'s network (dilated, with the stride on another convolution) and the
pre-activation ResNet of `parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError

#: Of ImageNet's red, green and blue in [0, 1]: what all weights of torchvision expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: From a number of channels to their normalization.
Norm = Callable[[int], nn.Module]


class _Residual(nn.Module):
    """Convolutions around which a shortcut leads."""

    downsample: nn.Module | None
    #: Compute the shortcut before the convolutions beside it, see `ResNet`.
    shortcut_first = False

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the shortcut."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        if self.downsample is None:
            around, y = x, self.body(x)
        elif self.shortcut_first:
            around, y = self.downsample(x), self.body(x)
        else:
            y, around = self.body(x), self.downsample(x)
        return F.relu(y + around, inplace=True)


class BasicBlock(_Residual):
    """Two 3x3 convolutions, the first of which carries the stride: from `inputs` to `planes` channels."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, *, stride: int, norm: Norm, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=bias)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=bias)
        self.bn2 = norm(planes)
        self.downsample = _shortcut(inputs, planes, stride, norm, bias)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `_Residual`."""
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))


class Bottleneck(_Residual):
    """1x1, 3x3 (with the stride, as in torchvision) and 1x1 convolutions: from `inputs` to `4 * planes` channels."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, *, stride: int, norm: Norm, bias: bool = False) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=bias)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=bias)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=bias)
        self.bn3 = norm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm, bias)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `_Residual`."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return self.bn3(self.conv3(y))


class ResNet(nn.Module):
    """A ResNet up to any stage, without a classifier.

    Args:
        inputs: channels of the first convolution: 3 for frames, more where masks follow.
        block: kind of the residual blocks.
        counts: blocks of each stage, e.g. (3, 4, 6, 3) in ResNet-50.
        width: channels of the stem and planes of the first stage; 64 in the published networks.
        strides: of each stage.
        names: of each stage in the state dict; torchvision's if None.
        norm: makes the normalizations.
        bias: whether convolutions have one.
        pool: max-pooling in the stem; without it all stages are twice as fine.
        shortcut_first: compute a shortcut before the convolutions beside it. The same values, but the gradients that
            meet before a stage are added in another order: each family keeps its own, and its trainings their bits.

    Attributes:
        stage_channels: of the outputs of each stage.
    """

    def __init__(
        self,
        inputs: int = 3,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        counts: Sequence[int],
        width: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        names: Sequence[str] | None = None,
        norm: Norm = nn.BatchNorm2d,
        bias: bool = False,
        pool: bool = True,
        shortcut_first: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=bias)
        self.bn1 = norm(width)
        self._pool = pool
        self._names = tuple(names or (f"layer{number + 1}" for number in range(len(counts))))
        self.stage_channels = tuple(width * 2**number * block.expansion for number in range(len(counts)))
        last = width
        for number, (name, count, stride) in enumerate(zip(self._names, counts, strides, strict=True)):
            stage = nn.Sequential()
            for index in range(count):
                step = stride if index == 0 else 1
                residual = block(last, width * 2**number, stride=step, norm=norm, bias=bias)
                residual.shortcut_first = shortcut_first
                stage.append(residual)
                last = self.stage_channels[number]
            self.add_module(name, stage)

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """From the first convolution (B, width, H / 2, W / 2), which may be overwritten, to what the stages see."""
        x = F.relu(self.bn1(x), inplace=True)
        return F.max_pool2d(x, 3, 2, 1) if self._pool else x

    def stages(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> list[torch.Tensor]:
        """The outputs of stages `start` to `stop`, finest first, from what the first of them sees."""
        found = []
        for name in self._names[start:stop]:
            x = self.get_submodule(name)(x)
            found.append(x)
        return found


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """Torchvision's ImageNet weights (V1) of "resnet18", "resnet50" or "resnet101" without the classifier.

    Raises:
        CheckpointError: if there are none, or the file is neither in torch's hub folder nor can be fetched.
    """
    from torchvision.models import get_weight

    label = {"resnet18": "ResNet18", "resnet50": "ResNet50", "resnet101": "ResNet101"}.get(name)
    if label is None:
        raise CheckpointError(f"there are no ImageNet weights of '{name}': start from random ones")
    weights = get_weight(f"{label}_Weights.IMAGENET1K_V1")
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise CheckpointError(
            f"the ImageNet weights of {name} are missing ({error}): put {weights.url.split('/')[-1]} "
            f"from {weights.url} into {folder}"
        ) from error
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm, bias: bool) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), norm(outputs))
