"""ResNet-50 with pre-activation ("v2"), as TensorFlow's official model, and the seed's tracker blocks.

State-dict names are fixed: `stem.conv.weight`, `layer{1..4}.{i}.{bn1,conv1,bn2,conv2,bn3,conv3}.*`,
`layer{L}.0.shortcut.weight`, `head.bn.*`, `head.fc.*`. Not `common.resnet`: normalization comes before the
convolutions, paddings are TensorFlow's, and shortcuts are bare convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

#: RGB means in 0..255; nothing is divided by a standard deviation.
TF_MEAN = (123.68, 116.78, 103.94)
EXPANSION = 4


def same_max_pool(x: torch.Tensor) -> torch.Tensor:
    """Max-pool 3x3/2 with TensorFlow's SAME padding: (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)).

    An even side is padded by 0 before and 1 after, an odd one by 1 and 1; PyTorch's `padding=1` differs on
    even sides.
    """
    (top, bottom), (left, right) = (_same(side) for side in x.shape[-2:])
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=float("-inf")), 3, 2)


def _same(side: int) -> tuple[int, int]:
    total = max((-(-side // 2) - 1) * 2 + 3 - side, 0)
    return total // 2, total - total // 2


class PreactBottleneck(nn.Module):
    """Pre-activation bottleneck: `p = relu(bn1(x))`; the shortcut is x, or a projection of p.

    Args:
        inputs: channels of x.
        middle: channels of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution and of the projection.
        project: whether the shortcut is a convolution.
        padding: of the 3x3 convolution; 0 is the tracker's VALID.
        dilation: of the 3x3 convolution.
        shortcut_kernel: 1, or 3 in the seed's strided tracker block.
    """

    def __init__(
        self,
        inputs: int,
        middle: int,
        *,
        stride: int = 1,
        project: bool = False,
        padding: int = 1,
        dilation: int = 1,
        shortcut_kernel: int = 1,
    ) -> None:
        super().__init__()
        outputs = EXPANSION * middle
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=padding, dilation=dilation, bias=False)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, shortcut_kernel, stride, bias=False) if project else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the sum of both ways, without a ReLU after it."""
        p = F.relu(self.bn1(x))
        around = x if self.shortcut is None else self.shortcut(p)
        y = F.relu(self.bn2(self.conv1(p)))
        return self.conv3(F.relu(self.bn3(self.conv2(y)))) + around


class Stem(nn.Module):
    """7x7/2 convolution with explicit padding, without normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, C, H/2, W/2)."""
        return self.conv(x)


class ClassHead(nn.Module):
    """BN, ReLU, mean over the map, one linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C)."""
        return F.relu(self.bn(x)).mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        return self.fc(self.pooled(x))


class ResNet50v2(nn.Module):
    """The feature part: a stem and four groups of [3, 4, 6, 3] bottlenecks, total stride 32.

    Weights are drawn Glorot-uniform.

    Source: WangYuTum/MasterThesis2, ImageNet branches; tensorflow/models: official/resnet.
    """

    #: Channels of the outputs of `forward`, and their strides.
    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.stem = Stem(64)
        inputs = 64
        for level, (middle, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
            stride = 1 if level == 0 else 2
            group = nn.Sequential()
            for i in range(count):
                group.append(PreactBottleneck(inputs, middle, stride=stride if i == 0 else 1, project=i == 0))
                inputs = EXPANSION * middle
            self.add_module(f"layer{level + 1}", group)
        glorot(self)

    def normalized(self, frames: torch.Tensor) -> torch.Tensor:
        """RGB (B, 3, H, W) in [0, 1] -> 0..255 minus the mean color."""
        return frames * 255 - frames.new_tensor(TF_MEAN).view(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Normalized images (B, 3, H, W) -> the raw sums C2..C5 at strides 4..32."""
        x = same_max_pool(self.stem(x))
        found = []
        for level in range(4):
            x = self.get_submodule(f"layer{level + 1}")(x)
            found.append(x)
        return found


def glorot(network: nn.Module) -> None:
    """Draw all kernels Glorot-uniform and set biases to zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def tracker_block(inputs: int, middle: int, *, level: int) -> PreactBottleneck:
    """The seed's first tracker blocks: `level` 3 is VALID and strided, 4 is dilated.

    The strided block's shortcut is a 3x3/2 convolution; the seed starts it from its 1x1 kernel tiled nine
    times without dividing by nine (see `tiled_shortcut`).

    Source: WangYuTum/MasterThesis2, branch master.
    """
    if level == 3:
        return PreactBottleneck(inputs, middle, stride=2, project=True, padding=0, shortcut_kernel=3)
    return PreactBottleneck(inputs, middle, project=True, padding=2, dilation=2)


def tiled_shortcut(kernel: torch.Tensor, *, divide: bool) -> torch.Tensor:
    """A 1x1 kernel (O, I, 1, 1) as a 3x3 one; without `divide` (the seed's defect) nine times too strong."""
    return kernel.expand(-1, -1, 3, 3) / (9.0 if divide else 1.0)
