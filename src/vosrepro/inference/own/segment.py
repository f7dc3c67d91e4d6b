"""Segment a user's own clip: masks as PNG while they are made, a record, and a video to look at.

Masks are written as they come and no frame is kept, so memory does not grow with the clip. A finished clip
is never segmented again. What a method remembers of earlier frames cannot be recovered from their masks, so
on a CPU its state is saved every minute, and an interrupted clip goes on from there with the same masks as
if nothing had happened; on a GPU, where a clip takes less than its state, it starts anew. The overlay is made
from finished masks and does not need the method.
"""

from __future__ import annotations

import inspect
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vosrepro.base.errors import CheckpointError, DataError
from vosrepro.base.files import file_digest, read_json, value_digest, write_json
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.base.machine import peak_memory
from vosrepro.base.provenance import provenance
from vosrepro.base.tint import blend
from vosrepro.inference.clock import FrameTime, summarize
from vosrepro.inference.overlay import write_overlay
from vosrepro.inference.own.kept import RECORD, STATE, clear, earlier_record, whole
from vosrepro.inference.own.own_clip import Beginning, FolderImages, Images, OwnClip, VideoImages
from vosrepro.inference.own.snapshot import load_segmenter, save_segmenter
from vosrepro.inference.runner import Result, segment_video
from vosrepro.methods import get_method
from vosrepro.methods.common.precision import Precision, settings_in
from vosrepro.study.digests import clip_identity, clip_request
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.base.types import Segmenter
    from vosrepro.inference.own.setup import Setup

log = logging.getLogger(__name__)

#: Between two saved states, on a CPU.
SAVE_EVERY_S = 60.0
#: Remembered frames of methods that would otherwise remember more and more of them.
MEMORY_ENTRIES = 40
#: A bound of the memory that a user never meets in the published settings.
_BOUND = "max_memory_entries"


@dataclass(frozen=True)
class ClipJob:
    """What is to be segmented, how, and where the masks go; `force` replaces what others left there."""

    clip: OwnClip
    setup: Setup
    out: Path
    device: torch.device
    short_side_px: int | None
    memory_entries: int | None = MEMORY_ENTRIES
    force: bool = False
    precision: Precision = "fp32"

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the segmenter: the variant's, with a bound where the method takes one."""
        settings = dict(self.setup.settings)
        card = get_method(self.setup.method)
        bounded = _BOUND in inspect.signature(card.segmenter).parameters
        if bounded and self.memory_entries is not None:
            settings.setdefault(_BOUND, self.memory_entries)
        return settings_in(card, settings, self.precision)

    def network(self) -> nn.Module | None:
        """The network for inference in the precision; None for a method without weights."""
        setup = self.setup
        options: Any = {"weights": setup.weights, "seed": 0, "device": self.device, "precision": self.precision}
        return inference_model(setup.method, setup.model, **options)

    @property
    def sources(self) -> list[Path]:
        """Every file that the masks are made from."""
        images, weights = self.clip.images, self.setup.weights
        images = images.images if isinstance(images, Beginning) else images
        if isinstance(images, FolderImages):
            frames = list(images.paths)
        else:
            frames = [images.path] if isinstance(images, VideoImages) else []
        return [*frames, *self.clip.masks.values(), *([weights] if weights else [])]

    def mask(self, frame: str) -> Path:
        """Where the mask of a frame goes."""
        return self.out / f"{frame}.png"


