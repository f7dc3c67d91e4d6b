"""A study whose only network has a few thousand weights, for tests of the whole workflow."""

from __future__ import annotations

from pathlib import Path

import yaml
from toy_study import make_davis17

RUN = Path("results/toy/stm/s0/seed0/s0/run.json")
STEPS, STATE_EVERY = 120, 5


def tiny_stm(checkout: Path, *, steps: int = STEPS, **changes: object) -> list[str]:
    """Add a size of a few thousand weights and a study that trains it; how to name that study."""
    for split in ("train", "val"):
        make_davis17(checkout / "toydata", split=split)
    path = checkout / "params/methods/stm.yaml"
    method = yaml.safe_load(path.read_text())
    mini = method["sizes"]["mini"]
    stage = mini["stages"]["s0"] | {
        "data": [{"set": "davis17-train"}],
        "batch_size": 2,
        "steps": steps,
        "clips": {
            "kind": "video",
            "frames": 3,
            "objects": 1,
            "size_px": [32, 32],
            "augment": "mini-video",
            "max_jump": [[0.0, 1]],
        },
        "checkpoint_every_steps": steps // 3,
        "state_every_steps": STATE_EVERY,
        "log_every_steps": 5,
    }
    method["sizes"]["toy"] = {
        "model": mini["model"] | {"width": 8, "key_dim": 8, "value_dim": 16, "decoder_dim": 8},
        "stages": {"s0": stage},
        "recipes": {"s0": mini["recipes"]["s0"]},
    }
    path.write_text(yaml.safe_dump(method))
    entry = {"recipes": ["s0"], "variants": ["top50"], "benchmarks": ["davis17-val"]}
    study = {
        "study": "toy",
        "title": "toy",
        "size": "toy",
        "data": {"root": "toydata"},
        "selection": {"set": "davis17-train", "sequences": ["train-00"]},
        "entries": [{"method": "stm", **entry}],
        **changes,
    }
    (checkout / "params/studies/toy.yaml").write_text(yaml.safe_dump(study))
    return ["--configfile", "params/studies/toy.yaml"]
