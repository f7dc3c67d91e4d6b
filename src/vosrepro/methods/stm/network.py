"""What every space-time memory network can do: three steps, and the segmentation of a training clip."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from vosrepro.methods.common.aggregation import aggregation_logits
from vosrepro.methods.stm.memory import read


class QueryFeatures(NamedTuple):
    """What a frame contributes, whatever the objects: computed once per frame."""

    key: torch.Tensor  # (B, h * w, C_k)
    value: torch.Tensor  # (B, C_v, h, w)
    skip_middle: torch.Tensor  # what the decoder adds at its middle level
    skip_fine: torch.Tensor  # what the decoder adds at its finest level


def side_by_side(readout: torch.Tensor, query: QueryFeatures) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decoder inputs of all objects of all frames.

    Args:
        readout: (B * K, h * w, C_v).
        query: features of the B frames.

    Returns:
        read-out and query value (B * K, 2 * C_v, h, w), in this order, and the skips; those of a single
        frame keep their batch dimension of 1 and broadcast.
    """
    batch, _, height, width = query.value.shape
    objects = readout.shape[0] // batch
    readout = readout.transpose(1, 2).unflatten(2, (height, width))
    value, middle, fine = (
        x if objects == 1 or batch == 1 else x.repeat_interleave(objects, dim=0)
        for x in (query.value, query.skip_middle, query.skip_fine)
    )
    value = value.expand(readout.shape[0], -1, -1, -1)
    return torch.cat([readout, value], dim=1), middle, fine


class SpaceTimeNetwork(nn.Module):
    """Base of the networks that `STMSegmenter` can run.

    Attributes:
        stride: frames must be padded to a multiple of it.
        aggregates_first: whether the first mask is remembered as aggregated probabilities (else as 0/1).
        keeps_border: whether predictions in the padding are remembered (else zeros).
    """

    stride: int = 16
    aggregates_first: bool = True
    keeps_border: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of features and memory; logits and probabilities are float32."""
        return next(self.parameters()).dtype

    def normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """RGB (..., 3, H, W) in [0, 1] -> what is padded with zeros and encoded."""
        raise NotImplementedError

    def encode_query(self, frames: torch.Tensor) -> QueryFeatures:
        """Everything of frames (B, 3, H, W), normalized and padded, that depends on no object."""
        raise NotImplementedError

    def encode_memory(self, frames: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (B * K, h * w, C_k), scaled by 1/sqrt(C_k), and values (B * K, h * w, C_v).

        Args:
            frames: (B, 3, H, W), normalized and padded.
            masks: (B, K, H, W) probabilities of the objects.
        """
        raise NotImplementedError

    def decode(self, readout: torch.Tensor, query: QueryFeatures) -> torch.Tensor:
        """Logits (B * K, H, W) at padded full resolution from read-outs (B * K, h * w, C_v)."""
        raise NotImplementedError

    def forward(self, frames: torch.Tensor, masks: torch.Tensor, selector: torch.Tensor | None = None) -> torch.Tensor:
        """Segment a training clip: the first mask is given, each prediction is remembered.

        The gradient flows through remembered predictions. Reading is the full softmax.

        Args:
            frames: (B, T, 3, H, W) RGB in [0, 1], sides divisible by the stride.
            masks: (B, T, K, H, W); only those of the first frame are used.
            selector: (B, K), 0 where the sample lacks the object; all present if None.

        Returns:
            float32 (B, T - 1, K + 1, H, W) aggregated logits of the later frames.

        Source: hkchengrex/Mask-Propagation: model/model.py.
        """
        batch, length = frames.shape[:2]
        objects = masks.shape[2]
        frames = self.normalize(frames)
        later = self.encode_query(frames[:, 1:].flatten(0, 1))
        later = [x.unflatten(0, (batch, length - 1)) for x in later]
        key, value = self.encode_memory(frames[:, 0], masks[:, 0])
        outputs = []
        for t in range(1, length):
            query = QueryFeatures(*(x[:, t - 1] for x in later))
            shared = query.key if objects == 1 else query.key.repeat_interleave(objects, dim=0)
            logits = self.decode(read(shared, key, value), query)
            present = torch.sigmoid(logits.float()).unflatten(0, (batch, objects))
            if selector is not None:
                present = present * selector[:, :, None, None]
            outputs.append(aggregation_logits(present, dim=1))
            if t < length - 1:
                predicted = torch.softmax(outputs[-1], dim=1)[:, 1:].to(frames.dtype)
                new_key, new_value = self.encode_memory(frames[:, t], predicted)
                key, value = torch.cat([key, new_key], 1), torch.cat([value, new_value], 1)
        return torch.stack(outputs, dim=1)
