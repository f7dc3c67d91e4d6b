"""The recorded videos of the target-model family: what a recording says of its scenes, and what we make of them.

A scene is a prefix of array names ("dv", "mtm.yt"): one run over the recording's frames. Its objects are those of its
keys, or of its label maps; an object begins on the frame that its first view shows, or on the first frame that its
label is on, or as long before the end as its series are. Frames of a series are those after the object's start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vosrepro.base.errors import DataError
from vosrepro.lab.parity.rules import Lacks, Measure, Recording, _relative
from vosrepro.methods.common.seeded import seeded_tensor
from vosrepro.methods.frtm.merging import merge_odds, merged_labels
from vosrepro.methods.frtm.segmenter import FAST_INIT, FAST_UPDATE
from vosrepro.methods.frtm.target import TargetModels, TargetSettings
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter

DTYPES = ("float64", "float32")
#: Relative error of each entry of a series by itself.
EACH = Measure(
    "max abs / max, each",
    lambda a, b: max(_relative(x, y) for x, y in zip(a, b, strict=True)),
    lambda _, half: half,
)
_FEATURES_OF_SCORES = 64  # input channels of a level's first convolution that are no scores
#: How the originals were set up where a recording does not say.
_META = {
    "backbone": "resnet18",
    "memory": 80,
    "skip": 8,
    "rate": 0.1,
    "hinge": 0.1,
    "backbone_gain": 1.0,
    "refiner_gain": 1.3,
    "other_gain": 1.0,
    "target_gain": 1.0,
    "score_boost": 12,
    "bias_shift": -4.5,
}


def meta(r: Recording) -> dict[str, Any]:
    """The recording's configuration over the defaults.

    Raises:
        DataError: if it is no JSON object.
    """

    def make() -> dict[str, Any]:
        if "meta" not in r:
            return dict(_META)
        try:
            found = json.loads(str(r["meta"]))
        except ValueError as error:
            raise DataError(f"'meta' is not JSON ({error}): record the configuration as a JSON object") from error
        if not isinstance(found, dict):
            raise DataError("'meta' is no JSON object: record the configuration as one")
        return _META | found

    return r.once("meta", make)


@dataclass(frozen=True)
class Family:
    """What tells a method of the family from the others.

    Attributes:
        build: (scene name, backbone) -> network with random weights.
        segmenter: (network, scene, options) -> a new segmenter.
        network_of: scene name -> the name of its network; scenes of one name share it.
        levels: backbone levels with a target model.
        defaults: of `TargetSettings`.
        tracked: frames on which an object counts as tracked when it begins.
        scene: (recording, name, family) -> the facts of a scene.
    """

    build: Callable[[str, str], Any]
    segmenter: Callable[[Any, RecordedScene, dict[str, Any]], Any]
    network_of: Callable[[str], str] = lambda _: ""
    levels: tuple[str, ...] = ("layer4",)
    defaults: tuple[tuple[str, Any], ...] = ()
    tracked: int = 0
    scene: Callable[[Recording, str, Family], RecordedScene] = lambda r, name, family: RecordedScene(r, name, family)

    @property
    def split(self) -> bool:
        """Whether the keys of target models name the level."""
        return len(self.levels) > 1


class RecordedScene:
    """One recorded run.

    Attributes:
        objects: numbers of the objects, in the order in which they begin, then of their numbers.
        starts: number -> the frame on which it begins.
        merged: all ids are one object.
        ytvos: it was made with the code for YouTube-VOS, which merges once.
    """

    def __init__(self, r: Recording, name: str, family: Family) -> None:
        self.r, self.name, self.family = r, name, family
        self.images, self.labels = r["images"], r["labels"]
        self.length = len(self.images)
        self.ytvos = f"{name}.sigmoid" in r or name.rpartition(".")[2].startswith("ytv")
        numbers = self._numbers()
        self.merged = self._is_merged(numbers)
        self.starts = {n: self._start(n, numbers) for n in numbers}
        self.objects = sorted(numbers, key=lambda n: (self.starts[n], n))

    # ------------------------------------------------------------------------------ facts

    def _masks(self) -> np.ndarray | None:
        for name in (f"{self.name}.masks", f"f32.{self.name}.masks"):
            if name in self.r:
                return self.r[name]
        return None

    def _numbers(self) -> list[int]:
        pattern = rf"(f32\.)?{self.name}\.o(?P<number>\d+)\..*"
        found = {int(m["number"]) for m in self.r.matches(pattern)}
        masks = self._masks()
        if not found and f"{self.name}.sigmoid" in self.r:
            found = set(range(1, self.r[f"{self.name}.sigmoid"].shape[1] + 1))
        if not found and masks is not None:
            found = {int(i) for i in np.unique(masks)} - {0}
        return sorted(found or {int(i) for i in np.unique(self.labels)} - {0})

    def _is_merged(self, numbers: list[int]) -> bool:
        if len(numbers) != 1 or len(np.unique(self.labels[self.labels > 0])) < 2:
            return False
        everything, masks = self.labels[0] > 0, self._masks()
        own = f"{self.name}.o{numbers[0]}.aug_masks"
        if own in self.r:
            return bool((self.r[own][0, 0] == everything).all())
        return masks is not None and bool(((masks[0] > 0) == everything).all())

    def _start(self, number: int, numbers: list[int]) -> int:
        own, masks = f"{self.name}.o{number}.aug_images", self._masks()
        if own in self.r:
            same = [t for t in range(self.length) if np.array_equal(self.images[t], self.r[own][0])]
            if same:
                return same[0]
        if masks is not None:
            shown = np.flatnonzero([(m == number).any() for m in masks])
            if len(shown):
                return int(shown[0])
        if f"{self.name}.frame" in self.r:
            counts = np.bincount(self.r[f"{self.name}.frame"], minlength=self.length)
            rank = numbers.index(number)
            seen = np.flatnonzero(counts > rank)
            return int(seen[0]) - 1 if len(seen) else self.length - 1
        lengths = [
            len(self.r.arrays[m.group()])
            for m in self.r.matches(rf"{self.name}\.o{number}\.(\w+\.)?(score|logit|mem_w|mem_idx)")
        ]
        return max(0, self.length - 1 - max(lengths)) if lengths else 0

    def mask(self, number: int) -> np.ndarray:
        """Bool (H, W): the object's given mask on the frame on which it begins."""
        labels = self.labels[self.starts[number]]
        return labels > 0 if self.merged else labels == number

    def views(self, number: int) -> str:
        """The key of the views from which the object's target models were made, up to ".aug_...".

        Raises:
            Lacks: if no recorded views show this object on the frame on which it begins.
        """
        own = f"{self.name}.o{number}"
        others = [m["key"] for m in self.r.matches(rf"(?P<key>.*\.o{number})\.aug_images")]
        frame, mask = self.images[self.starts[number]], self.mask(number)
        for key in (own, *others):
            if f"{key}.aug_images" in self.r and f"{key}.aug_masks" in self.r:
                images, masks = self.r[f"{key}.aug_images"], self.r[f"{key}.aug_masks"]
                if key == own or (np.array_equal(images[0], frame) and np.array_equal(masks[0, 0] > 0, mask)):
                    return key
        raise Lacks(f"{own}.aug_images")

    def before(self, t: int) -> list[int]:
        """The objects that began before a frame, in their order."""
        return [n for n in self.objects if self.starts[n] < t]

    def new(self, t: int) -> list[int]:
        """The objects that begin on a frame."""
        return [n for n in self.objects if self.starts[n] == t]

    def key(self, number: int, level: str = "layer4") -> str:
        """Prefix of the arrays of an object's target model."""
        return f"{self.name}.o{number}." + (f"{level}." if self.family.split else "")

    def setting(self, name: str) -> Any:
        """From `meta`: the scene's own, or the one of all."""
        found = meta(self.r)
        own = found.get(self.name)
        return own[name] if isinstance(own, dict) and name in own else found.get(name)

    def target_settings(self, dtype: str) -> dict[str, Any]:
        """Differences from `TargetSettings`' defaults, from `meta` and the shapes of arrays."""
        settings = {
            **dict(self.family.defaults),
            "capacity": self._size(r"mem_w", -1) or int(self.setting("memory")),
            "every": int(self.setting("skip")),
            "rate": self.setting("rate"),
            "hinge": self.setting("hinge"),
            "dtype": dtype,
        }
        channels = self._size(r"(project|filter_init)", None) or self.setting("channels")
        if channels:
            settings["channels"] = int(channels)
        steps = (self._size("init_objective", 0) or 6) - 1
        if self.setting("init_iterations"):
            settings["init_iterations"] = tuple(self.setting("init_iterations"))
        elif steps == len(FAST_INIT) or self.setting("fast"):
            settings |= {"init_iterations": FAST_INIT, "update_iterations": FAST_UPDATE}
        if self.ytvos:
            settings |= {"forget": 0.0, "fletcher_reeves": True}
        if self.setting("update_iterations"):
            settings["update_iterations"] = int(self.setting("update_iterations"))
        return settings

    def _size(self, what: str, axis: int | None) -> int | None:
        """Size of the scene's arrays of a name (of those of any scene, if it has none), None without any."""
        for scene in (rf"(f32\.)?{self.name}", r".*"):
            for m in self.r.matches(rf"{scene}\.o\d+\.(layer\d\.)?(?P<what>{what})"):
                shape = self.r.arrays[m.group()].shape
                if len(shape):
                    return shape[axis if axis is not None else 0 if m["what"] == "project" else 1]
        return None

    # ------------------------------------------------------------------- what is made of it

    def network(self, dtype: str) -> Any:
        """The key-seeded network."""
        return network(self.r, self.family, self.name, dtype)

    def features(self, t: int, dtype: str) -> dict[str, torch.Tensor]:
        """Backbone features of a frame."""
        return features(self.r, self.family, self.name, t, dtype)

    def models(self, dtype: str, **changes: Any) -> TargetModels:
        """Target models with the scene's settings."""
        return TargetModels(TargetSettings(**{**self.target_settings(dtype), **changes}))

    def loaded(self, number: int, level: str, index: int, dtype: str) -> TargetModels:
        """An object's recorded target model as it is after `index` recorded updates.

        Raises:
            Lacks: if it is not recorded.
        """
        key = self.key(number, level)
        kernel = self.r[f"{key}filter_init"] if index == 0 else self.r[f"{key}filter"][index - 1]
        like = self.features(0, dtype)[level]
        models = self.models(dtype)
        models.load(
            torch.from_numpy(self.r[f"{key}project"])[None],
            torch.from_numpy(kernel)[None],
            (like.shape[-2], like.shape[-1]),
        )
        return models

    def buffer(self, t: int, found: dict[int, torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
        """(O, H, W) of all objects up to a frame, given masks included, and their numbers.

        Args:
            t: the frame.
            found: object -> its probability (H, W), for those that began before.
        """
        new = self.new(t)
        given = [torch.from_numpy(self.mask(n)).double() for n in new]
        old = torch.stack([found[n].double() for n in self.before(t)])
        if given:
            old = old * (1 - torch.stack(given).amax(0))
        return torch.cat([old, *(g[None] for g in given)]), [*self.before(t), *new]

    def merged_frame(self, t: int, found: dict[int, torch.Tensor]) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Label map of a frame, and the winners' soft masks (H, W), of the background (0) and its objects."""
        buffer, numbers = self.buffer(t, found)
        probabilities, soft = merged_labels(buffer, twice=not self.ytvos)
        once = merge_odds(buffer)[0]
        background = torch.where(once.argmax(0) == 0, once[0], 0)
        ids = torch.tensor([0, *numbers], dtype=torch.uint8)
        return ids[probabilities.argmax(0)], dict(zip([0, *numbers], [background, *soft], strict=True))

    def probability(self, number: int, t: int) -> torch.Tensor | None:
        """An object's recorded probability (H, W) on a frame after its start; None after the end of the series.

        Raises:
            Lacks: if there is no series.
        """
        sigmoid, logit = f"{self.name}.sigmoid", f"{self.name}.o{number}.logit"
        if sigmoid in self.r and logit not in self.r:
            values = self.r[sigmoid][:, number - 1]
            return torch.from_numpy(np.array(values[t])).double() if t < len(values) else None
        values, index = self.r[logit], t - self.starts[number] - 1
        return torch.from_numpy(np.array(values[index])).double().sigmoid() if index < len(values) else None

    def merged_frames(self) -> tuple[dict[int, torch.Tensor], dict[int, dict[int, torch.Tensor]]]:
        """Label maps and soft masks of the frames that recorded probabilities lead to.

        Raises:
            Lacks: if there are none.
        """

        def make() -> tuple[dict[int, torch.Tensor], dict[int, dict[int, torch.Tensor]]]:
            labels, soft = {}, {}
            for t in range(self.length):
                if not self.before(t):
                    labels[t] = self.given(t)
                    continue
                found = {n: self.probability(n, t) for n in self.before(t)}
                known = {n: p for n, p in found.items() if p is not None}
                if len(known) < len(found):
                    break
                labels[t], soft[t] = self.merged_frame(t, known)
            return labels, soft

        return self.r.once(("merged", self.name), make)

    def computed(self, number: int) -> list[int]:
        """The frames on which an object's target model was asked and updated."""
        return list(range(self.starts[number] + 1, self.length))

    def soft_masks(self, number: int) -> list[tuple[int, torch.Tensor]]:
        """The frames of `computed`, as far as probabilities are recorded, and the object's soft masks on them."""
        soft = self.merged_frames()[1]
        return [(t, soft[t][number]) for t in self.computed(number) if t in soft]

    def given(self, t: int) -> torch.Tensor:
        """Label map of a frame before which no object began."""
        labels = torch.zeros(self.labels.shape[1:], dtype=torch.uint8)
        for number in self.new(t):
            labels[torch.from_numpy(self.mask(number))] = number
        return labels

    def run(self, dtype: str) -> tuple[Any, torch.Tensor]:
        """A run of our segmenter over the video, from recorded views: the segmenter and its label maps."""

        def make() -> tuple[Any, torch.Tensor]:
            options = {"record": True, "dtype": dtype, "memory": 80}
            changes = self.target_settings(dtype)
            options |= {"memory": changes.pop("capacity"), "update_every": changes.pop("every")}
            options |= {"rate": changes.pop("rate"), "target": changes}
            segmenter = self.family.segmenter(self.network(dtype), self, options)
            _use_recorded(segmenter, self)
            images = frames(self.r, dtype)
            found, first = [], min(self.starts.values())
            numbers = torch.tensor([0, *self.objects], dtype=torch.uint8)
            for t in range(self.length):
                given = self._numbered(t)
                if t < first:
                    found.append(torch.zeros_like(given))
                elif t == first:
                    segmenter.init(images[t], given)
                    found.append(given)
                else:
                    found.append(segmenter.step(images[t], given if given.any() else None).argmax(0))
            return segmenter, numbers[torch.stack(found).long()]

        with torch.no_grad():
            return self.r.once(("run", self.name, dtype), make)

    def _numbered(self, t: int) -> torch.Tensor:
        """Given masks of a frame, objects numbered in their order."""
        labels = torch.zeros(self.labels.shape[1:], dtype=torch.uint8)
        for number in self.new(t):
            labels[torch.from_numpy(self.mask(number))] = 1 + self.objects.index(number)
        return labels

    def objectives(self, number: int, level: str, dtype: str) -> np.ndarray:
        """Values of the objective before each step of the object's initialization.

        Raises:
            Lacks: if its views are not recorded.
        """
        segmenter, _ = self.run(dtype)
        values = torch.cat([x.double() for x in segmenter.targets[level].objectives], 1)
        return values[:, self.objects.index(number)].numpy()


def scene(r: Recording, name: str, family: Family) -> RecordedScene:
    """The scene of a name."""
    return r.once(("scene", name), lambda: family.scene(r, name, family))


def frames(r: Recording, dtype: str) -> torch.Tensor:
    """(T, 3, H, W) in [0, 1]."""
    return r.tensor("images").to(getattr(torch, dtype)) / 255


def network(r: Recording, family: Family, name: str, dtype: str) -> Any:
    """The key-seeded network of a scene, in evaluation mode."""
    part = family.network_of(name)
    backbone = meta(r)["backbone"]
    return r.once(("network", part, dtype), lambda: seeded(family.build(name, backbone), meta(r), dtype))


def features(r: Recording, family: Family, name: str, t: int, dtype: str) -> dict[str, torch.Tensor]:
    """Backbone features of a frame, which is the same in all networks of a recording."""

    def make() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return network(r, family, name, dtype).backbone(frames(r, dtype)[t : t + 1])

    if t >= len(r["images"]):
        raise Lacks(f"frame {t} of images")
    return r.once(("features", t, dtype), make)


def seeded(net: Any, facts: dict[str, Any], dtype: str) -> Any:
    """Fill a network by its keys as the recordings' weights were, in evaluation mode."""
    gains = {"backbone": facts["backbone_gain"], "refiner": facts["refiner_gain"]}
    state = net.state_dict()
    for key, value in state.items():
        gain = gains.get(key.partition(".")[0], facts["other_gain"])
        tensor = seeded_tensor(key.removeprefix("backbone."), tuple(value.shape), gain=gain)
        if key == "refiner.project.conv2.bias":
            tensor += facts["bias_shift"]
        if key.endswith("transform.0.weight"):
            tensor[:, _FEATURES_OF_SCORES:] *= facts["score_boost"]
        state[key] = tensor
    net.load_state_dict(state)
    return net.to(getattr(torch, dtype)).eval()


def seeded_target(inputs: int, channels: int, *, gain: float, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """The recordings' initial target model."""
    shapes = {"project.weight": (channels, inputs, 1, 1), "filter.weight": (1, channels, 3, 3)}
    made = [seeded_tensor(prefix + key, shape, gain=gain) for key, shape in shapes.items()]
    return made[0], made[1]


def _use_recorded(segmenter: Any, found: RecordedScene) -> None:
    """Give a segmenter the recorded views (those of an older OpenCV may differ) and seeded target models."""
    gain = found.setting("target_gain")

    def add(frame: torch.Tensor, masks: torch.Tensor) -> None:
        first = segmenter.objects
        keys = [found.views(n) for n in found.objects[first : first + len(masks)]]
        images = torch.from_numpy(np.stack([found.r[f"{k}.aug_images"] for k in keys]))
        labels = torch.from_numpy(np.stack([found.r[f"{k}.aug_masks"][:, 0] for k in keys]))
        segmenter.add_views(images, labels)
        for level, models in segmenter.targets.items():
            new = [weights[first:].clone() for weights in models.weights()]
            kept = segmenter.initial.get(level)
            segmenter.initial[level] = new if kept is None else [torch.cat(p) for p in zip(kept, new, strict=True)]
        if isinstance(segmenter, GFRTMSegmenter):
            segmenter.start_gate(frame, masks)

    def initial(level: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        inputs = segmenter.model.backbone.channels[level]
        return [seeded_target(inputs, segmenter.settings.channels, gain=gain)] * count

    segmenter.initial = {}
    segmenter._add = add
    segmenter._initial = initial
