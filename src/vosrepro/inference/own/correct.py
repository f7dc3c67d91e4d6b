"""Go on with a corrected mask: what was made before its frame stays, the rest of the clip is segmented again.

What a method remembers cannot be recovered from masks, so the frames before are shown to it once more; it comes to the
same state, and takes the corrected mask as a given one. A method that cannot (see `Correctable`) begins anew there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, read_json, value_digest, write_json
from vosrepro.base.labels import read_labels, write_labels
from vosrepro.base.targets import lies_inside
from vosrepro.base.types import Correctable
from vosrepro.inference.own.drawn import read_mask
from vosrepro.inference.own.kept import RECORD, clear, whole
from vosrepro.inference.own.own_clip import OwnClip
from vosrepro.inference.own.segment import ClipJob, asked_of, close_record, request_of, results_of
from vosrepro.methods import get_method
from vosrepro.study.digests import clip_identity

if TYPE_CHECKING:
    from vosrepro.base.types import Segmenter
    from vosrepro.inference.clock import FrameTime
    from vosrepro.inference.runner import Result

log = logging.getLogger(__name__)


class _Mended:
    """A clip, as a `VideoSource`, some of whose frames have masks that a person corrected."""

    def __init__(self, clip: OwnClip | _Rest, masks: Mapping[str, Path]) -> None:
        self._clip, self.masks = clip, masks
        self.name, self.frame_names, self.starts = clip.name, clip.frame_names, clip.starts
        self.image = clip.image

    def labels(self, frame: str) -> np.ndarray:
        """See `VideoSource.labels`."""
        return read_mask(self.masks[frame]) if frame in self.masks else self._clip.labels(frame)

    def where(self, frame: str) -> Path:
        """See `VideoSource.where`."""
        return self.masks[frame] if frame in self.masks else self._clip.where(frame)


class _Rest:
    """The rest of a clip from a corrected frame on, as a `VideoSource`: objects that are not drawn there have ended."""

    def __init__(self, clip: OwnClip, place: int, mask: Path) -> None:
        self._clip, self._place, self._mask = clip, place, mask
        self.name = clip.name
        self.frame_names: Sequence[str] = clip.frame_names[place:]
        drawn = {int(value) for value in np.unique(read_mask(mask)) if value}
        later = {i: start for i, start in clip.starts.items() if start in self.frame_names[1:] and i not in drawn}
        self.starts: Mapping[int, str] = {**dict.fromkeys(sorted(drawn), self.frame_names[0]), **later}
        if not drawn:
            raise DataError(f"{mask} has no object pixel, so there is nothing to go on with: draw each object's value")

    def image(self, index: int) -> np.ndarray:
        """See `VideoSource.image`."""
        return self._clip.image(index + self._place)

    def labels(self, frame: str) -> np.ndarray:
        """See `VideoSource.labels`."""
        return read_mask(self._mask) if frame == self.frame_names[0] else self._clip.labels(frame)

    def where(self, frame: str) -> Path:
        """See `VideoSource.where`."""
        return self._mask if frame == self.frame_names[0] else self._clip.where(frame)

    def check(self) -> None:
        """Look whether the corrected mask has the size of the clip."""
        image, labels = self.image(0), self.labels(self.frame_names[0])
        if labels.shape != image.shape[:2]:
            raise DataError(
                f"{self._mask} is {labels.shape[1]}x{labels.shape[0]} pixels but its image is "
                f"{image.shape[1]}x{image.shape[0]}: draw the mask at the size of the frame"
            )

    def warn(self, *, remembered: bool) -> None:
        """Say what becomes of objects that are not drawn."""
        absent = [f"object {i}" for i in sorted(set(self._clip.starts) - set(self.starts))]
        if absent:
            fate = "it is remembered, and may come back" if remembered else "it ends there"
            log.warning("%s does not show %s: %s", self._mask, ", ".join(absent), fate)


def correct_clip(
    job: ClipJob, frame: str, mask: Path, *, progress: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Segment a finished clip again from a corrected frame on, and write the record.

    Args:
        job: the call that made the masks.
        frame: of the corrected mask.
        mask: all objects of that frame.
        progress: called after each frame that is segmented.

    Returns:
        As `segment_clip`.

    Raises:
        DataError: if the folder does not hold this call's masks, unchanged; nothing is deleted then.
    """
    frames = list(job.clip.frame_names)
    place = frames.index(frame)
    base, old = request_of(job), _earlier(job, mask)
    known = [tuple(one) for one in old.get("corrections", [])]
    asked = [one for one in known if frames.index(one[0]) < place] + [(frame, file_digest(mask))]
    if old.get("base", old.get("request")) != base:
        raise DataError(f"{job.out} holds masks that were asked for differently: give the earlier call's arguments too")
    if asked == known and whole(job.out, old):
        return {**old, "reused": True}
    first = min(map(frames.index, [*job.clip.starts.values(), *(one for one, _ in asked)]))
    kept = _before(job, old, frames[first:place])
    rest = _Rest(job.clip, place, mask)
    rest.check()
    setup = job.setup
    model = job.network()
    segmenter = get_method(setup.method).segmenter(model, **job.settings)
    again = place > first and isinstance(segmenter, Correctable)
    rest.warn(remembered=again)
    clear(job.out, old, keep=[job.mask(name).name for name in kept])
    request = value_digest([base, asked])
    begun = {"identity": clip_identity(request, setup.method), "request": request, "base": base, "corrections": asked}
    begun |= {"finished": False, **asked_of(job), "objects": sorted({*job.clip.starts, *rest.starts})}
    begun["masks"] |= {job.mask(name).name: digest for name, digest in kept.items()}
    write_json(job.out / RECORD, begun)
    started = time.monotonic()
    masks = {**{one: job.mask(one) for one, _ in asked}, frame: mask}
    results = _seen_again(job, segmenter, masks, kept) if again else results_of(job, segmenter, rest)
    times: list[FrameTime] = []
    digests = dict(kept)
    for result in results:
        write_labels(job.mask(result.frame), result.labels)
        digests[result.frame] = file_digest(job.mask(result.frame))
        times.append(result.time)
        progress()
    return close_record(job, begun, times, digests, earlier=len(kept), started=started)


