"""A clip whose objects move, and any method at mini size with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from vosrepro.base.labels import write_labels
from vosrepro.inference.own.own_clip import OwnClip, open_images
from vosrepro.inference.own.setup import Setup
from vosrepro.methods import get_method
from vosrepro.study.params import load_method
from vosrepro.study.plan import variant_settings
from vosrepro.weights.files import build_model, save_weights


def mini_setup(method: str, folder: Path) -> Setup:
    """The method at mini size with random weights."""
    params = load_method(method)
    size = params.sizes["mini"]
    model = dict(size.model)
    weights = None
    if get_method(method).build is not None:
        network = build_model(method, model, weights=None, seed=0, device=torch.device("cpu"))
        assert network is not None
        weights = folder / "w.safetensors"
        save_weights(weights, network.state_dict(), {"method": method, "model": model})
    settings = variant_settings(params, size, params.default_variant)
    return Setup(method, weights, model, params.default_variant, settings, None, "test")


def moving_clip(folder: Path) -> OwnClip:
    """Ten frames; object 3 begins first, object 1 on frame 5."""
    (folder / "frames").mkdir()
    rng = np.random.default_rng(0)
    background = rng.integers(0, 90, (64, 96, 3), dtype=np.uint8)
    for index in range(10):
        image = background.copy()
        for top, color in ((6, 220), (36, 150)):
            image[top : top + 20, 8 + 3 * index : 36 + 3 * index] = color
        cv2.imwrite(str(folder / f"frames/{index}.png"), image)
    for name, index, objects in (("a", 0, ((3, 6),)), ("b", 5, ((3, 6), (1, 36)))):
        labels = np.zeros((64, 96), np.uint8)
        for identity, top in objects:
            labels[top : top + 20, 8 + 3 * index : 36 + 3 * index] = identity
        write_labels(folder / f"{name}.png", labels)
    return OwnClip(open_images(folder / "frames"), {"0": folder / "a.png", "5": folder / "b.png"})
