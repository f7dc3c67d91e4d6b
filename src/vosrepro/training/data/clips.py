"""Training samples: a few frames of one image or one video with the masks of a few objects.

Every sampler is a pure function of an item and an explicit generator. A sample is a dictionary of uint8
arrays, small enough to travel between processes; `to_batch` turns collated samples into the float tensors
that a method's `train_step` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from vosrepro.base.errors import ConfigError, DataError, pick
from vosrepro.datasets.sets.catalog import training_facts

if TYPE_CHECKING:
    import torch

    from vosrepro.base.types import Batch
    from vosrepro.study.params import ClipParams, DataParams, DataSource, StageParams

#: uint8 arrays: frames (T, H, W, 3) RGB, masks (T, K, H, W) 0..255, labels (T, H, W) 0..K, selector (K);
#: int64: times (T), the frames' places in their video, and lengths (), its frames.
Sample = dict[str, np.ndarray]

_TRIES = 5


@dataclass(frozen=True)
class Item:
    """One entry of a stage's list of videos or images."""

    set: str
    content: Any  # vosrepro.datasets.StaticImage or Video
    label: int | None = None  # of a video: the only object of its clips


def load_items(params: StageParams, data: DataParams, *, held_out: Collection[str] = ()) -> list[Item]:
    """The list of a stage: each source's items, `repeat` times, in order.

    Videos with fewer labeled frames than a clip has are left out, as are the held-out sequences on which
    checkpoints are selected.

    Raises:
        DataError: if nothing is left.
    """
    from vosrepro.datasets import training_pictures

    items: list[Item] = []
    for source in params.data:
        if training_facts(source.set).videos:
            found = _video_items(source, params.clips, data, held_out)
        else:
            found = [Item(source.set, picture) for picture in training_pictures(source.set, data)]
        items += found * source.repeat
    if not items:
        names = ", ".join(source.set for source in params.data)
        raise DataError(
            f"the training sets {names} in {data.root} have no usable item: "
            "run `vosrepro data verify` to see what is missing"
        )
    return items


def _video_items(source: DataSource, clips: ClipParams, data: DataParams, held_out: Collection[str]) -> list[Item]:
    """The videos of a set, or the objects or single frames in them, as the clips want them."""
    from vosrepro.datasets import training_videos
    from vosrepro.datasets.sets.files import frame_names

    set_name = source.set
    videos = training_videos(set_name, data, exclude=held_out)
    least = source.min_labels or min(3, clips.frames)
    found = [v for v in videos if len(set(frame_names(v.frames)) & set(v.annotations)) >= least]
    if clips.kind == "static":
        return [Item(set_name, frame) for frame in _single_frames(found)]
    if clips.pick == "visible-first":
        if found and not any(video.starts for video in found):
            raise DataError(
                f"no video of the training set {set_name} in {data.root} says which objects it has: "
                "its meta.json is missing, restore it beside JPEGImages and Annotations"
            )
        return [Item(set_name, video, label) for video in found for label in video.starts]
    return [Item(set_name, video) for video in found]


def _single_frames(videos: Sequence[Any]) -> list[Any]:
    """Every labeled frame of single-object videos as a static image; frames without the object are left out."""
    from vosrepro.datasets import StaticImage

    found = []
    for video in videos:
        for frame in labeled_frames(video):
            mask = video.annotations[frame.stem]
            if read_soft_mask(mask).any():
                found.append(StaticImage(f"{video.name}/{frame.stem}", frame, mask))
    return found


def labeled_frames(video: Any) -> list[Path]:
    """Frames that have an annotation, in temporal order."""
    labeled = set(video.annotations)
    return [frame for frame in video.frames if frame.stem in labeled]


