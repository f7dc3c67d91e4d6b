"""The two heads on regions: where is the part, and which of its pixels are the object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from vosrepro.methods.parts.matching import correlate


class TrackHead(nn.Module):
    """Correlation of templates in search regions, then BN, ReLU and two 1x1 convolutions to one score.

    Starts as a plain SiamFC: the sum of all channels' correlations.

    Args:
        width: D.
        cells: T, the side of templates; the correlation is divided by it.
    """

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.bn = nn.BatchNorm2d(width)
        self.conv5 = nn.Conv2d(width, width, 1, bias=False)
        self.conv6 = nn.Conv2d(width, 1, 1)
        with torch.no_grad():
            nn.init.dirac_(self.conv5.weight)
            self.conv5.weight.add_(torch.randn_like(self.conv5.weight) * 0.02)
            nn.init.constant_(self.conv6.weight, 4.0 / width)
            nn.init.constant_(self.conv6.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
        """(P, D, T, T) and (S * P, D, X, X), scale-major -> logits (S * P, R, R)."""
        return self.score(correlate(template / self.cells, search))

    def score(self, correlation: torch.Tensor) -> torch.Tensor:
        """Correlation maps (N, D, R, R) -> logits (N, R, R)."""
        return self.conv6(self.conv5(F.relu(self.bn(correlation))))[:, 0]


class GlobalConvolution(nn.Module):
    """Two separable branches of large kernels, added.

    Source: seoungwugoh/RGMP (k = 7); the seed had k = 5.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int, kernel: int = 7) -> None:
        super().__init__()
        half = kernel // 2
        tall, wide = (kernel, 1), (1, kernel)
        pad_tall, pad_wide = (half, 0), (0, half)
        self.conv_l1 = nn.Conv2d(inputs, hidden, tall, padding=pad_tall)
        self.conv_l2 = nn.Conv2d(hidden, outputs, wide, padding=pad_wide)
        self.conv_r1 = nn.Conv2d(inputs, hidden, wide, padding=pad_wide)
        self.conv_r2 = nn.Conv2d(hidden, outputs, tall, padding=pad_tall)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, outputs, H, W)."""
        return self.conv_l2(self.conv_l1(x)) + self.conv_r2(self.conv_r1(x))


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Refine(nn.Module):
    """RGMP's refinement: a skip connection merged with the upsampled coarser map; for reference only.

    Source: seoungwugoh/RGMP, written for PyTorch 0.3, whose upsampling aligns corners.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.convFS1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.convFS2 = nn.Conv2d(width, width, 3, padding=1)
        self.convFS3 = nn.Conv2d(width, width, 3, padding=1)
        self.convMM1 = nn.Conv2d(width, width, 3, padding=1)
        self.convMM2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, skip: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """(B, inputs, 2H, 2W) and (B, width, H, W) -> (B, width, 2H, 2W)."""
        x = self.convFS1(skip)
        x = x + self.convFS3(F.relu(self.convFS2(F.relu(x))))
        size = skip.shape[-2:]
        m = x + F.interpolate(coarse, size, mode="bilinear", align_corners=True)
        return m + self.convMM2(F.relu(self.convMM1(F.relu(m))))


class MaskHead(nn.Module):
    """The mask of a part from its features now and in the reference, and from two earlier masks.

    The logit is a correction of the tracked earlier mask: `correction + gain * (2 * mask - 1)`, so that an
    untrained head copies what the tracker moved. [ours; the specification's head predicts the logit]

    Args:
        width: D.
        trunk: "small" (three convolutions with BN) or "global" (global convolution and residual).
        residual: False leaves the earlier mask to the input channels alone.
    """

    def __init__(self, width: int, *, trunk: Literal["small", "global"] = "small", residual: bool = True) -> None:
        super().__init__()
        inputs = 2 * width + 2
        if trunk == "global":
            first: Sequence[nn.Module] = (
                GlobalConvolution(inputs, width, hidden=width),
                Residual(width),
            )
        else:
            first = (_conv(inputs, width), _conv(width, width), _conv(width, width))
        self.trunk = nn.Sequential(*first, _conv(width, width), _conv(width, width))
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.up_object = nn.ConvTranspose2d(width, width, 2, 2)  # part 0 only: twice as fine
        self.out = nn.Conv2d(width, 1, 1)
        self.gain = nn.Parameter(torch.tensor(3.0)) if residual else None
        for layer in (self.up, self.up_object):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(
        self,
        now: torch.Tensor,
        reference: torch.Tensor,
        reference_mask: torch.Tensor,
        earlier_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Features (P, D, 2M, 2M) of parts, which `logits` turns into masks.

        Args:
            now: (P, D, M, M) features in the part's region.
            reference: the same in the reference frame.
            reference_mask: (P, M, M).
            earlier_mask: (P, M, M), sampled in the part's region of the frame before.
        """
        x = torch.cat([now, reference, reference_mask[:, None], earlier_mask[:, None]], dim=1)
        return F.relu(self.up(self.trunk(x)))

    def logits(self, x: torch.Tensor, earlier: torch.Tensor, *, whole: bool) -> torch.Tensor:
        """Logits of what `forward` gave: (P, 2M, 2M), or (P, 4M, 4M) of `whole` objects (part 0).

        Args:
            x: features (P, D, 2M, 2M).
            earlier: the earlier mask at the size of the result.
            whole: whether these are parts 0.
        """
        if whole:
            x = F.relu(self.up_object(x))
        logits = self.out(x)[:, 0]
        return logits if self.gain is None else logits + self.gain * (2 * earlier - 1)


def _conv(inputs: int, width: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())