def _seen_again(
    job: ClipJob, segmenter: Segmenter, masks: Mapping[str, Path], kept: Mapping[str, str]
) -> Iterator[Result]:
    """Results from the corrected frame on, of a segmenter that saw all frames before it.

    Args:
        job: see `ClipJob`.
        segmenter: the method.
        masks: corrections by frame, earlier ones too, which are the masks that stay of their frames.
        kept: frames whose masks stay.
    """
    names = list(kept)
    first, last = names[0], names[-1]
    clip = job.clip if first not in masks else _Rest(job.clip, list(job.clip.frame_names).index(first), masks[first])
    later = [frame for frame in masks if frame != first]
    differing = 0
    for result in results_of(job, segmenter, _Mended(clip, masks), corrected=later):
        if result.frame not in kept:
            yield result
        elif not np.array_equal(result.labels, read_labels(job.mask(result.frame))):
            differing += 1
        if differing and result.frame == last:
            log.warning("%d masks before came out otherwise than the earlier call made them; they stay", differing)


def _earlier(job: ClipJob, mask: Path) -> dict[str, Any]:
    """The record of the masks that are corrected; refuses where a hand's work would be lost."""
    if not (job.out / RECORD).is_file():
        raise DataError(f"{job.out} holds no masks to correct: segment the clip first, without --correct")
    if lies_inside(mask, job.out):
        raise DataError(f"{mask} lies in {job.out}, where masks are replaced: copy it elsewhere")
    old = read_json(job.out / RECORD)
    for name, digest in old.get("masks", {}).items():
        path = job.out / Path(name).name
        if not job.force and digest is not None and path.is_file() and file_digest(path) != digest:
            raise DataError(f"{path} was changed by hand: copy it and give it to --correct, or replace it with --force")
    return old


def _before(job: ClipJob, old: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Digests of the masks that stay; each must be as the earlier call left it."""
    kept = {}
    for name in names:
        path = job.mask(name)
        digest = old.get("masks", {}).get(path.name)
        if digest is None or not path.is_file() or file_digest(path) != digest:
            raise DataError(f"{path} is not as the earlier call left it: segment the clip again first")
        kept[name] = digest
    return kept