def read_soft_mask(path: Path) -> np.ndarray:
    """The grey mask of a static image, uint8 (H, W), 0..255; soft edges are kept.

    Raises:
        DataError: if it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore or remake this file") from error


def max_jump_at(params: ClipParams, share: float) -> int:
    """Largest distance of neighboring frames at a share (0..1) of the stage."""
    return [value for start, value in params.max_jump if start <= share][-1]


def choose_frames(count: int, frames: int, jump: int, rng: np.random.Generator) -> list[int]:
    """Indices of a clip: the first anywhere, each next one 1 to 1 + `jump` later, kept inside the video.

    With J = min(count, jump) and r(a) uniform in 0..a-1: start = r(count - J + 1), then
    f_t = min(f_{t-1} + 1 + r(J + 1), count - J // t, count - 1). Frames may repeat at the end of a video.
    The order is reversed with probability 0.5.

    Source: hkchengrex/Mask-Propagation: dataset/vos_dataset.py.
    Deviation: the bounds count - J and count - J // 2 of its three frames are continued as count - J // t.
    """
    jump = min(count, jump)
    chosen = [int(rng.integers(count - jump + 1))]
    for t in range(1, frames):
        ahead = chosen[-1] + 1 + int(rng.integers(jump + 1))
        chosen.append(min(ahead, count - jump // t, count - 1))
    return chosen[::-1] if rng.random() < 0.5 else chosen


def choose_anywhere(count: int, frames: int, rng: np.random.Generator, *, first: int | None = None) -> list[int]:
    """Indices of distinct frames at any distance, in random order, after the first one if it is given.

    Frames are repeated only if the video has too few.

    Source: sydney0zq/PML: the sampler of triplets; andr345/frtm-vos: lib/training_datasets.py.
    """
    order = [int(i) for i in rng.permutation(count)]
    if first is not None:
        order = [first, *(i for i in order if i != first)]
    return [order[i % len(order)] for i in range(frames)]


def choose_objects(present: Sequence[int], objects: int, rng: np.random.Generator) -> list[int]:
    """Up to `objects` different labels in random order: the target first, then its companions."""
    order = rng.permutation(len(present))[:objects]
    return [int(present[i]) for i in order]


class Sampler(Protocol):
    """Builds the samples of one stage."""

    def sample(self, item: Item, rng: np.random.Generator, *, share: float) -> Sample:
        """One sample.

        Args:
            item: the video or image.
            rng: the only source of randomness.
            share: how much of the stage is done (0..1), for the curriculum.
        """
        ...


@dataclass(frozen=True)
class Readers:
    """How a sampler comes by pixels.

    Attributes:
        frame: path -> uint8 (H, W, 3).
        labels: (video, frame name) -> uint8 (H, W).
        mask: path -> uint8 (H, W), the soft mask of a static image, 0..255.
    """

    frame: Callable[[Path], np.ndarray]
    labels: Callable[[Any, str], np.ndarray]
    mask: Callable[[Path], np.ndarray]


def make_sampler(params: ClipParams, readers: Readers) -> Sampler:
    """The sampler of a stage by the kind of its clips; single images with a class are read by their own.

    Raises:
        ConfigError: if the kind of clip or the augmentation is unknown.
    """
    from vosrepro.training.data.images import ImageSampler

    kinds = {"static": ClipSampler, "video": ClipSampler, "image": ImageSampler}
    kind = pick(kinds, params.kind, what="kind of clip", where="training")
    return ImageSampler(params) if kind is ImageSampler else ClipSampler(params, readers)


class ClipSampler:
    """Clips of videos, or of an image that moves; see `Sampler`.

    Args:
        params: the clips of the stage.
        readers: where pixels come from.

    Raises:
        ConfigError: if the augmentation is unknown, or for clips of another kind.
    """

    def __init__(self, params: ClipParams, readers: Readers) -> None:
        from vosrepro.training.data.augment import PRESETS

        preset = pick(PRESETS, params.augment, what="augmentation", where="training")
        if preset.kind != params.kind:
            raise ConfigError(
                f"augmentation '{params.augment}' is for clips of kind '{preset.kind}', not '{params.kind}'"
            )
        self.params = params
        self._areas: dict[tuple[str, str], tuple[np.ndarray, int]] = {}
        self._augment = preset.configured(params.options, name=params.augment)
        self._read = readers

    def sample(self, item: Item, rng: np.random.Generator, *, share: float) -> Sample:
        """One sample; see `Sampler`."""
        return self._static(item, rng) if self.params.kind == "static" else self._video(item, rng, share)

    def _static(self, item: Item, rng: np.random.Generator) -> Sample:
        count = self.params.frames
        image = self._read.frame(item.content.image)
        mask = self._read.mask(item.content.mask)
        _check_size(image, mask, item.content.image, item.content.mask)
        frames, masks = self._augment([image] * count, [mask] * count, self.params.size_px, rng)
        soft = np.zeros((count, self.params.objects, *self.params.size_px), np.uint8)
        soft[:, 0] = masks
        labels = (np.stack(masks) > 127).astype(np.uint8)  # more than half, as 128 / 255 > 0.5
        return {
            "frames": np.stack(frames),
            "masks": soft,
            "labels": labels,
            "selector": _selector(1, self.params.objects),
            "times": np.zeros(count, np.int64),
            "lengths": np.array(1, np.int64),
        }

    def _video(self, item: Item, rng: np.random.Generator, share: float) -> Sample:
        paths = labeled_frames(item.content)
        frames, labels, chosen, indices = [], np.empty(0), [], []
        for _ in range(_TRIES):
            indices = self._indices(item, paths, rng, share)
            pairs = [self._pair(item.content, paths[i]) for i in indices]
            frames, warped = self._augment(
                [image for image, _ in pairs], [mask for _, mask in pairs], self.params.size_px, rng
            )
            labels = np.stack(warped)
            present = training_facts(item.set).worth_learning(labels)
            if item.label is not None:
                present = [label for label in present if label == item.label]
            chosen = choose_objects(present, self.params.objects, rng)
            if chosen:
                break
        sample = _objects_sample(np.stack(frames), labels, chosen, self.params.objects)
        place = {path: i for i, path in enumerate(item.content.frames)}
        sample["times"] = np.array([place[paths[i]] for i in indices], np.int64)
        sample["lengths"] = np.array(len(place), np.int64)
        return sample

    def _indices(self, item: Item, paths: Sequence[Path], rng: np.random.Generator, share: float) -> list[int]:
        """Which of the labeled frames a clip has."""
        count, frames = len(paths), self.params.frames
        if self.params.pick == "jump":
            jump = max(1, max_jump_at(self.params, share) // training_facts(item.set).frames_per_label)
            return choose_frames(count, frames, jump, rng)
        if item.label is None:
            return choose_anywhere(count, frames, rng)
        shown = self._shown(item, paths)
        return choose_anywhere(count, frames, rng, first=int(rng.choice(shown)))

    def _shown(self, item: Item, paths: Sequence[Path]) -> np.ndarray:
        """Indices of the frames that show an object well enough to start from; kept, for it reads them all."""
        key = (item.set, item.content.name)
        if key not in self._areas:
            maps = [self._read.labels(item.content, path.stem) for path in paths]
            areas = np.stack([np.bincount(labels.ravel(), minlength=256) for labels in maps])
            self._areas[key] = areas.astype(np.int32), maps[0].size
        areas, size = self._areas[key]
        assert item.label is not None
        shown = training_facts(item.set).visible(item.content.name, item.label, areas[:, item.label], size)
        return np.flatnonzero(shown) if shown.any() else areas[:, [item.label]].argmax(0)

    def _pair(self, video: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self._read.frame(path), self._read.labels(video, path.stem)
        _check_size(image, mask, path, video.annotations[path.stem])
        return image, mask


def _objects_sample(frames: np.ndarray, labels: np.ndarray, chosen: Sequence[int], objects: int) -> Sample:
    masks = np.zeros((len(frames), objects, *labels.shape[1:]), np.uint8)
    target = np.zeros(labels.shape, np.uint8)
    for k, label in enumerate(chosen):
        inside = labels == label
        masks[:, k][inside] = 255
        target[inside] = k + 1
    # A clip without any object is a lesson in background; upstream still calls its target an object.
    selector = _selector(max(1, len(chosen)), objects)
    return {"frames": frames, "masks": masks, "labels": target, "selector": selector}


def _selector(present: int, objects: int) -> np.ndarray:
    return (np.arange(objects) < present).astype(np.uint8)


def _check_size(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"{mask_path} is {mask.shape[1]}x{mask.shape[0]} but its image {image_path} is "
            f"{image.shape[1]}x{image.shape[0]}: restore the pair from the original archive"
        )


def to_batch(samples: Mapping[str, torch.Tensor], device: torch.device) -> Batch:
    """Collated samples -> the batch of `train_step`, on a device."""
    import torch

    moved = {name: value.to(device, non_blocking=True) for name, value in samples.items()}
    frames = moved["frames"].permute(0, 1, 4, 2, 3).contiguous()
    batch = {
        **moved,
        "frames": frames.to(torch.float32).div_(255),
        "masks": moved["masks"].to(torch.float32).div_(255),
        "labels": moved["labels"].long(),
        "selector": moved["selector"].to(torch.float32),
    }
    return cast("Batch", batch)
