"""Recordings as an original would make them, but made by our own code: three objects, the third of them late.

They share no code with the comparison beyond the methods themselves: everything is read off a run while it goes.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from vosrepro.methods.common.seeded import seeded_tensor
from vosrepro.methods.frtm.augment import augment_first_frame
from vosrepro.methods.frtm.merging import merge_odds

SIZE = (49, 66)  # odd on purpose
META = {
    "backbone": "resnet10",
    "memory": 5,
    "skip": 2,
    "channels": 12,
    "backbone_gain": 1.0,
    "refiner_gain": 1.3,
    "other_gain": 1.0,
    "target_gain": 1.0,
    "score_boost": 12,
    "bias_shift": -4.5,
    "init_iterations": [2, 2],  # short runs are not chaotic
    "update_iterations": 2,
}


def video(frames=5, late=2, size=SIZE):
    """Moving bright squares on noise: images (T, 3, H, W) and labels (T, H, W); object 3 begins at `late`."""
    rng = np.random.default_rng(3)
    height, width = size
    images = rng.integers(0, 90, (frames, 3, height, width)).astype(np.uint8)
    labels = np.zeros((frames, height, width), np.uint8)
    for t in range(frames):
        for number, (top, left) in enumerate(((4, 5 + 2 * t), (25, 8 + t), (14, 40 - t)), 1):
            if number == 3 and t < late:
                continue
            labels[t, top : top + 15, left : left + 17] = number
            images[t, :, top : top + 15, left : left + 17] += np.uint8(50 * number)
    return images, labels


def _seeded(network, facts):
    state = network.state_dict()
    gains = {"backbone": facts["backbone_gain"], "refiner": facts["refiner_gain"]}
    for key, value in state.items():
        name = key.removeprefix("backbone.")
        state[key] = seeded_tensor(name, tuple(value.shape), gain=gains.get(key.partition(".")[0], facts["other_gain"]))
        if key == "refiner.project.conv2.bias":
            state[key] += facts["bias_shift"]
        if key.endswith("transform.0.weight"):
            state[key][:, 64:] *= facts["score_boost"]
    network.load_state_dict(state)
    return network.double().eval()


def _target(inputs, channels):
    shapes = {"project.weight": (channels, inputs, 1, 1), "filter.weight": (1, channels, 3, 3)}
    return tuple(seeded_tensor(key, shape, gain=1.0) for key, shape in shapes.items())


class _Tape:
    """Runs a segmenter of the family in float64 and writes down what it does."""

    def __init__(self, segmenter, images, labels, starts, scene, *, views, split):
        self.segmenter, self.images, self.labels, self.starts = segmenter, images, labels, starts
        self.scene, self.views, self.split = scene, views, split
        self.arrays: dict[str, list] = {}
        self.objects: list[int] = []
        self.logits: torch.Tensor | None = None
        segmenter._initial = lambda level, count: (
            [_target(segmenter.model.backbone.channels[level], segmenter.settings.channels)] * count
        )
        segmenter._add = self._add
        segmenter.model.refiner.project.register_forward_hook(self._keep)

    def _keep(self, module, inputs, output):
        self.logits = output[:, 0].clone()

    def note(self, key, value):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.arrays.setdefault(f"{self.scene}.{key}", []).append(array.copy())

    def key(self, number, level):
        return f"o{number}." + (f"{level}." if self.split else "")

    def _add(self, frame, masks):
        new = [n for n, start in self.starts.items() if start == self.time]
        made = []
        for number, mask in zip(new, masks.byte().numpy(), strict=True):
            image = self.images[self.time].transpose(1, 2, 0)
            found = augment_first_frame(image, mask, views=self.views, rng=np.random.RandomState(0))
            made.append((found[0].transpose(0, 3, 1, 2), found[1]))
            self.arrays[f"{self.scene}.o{number}.aug_images"] = made[-1][0]
            self.arrays[f"{self.scene}.o{number}.aug_masks"] = made[-1][1][:, None]
        first = len(self.objects)
        stacked = [torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True)]
        self.segmenter.add_views(*stacked)
        self.objects += new
        for level, models in self.segmenter.targets.items():
            project, kernel = models.weights()
            for row, number in enumerate(new):
                key = f"{self.scene}.{self.key(number, level)}"
                self.arrays[f"{key}project"] = project[first + row].float().numpy()
                self.arrays[f"{key}filter_init"] = kernel[first + row].float().numpy()
                self.arrays[f"{key}init_objective"] = models.objectives[-1][:, row].numpy()
        self.began(frame, masks, new)

    def began(self, frame, masks, new):
        """Nothing more at the start of objects."""

    def run(self):
        found = []
        frames = torch.from_numpy(self.images).double() / 255
        for time in range(len(self.images)):
            self.time = time
            given = np.zeros_like(self.labels[0])
            new = [n for n, start in self.starts.items() if start == self.time]
            for number in new:
                given[self.labels[self.time] == number] = number
            mask = torch.from_numpy(given)
            if self.time == 0:
                self.segmenter.init(frames[0], mask)
                found.append(given)
                continue
            before = list(self.objects)
            found.append(self.segmenter.step(frames[self.time], mask if new else None).argmax(0).byte().numpy())
            self.after(before, new)
        self.arrays[f"{self.scene}.masks"] = np.stack(found)
        return {k: np.stack(v) if isinstance(v, list) else v for k, v in self.arrays.items()}

    def after(self, before, new):
        assert self.logits is not None
        for row, number in enumerate(before):
            self.note(f"o{number}.logit", self.logits[row].float())
            for level, models in self.segmenter.targets.items():
                key = self.key(number, level)
                self.note(f"{key}score", self.scores[level][row].float())
                self.note(f"{key}filter", models.weights()[1][row].float())
                self.note(f"{key}mem_w", models.samples.gains[row].float())
                self.note(f"{key}mem_idx", models.samples.last[row])
        self.note("soft", self.soft(before, new))

    def soft(self, before, new):
        probabilities = torch.sigmoid(self.logits)
        for number in new:
            probabilities = probabilities * torch.from_numpy(self.labels[self.time] != number)
        given = [torch.from_numpy(self.labels[self.time] == n).double() for n in new]
        merged = merge_odds(torch.cat([probabilities, *(g[None] for g in given)]))[0]
        winner = merged.argmax(0)
        series = np.zeros((len(self.starts) + 1, *self.labels.shape[1:]), np.float32)
        for row, number in enumerate([0, *before, *new]):
            series[number] = torch.where(winner == row, merged[row], 0).float().numpy()
        return series


class _Plain(_Tape):
    """Frame by frame scores of FRTM and MTMFI."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.scores = {}
        for level, models in self.segmenter.targets.items():
            models.score = self._scoring(level, models.score)

    def _scoring(self, level, score):
        def scoring(features, rows=None):
            found = score(features, rows)
            self.scores[level] = found[:, 0].clone()
            return found

        return scoring