def segment_clip(job: ClipJob, *, progress: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Write one mask for each frame from the first given one on, and the record.

    Args:
        job: see `ClipJob`.
        progress: called after each frame.

    Returns:
        The record, with "reused" true if all masks were there already.

    Raises:
        DataError: if the output folder holds work of others, or clip and masks do not fit; nothing is deleted then.
    """
    request = request_of(job)
    identity = clip_identity(request, job.setup.method)
    old = earlier_record(job.out, request, sources=job.sources, force=job.force)
    same = old is not None and old.get("identity") == identity
    if old is not None and same and whole(job.out, old):
        return {**old, "reused": True}
    job.clip.check()
    model = job.network()
    past = _past(job) if same else Past()
    clear(job.out, old, keep=[job.mask(frame).name for frame in past.digests])
    begun = {"identity": identity, "request": request, "finished": False, **asked_of(job)}
    write_json(job.out / RECORD, begun)
    started = time.monotonic()
    times, digests = _run(job, model, past, progress)
    return close_record(job, begun, times, digests, earlier=len(past.digests), started=started)


def close_record(
    job: ClipJob,
    begun: Mapping[str, Any],
    times: Sequence[FrameTime],
    digests: Mapping[str, str],
    *,
    earlier: int,
    started: float,
) -> dict[str, Any]:
    """Write the record of a finished clip.

    Args:
        job: see `ClipJob`.
        begun: what the record said from the beginning.
        times: of the frames that were segmented.
        digests: frame -> digest of its mask.
        earlier: how many of the masks earlier calls made.
        started: seconds of the monotonic clock.
    """
    shutil.rmtree(job.out / STATE, ignore_errors=True)
    record = {
        **begun,
        "finished": True,
        "frames": len(digests),
        "masks": {job.mask(frame).name: digest for frame, digest in digests.items()},
        "masks_digest": value_digest(digests),
        "frames_of_earlier_calls": earlier,
        "timing": summarize(times),
        "memory": peak_memory(job.device),
        "wall_seconds": round(time.monotonic() - started, 3),
    }
    write_json(job.out / RECORD, record)
    return {**record, "reused": False}


def check_clip(job: ClipJob) -> bool:
    """Look at clip, masks and output folder as `segment_clip` does before it begins; whether it is finished already.

    Raises:
        DataError: as `segment_clip`.
    """
    request = request_of(job)
    old = earlier_record(job.out, request, sources=job.sources, force=job.force)
    job.clip.check()
    same = old is not None and old.get("identity") == clip_identity(request, job.setup.method)
    return old is not None and same and whole(job.out, old)


def asked_of(job: ClipJob) -> dict[str, Any]:
    """What the record says from the beginning, the files that will be written included."""
    frames = list(job.clip.frame_names)
    first = min(map(frames.index, job.clip.starts.values()))
    return {
        "clip": job.clip.name,
        "objects": sorted(job.clip.starts),
        "method": job.setup.method,
        "weights": None if job.setup.weights is None else str(job.setup.weights),
        "made_by": job.setup.origin,
        "variant": job.setup.variant,
        "settings": job.settings,
        "input_short_side_px": job.short_side_px,
        "device": str(job.device),
        "precision": job.precision,
        "masks": {job.mask(frame).name: None for frame in frames[first:]},
        "provenance": provenance(),
    }


def overlay_clip(job: ClipJob, target: Path, *, progress: Callable[[], object] = lambda: None) -> None:
    """Write a video of the whole clip with its finished masks drawn over it."""

    def frames() -> Iterator[np.ndarray]:
        for index, name in enumerate(job.clip.frame_names):
            path = job.mask(name)
            yield blend(job.clip.image(index), read_labels(path) if path.is_file() else None)

    images = job.clip.images
    write_overlay(frames(), target, rate=images.rate, times=images.times, progress=progress)


@dataclass(frozen=True)
class Past:
    """What an interrupted call finished: digests of masks and times, up to the frame of its saved state."""

    digests: Mapping[str, str] = field(default_factory=dict)
    times: Sequence[FrameTime] = ()


class _Continued:
    """The rest of a clip, as a `VideoSource` whose first frame is the last that was finished.

    The runner asks for a mask of that frame; the segmenter is past it already, so a mask that only names
    the objects, in their order, will do.
    """

    def __init__(self, clip: OwnClip, place: int, size: tuple[int, ...]) -> None:
        self._clip, self._place, self._size = clip, place, size
        self.name = clip.name
        self.frame_names: Sequence[str] = clip.frame_names[place:]
        index = {name: number for number, name in enumerate(clip.frame_names)}
        self.order = sorted(
            (i for i, start in clip.starts.items() if index[start] <= place),
            key=lambda identity: (index[clip.starts[identity]], identity),
        )
        known, first = set(self.order), self.frame_names[0]
        self.starts: Mapping[int, str] = {i: first if i in known else start for i, start in clip.starts.items()}

    def image(self, index: int) -> np.ndarray:
        """See `VideoSource.image`."""
        return self._clip.image(index + self._place)

    def labels(self, frame: str) -> np.ndarray:
        """See `VideoSource.labels`."""
        if frame != self.frame_names[0]:
            return self._clip.labels(frame)
        labels = np.zeros(self._size, np.uint8)
        labels.flat[: len(self.order)] = self.order
        return labels

    def where(self, frame: str) -> Path | str:
        """See `VideoSource.where`."""
        return self._clip.masks.get(frame, frame)


class _Restored:
    """A segmenter that has seen the first frame of what it is shown."""

    def __init__(self, inner: Segmenter) -> None:
        self.inner = inner

    def init(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        """Nothing: the state is that after this frame."""

    def step(self, frame: torch.Tensor, new: torch.Tensor | None = None) -> torch.Tensor:
        """See `Segmenter.step`."""
        return self.inner.step(frame, new)


def _run(
    job: ClipJob, model: nn.Module | None, past: Past, progress: Callable[[], object]
) -> tuple[list[FrameTime], dict[str, str]]:
    segmenter: Segmenter = get_method(job.setup.method).segmenter(model, **job.settings)
    results = results_of(job, segmenter, job.clip)
    if past.digests:
        try:
            segmenter = load_segmenter(model, job.out / STATE)
        except CheckpointError as error:
            log.warning("%s: starting anew", error)
            past = Past()
        else:
            results = _rest(job, segmenter, list(past.digests)[-1])
    times, digests = list(past.times), dict(past.digests)
    for _ in digests:
        progress()
    saved, savable = time.monotonic(), job.device.type == "cpu"
    for result in results:
        write_labels(job.mask(result.frame), result.labels)
        digests[result.frame] = file_digest(job.mask(result.frame))
        times.append(result.time)
        progress()
        if savable and time.monotonic() - saved >= SAVE_EVERY_S:
            savable = _save(job, segmenter, model, Past(digests, times))
            saved = time.monotonic()
    return times, digests


def results_of(job: ClipJob, segmenter: Segmenter, clip: Any, **options: Any) -> Iterator[Result]:
    """Results of a clip, or of a part of it, frame by frame."""
    return segment_video(lambda: segmenter, clip, device=job.device, short_side_px=job.short_side_px, **options)


def _rest(job: ClipJob, segmenter: Segmenter, last: str) -> Iterator[Result]:
    """Results after the frame `last`, of a segmenter that has seen it."""
    place = list(job.clip.frame_names).index(last)
    rest = _Continued(job.clip, place, read_labels(job.mask(last)).shape)
    results = results_of(job, _Restored(segmenter), rest, order=rest.order, preview=False)
    next(results)
    return results


def _save(job: ClipJob, segmenter: Segmenter, model: nn.Module | None, past: Past) -> bool:
    """Save the state, then what it belongs to; after a kill in between there is no state to go on from."""
    folder = job.out / STATE
    (folder / "past.json").unlink(missing_ok=True)
    if not save_segmenter(segmenter, model, folder):
        return False
    value = {"digests": list(past.digests.items()), "times": [asdict(t) for t in past.times]}
    write_json(folder / "past.json", value)
    return True


def _past(job: ClipJob) -> Past:
    """What can be kept of an interrupted call; nothing if its masks were changed."""
    try:
        value = read_json(job.out / STATE / "past.json")
        digests = dict(value["digests"])
        times = tuple(FrameTime(**t) for t in value["times"])
    except (DataError, KeyError, TypeError, ValueError):
        return Past()
    whole = all(job.mask(f).is_file() and file_digest(job.mask(f)) == d for f, d in digests.items())
    return Past(digests, times) if whole else Past()


def _content(images: Images) -> Any:
    if isinstance(images, FolderImages):
        return [[path.name, file_digest(path)] for path in images.paths]
    return file_digest(images.path) if isinstance(images, VideoImages) else list(images.frame_names)


def request_of(job: ClipJob) -> str:
    """Digest of everything that the masks depend on, but for the code."""
    images = job.clip.images
    frames: Any = _content(images.images if isinstance(images, Beginning) else images)
    if isinstance(images, Beginning):
        frames = [frames, len(images.frame_names)]
    weights = job.setup.weights
    return clip_request(
        frames=frames,
        masks={frame: file_digest(path) for frame, path in job.clip.masks.items()},
        method=job.setup.method,
        model=job.setup.model,
        settings=job.settings,
        short_side_px=job.short_side_px,
        weights=file_digest(weights) if weights else None,
        precision=job.precision,
    )
