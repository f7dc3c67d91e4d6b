"""The class head of stage 0 as what names the classes of images."""

from __future__ import annotations

from torch import nn

from vosrepro.methods.common.classification import Classifier
from vosrepro.methods.parts.model import PartsNet


def classifier(model: nn.Module) -> Classifier | None:
    """The network with its class head; None after stage 0, which leaves the head behind."""
    assert isinstance(model, PartsNet)
    return None if model.head is None else Classifier(model, model.classes)