class _Gated(_Tape):
    """Evaluations of G-FRTM's gate."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        models = self.segmenter.targets["layer4"]
        score = models.score

        def scoring(features, rows=None):
            self.scored = score(features, rows)[:, 0].clone()
            return self.scored[:, None]

        models.score = scoring

    def began(self, frame, masks, new):
        self.segmenter.start_gate(frame, masks)
        first = len(self.objects) - len(new)
        for row, number in enumerate(new):
            self.note(f"o{number}.score", self.scored[row].float())
            self.note("template", self.segmenter.templates[first + row].float())
            self.note("prevx_init", self.segmenter.stored[first + row].float())

    def after(self, before, new):
        segmenter = self.segmenter
        gate, reuse = segmenter.gates[-1], segmenter.reused[-1]
        models = segmenter.targets["layer4"]
        for row, number in enumerate(before):
            used = segmenter.scores[row, 0]
            self.note("frame", self.time)
            self.note("gate", int(reuse[row]))
            self.note("gate_logits", gate.logits[row].float())
            self.note("gate_prob", gate.probabilities[row].float())
            self.note("match", gate.match[row].float())
            self.note("logit", self.logits[row].float())
            if reuse[row]:
                change = segmenter.network.Convert_Diff(gate.match[[row]])[0, 0]
                used = used + change
                self.note("diff", change.float())
            else:
                self.note(f"o{number}.score", used.float())
                self.note(f"o{number}.filter", models.weights()[1][row].float())
                self.note(f"o{number}.mem_w", models.samples.gains[row].float())
                self.note(f"o{number}.mem_idx", models.samples.last[row])
            self.note("score_used", used.float())
        self.note("soft", self.soft(before, new))


def family(scenes, *, facts=META, frames=5, views=4, size=SIZE):
    """A recording of the family.

    Args:
        scenes: name -> (segmenter(network, **options), network, starts of the objects).
        facts: the recording's meta.
        frames: of the video.
        views: of each object.
        size: of the frames.
    """
    images, labels = video(frames, late=2, size=size)
    arrays = {"images": images, "labels": labels, "meta": np.array(json.dumps(facts))}
    target = {k: facts[k] for k in ("init_iterations", "update_iterations")}
    for name, (make, network, starts) in scenes.items():
        seeded = _seeded(network, facts)
        options = {"memory": facts["memory"], "update_every": facts["skip"], "channels": facts["channels"]}
        segmenter = make(seeded, dtype="float64", record=True, target=target, **options)
        kind = _Gated if hasattr(segmenter, "start_gate") else _Plain
        split = len(segmenter.targets) > 1
        with torch.no_grad():
            tape = kind(segmenter, images, labels, starts, name, views=views, split=split)
            arrays |= tape.run()
        if "feat1.layer2" not in arrays and frames > 1:
            with torch.no_grad():
                found = seeded.backbone(torch.from_numpy(images[1:2]).double() / 255)
            arrays |= {f"feat1.{level}": value[0].float().numpy() for level, value in found.items()}
    return arrays
