"""The embedding network: DeepLab-v2's dilated ResNet without its classifier, and a small head."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.base.errors import CheckpointError, ConfigError

Coords = Literal["zero", "ij", "ijt"]
HeadName = Literal["seed", "paper"]
PMLNorm = Literal["live", "frozen", "batch"]

#: Mean of the red, green and blue channel, 0..255 (sydney0zq/PML: dataset/davis.py).
_MEAN_RGB = (122.675, 116.669, 104.008)
#: Mean of the blue, green and red channel (speedinghzl/Pytorch-Deeplab: deeplab/datasets.py).
_MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
#: A squared norm below this counts as a zero vector.
_TINY = 1e-30


class CaffeBottleneck(nn.Module):
    """Caffe-style bottleneck: the stride sits on the first 1x1 convolution."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, *, stride: int, dilation: int, project: bool) -> None:
        """Build from `c_in` to `4 * planes` channels; `project` adds the 1x1 shortcut."""
        super().__init__()
        c_out = planes * self.expansion
        self.conv1 = nn.Conv2d(c_in, planes, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if project:
            shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) -> (B, 4 * planes, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class DeepLabBackbone(nn.Module):
    """DeepLab-v2 ResNet up to its last stage; 624 tensors at the default arguments of `PML`.

    Key names and shapes equal torchvision's `resnet101`, but strides, dilations and pooling differ, so
    a wrong checkpoint loads without an error: compare values.

    Attributes:
        channels: of the output.

    Source: speedinghzl/Pytorch-Deeplab: deeplab/model.py.
    """

    def __init__(self, *, width: int, blocks: tuple[int, int, int, int], cell_px: Literal[4, 8]) -> None:
        """Build with stages 1..4 of `blocks` blocks; a stage of 0 blocks is left out."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.channels = width
        strides = (1, cell_px // 4, 1, 1)
        for i, (count, stride, dilation) in enumerate(zip(blocks, strides, (1, 1, 2, 4), strict=True)):
            stage, planes = nn.Sequential(), width * 2**i
            for block in range(count):
                first = block == 0
                step = stride if first else 1
                stage.append(CaffeBottleneck(self.channels, planes, stride=step, dilation=dilation, project=first))
                self.channels = planes * CaffeBottleneck.expansion
            self.add_module(f"layer{i + 1}", stage)

    def stages(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features after the pooling and after each stage, by name."""
        found = {"maxpool": self.maxpool(self.relu(self.bn1(self.conv1(x))))}
        x = found["maxpool"]
        for i in range(1, 5):
            x = found[f"layer{i}"] = getattr(self, f"layer{i}")(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, channels, h, w)."""
        return self.stages(x)["layer4"]


class EmbeddingHead(nn.Module):
    """Features and coordinates to unit vectors.

    Source: sydney0zq/PML: net/bfnet.py ("seed"); the two-layer head of braindeadpool/bf-vos ("paper").
    """

    def __init__(self, c_in: int, *, kind: HeadName, hidden_dim: int, embedding_dim: int) -> None:
        """Build for `c_in` features; the seed's head has 2 coordinate channels, the paper's 3."""
        super().__init__()
        self.coordinates = 2 if kind == "seed" else 3
        kernel = 3 if kind == "seed" else 1
        self.conv1 = nn.Conv2d(c_in + self.coordinates, hidden_dim, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(hidden_dim, hidden_dim, 1) if kind == "seed" else None
        self.eh_layer = nn.Conv2d(hidden_dim, embedding_dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in + coordinates, h, w) -> unit vectors (B, embedding_dim, h, w).

        Deviation: a zero vector stays zero where the original returns NaN; all others are equal.
        """
        x = F.relu(self.conv1(x))
        if self.conv2 is not None:
            x = F.relu(self.conv2(x))
        x = self.eh_layer(x)
        return x * x.square().sum(1, keepdim=True).clamp_min(_TINY).rsqrt()


class PML(nn.Module):
    """Pixel-wise embedding of a frame; at its defaults with `head="seed"`, the 630 entries of the seed.

    Attributes:
        cell_px: pixels per embedding cell.
        coords: which coordinates the head gets.
        missing: what to say when the network is used before the weights that it should start from were
            loaded.

    Source: Chen et al., CVPR 2018; sydney0zq/PML: net/bfnet.py, net/res_deeplab.py.
    """

    mean: torch.Tensor

    def __init__(
        self,
        *,
        head: HeadName = "paper",
        coords: Coords = "ijt",
        channel_order: Literal["rgb", "bgr"] = "bgr",
        norm: PMLNorm = "frozen",
        initial_std: float | None = 0.01,
        width: int = 64,
        blocks: tuple[int, int, int, int] = (3, 4, 23, 3),
        cell_px: Literal[4, 8] = 8,
        hidden_dim: int = 128,
        embedding_dim: int = 128,
        frame_span: int = 100,
    ) -> None:
        """Build with random weights.

        Args:
            head: "seed" (3x3, 1x1, 1x1; 2 coordinate channels) or "paper" (1x1, 1x1; 3 of them).
            coords: "zero" (what the seed's integer arithmetic makes of them, and the ablation), "ij"
                (row and column as shares of the grid) or "ijt" (also the frame number).
            channel_order: order in which the backbone sees the channels; its pre-trained weights want
                "bgr", the seed feeds "rgb".
            norm: batch normalization. "live": batch statistics in training, scale and shift frozen
                (seed); "frozen": stored statistics always (paper, our choice); "batch": ordinary, for
                networks that start from random weights.
            initial_std: of the convolutions' weights; None for He initialization.
            width: channels of the stem.
            blocks: bottlenecks per stage.
            cell_px: 8 (published) or 4 (layer2 without stride).
            hidden_dim: width of the head.
            embedding_dim: d.
            frame_span: frame number at which the time coordinate reaches 1, where it stays. The paper
                does not say; a streamed video has no known length.

        Raises:
            ConfigError: if the seed's head is asked for a time coordinate.
        """
        super().__init__()
        self.missing: CheckpointError | None = None
        if head == "seed" and coords == "ijt":
            raise ConfigError("the seed's head has no time coordinate: use coords 'zero' or 'ij'")
        if cell_px not in (4, 8):
            raise ConfigError(f"cell_px is {cell_px}, but a cell has 4 or 8 pixels")
        self.coords: Coords = coords
        self.cell_px, self.frame_span = cell_px, frame_span
        self._norm, self._bgr = norm, channel_order == "bgr"
        self.base_extractor = DeepLabBackbone(width=width, blocks=blocks, cell_px=cell_px)
        self.embedding_head = EmbeddingHead(
            self.base_extractor.channels,
            kind=head,
            hidden_dim=hidden_dim,
            embedding_dim=embedding_dim,
        )
        mean = torch.tensor(_MEAN_BGR if self._bgr else _MEAN_RGB)
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialize(module, initial_std)
            elif isinstance(module, nn.BatchNorm2d) and norm != "batch":
                module.requires_grad_(False)
        self.register_load_state_dict_post_hook(_loaded)
        self.train()

    def train(self, mode: bool = True) -> PML:
        """Set the mode; frozen normalization layers stay in evaluation mode."""
        super().train(mode)
        if self._norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, frames: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor:
        """Embed frames.

        Args:
            frames: (B, 3, H, W), RGB in [0, 1].
            times: (B,) 0-based frame numbers; may be None without a time coordinate.

        Raises:
            ConfigError: if they are missing.
            CheckpointError: if the network should have weights that could not be read.

        Returns:
            (B, d, h, w) unit vectors; h is H // cell_px + 1, or one more where H % cell_px is
            cell_px - 1.
        """
        if self.missing is not None:
            raise self.missing
        if self.coords == "ijt" and times is None:
            raise ConfigError(
                "this network has a time coordinate but its frames come without their numbers: "
                "give 'times', or use coords 'ij'"
            )
        x = frames.flip(1) if self._bgr else frames
        return self.embed(x * 255 - self.mean, times)

    def embed(self, x: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor:
        """Embed preprocessed frames (B, 3, H, W), see `forward`."""
        return self.head(self.base_extractor(x), times)

    def head(self, x: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors (B, d, h, w) of backbone features (B, C, h, w)."""
        return self.embedding_head(torch.cat([x, self.coordinates(x, times)], dim=1))

    def coordinates(self, x: torch.Tensor, times: torch.Tensor | None) -> torch.Tensor:
        """Coordinate channels (B, 2 or 3, h, w) for features x (B, C, h, w), each in [0, 1].

        Source: the paper names position and time; scaling to [0, 1] is our choice.
        """
        batch, _, height, width = x.shape
        channels = x.new_zeros(batch, self.embedding_head.coordinates, height, width)
        if self.coords == "zero":
            return channels
        channels[:, 0] = (torch.arange(height, device=x.device, dtype=x.dtype) / height)[:, None]
        channels[:, 1] = torch.arange(width, device=x.device, dtype=x.dtype) / width
        if self.coords == "ijt" and times is not None:
            shares = (times.to(x) / self.frame_span).clamp(max=1)
            channels[:, 2] = shares[:, None, None]
        return channels


def _loaded(network: nn.Module, _: object) -> None:
    network.missing = None  # type: ignore[assignment]  # whatever was loaded takes its place


def _initialize(conv: nn.Conv2d, std: float | None) -> None:
    if std is None:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    else:
        nn.init.normal_(conv.weight, std=std)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
