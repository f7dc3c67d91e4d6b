"""Go on with a corrected mask: what was made before its frame stays, the rest of the clip is segmented again.

The method begins anew with the corrected mask, so it follows what the person drew; what it remembered of earlier
frames is not used, since that led to what was corrected.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, read_json, value_digest, write_json
from vosrepro.base.labels import write_labels
from vosrepro.base.targets import inside
from vosrepro.inference.own.drawn import read_mask
from vosrepro.inference.own.kept import RECORD, clear, whole
from vosrepro.inference.own.own_clip import OwnClip
from vosrepro.inference.own.segment import Job, asked_of, close_record, request_of, results_of
from vosrepro.methods import get_method
from vosrepro.study.digests import clip_identity
from vosrepro.weights.files import inference_model

if TYPE_CHECKING:
    from vosrepro.inference.clock import FrameTime

log = logging.getLogger(__name__)


class _Corrected:
    """The rest of a clip from a corrected frame on, as a `Source`: objects that are not drawn there have ended."""

    def __init__(self, clip: OwnClip, place: int, mask: Path) -> None:
        self._clip, self._place, self._mask = clip, place, mask
        self.name = clip.name
        self.frame_names: Sequence[str] = clip.frame_names[place:]
        drawn = {int(value) for value in np.unique(read_mask(mask)) if value}
        later = {i: start for i, start in clip.starts.items() if start in self.frame_names[1:] and i not in drawn}
        self.starts: Mapping[int, str] = {**dict.fromkeys(sorted(drawn), self.frame_names[0]), **later}
        ended = sorted(set(clip.starts) - set(self.starts))
        if not self.starts:
            raise DataError(f"{mask} has no object pixel, so there is nothing to go on with: draw each object's value")
        if ended:
            log.warning("%s does not show %s: they end there", mask, ", ".join(f"object {i}" for i in ended))

    def image(self, index: int) -> np.ndarray:
        """See `Source.image`."""
        return self._clip.image(index + self._place)

    def labels(self, frame: str) -> np.ndarray:
        """See `Source.labels`."""
        return read_mask(self._mask) if frame == self.frame_names[0] else self._clip.labels(frame)

    def where(self, frame: str) -> Path:
        """See `Source.where`."""
        return self._mask if frame == self.frame_names[0] else self._clip.where(frame)

    def check(self) -> None:
        """Look whether the corrected mask has the size of the clip."""
        image, labels = self.image(0), self.labels(self.frame_names[0])
        if labels.shape != image.shape[:2]:
            raise DataError(
                f"{self._mask} is {labels.shape[1]}x{labels.shape[0]} pixels but its image is "
                f"{image.shape[1]}x{image.shape[0]}: draw the mask at the size of the frame"
            )


def correct_clip(job: Job, frame: str, mask: Path, *, progress: Callable[[], object] = lambda: None) -> dict[str, Any]:
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
    place, first = frames.index(frame), min(map(frames.index, job.clip.starts.values()))
    base, old = request_of(job), _earlier(job, mask)
    known = [tuple(one) for one in old.get("corrections", [])]
    asked = [one for one in known if frames.index(one[0]) < place] + [(frame, file_digest(mask))]
    if old.get("base", old.get("request")) != base:
        raise DataError(f"{job.out} holds masks that were asked for differently: give the earlier call's arguments too")
    if asked == known and whole(job.out, old):
        return {**old, "reused": True}
    kept = _before(job, old, frames[first:place])
    rest = _Corrected(job.clip, place, mask)
    rest.check()
    setup = job.setup
    model = inference_model(setup.method, setup.model, weights=setup.weights, seed=0, device=job.device)
    clear(job.out, old, keep=[job.mask(name).name for name in kept])
    request = value_digest([base, asked])
    begun = {"identity": clip_identity(request, setup.method), "request": request, "base": base, "corrections": asked}
    begun |= {"finished": False, **asked_of(job), "objects": sorted({*job.clip.starts, *rest.starts})}
    begun["masks"] |= {job.mask(name).name: digest for name, digest in kept.items()}
    write_json(job.out / RECORD, begun)
    started = time.monotonic()
    times: list[FrameTime] = []
    digests = dict(kept)
    for result in results_of(job, get_method(setup.method).segmenter(model, **job.settings), rest):
        write_labels(job.mask(result.frame), result.labels)
        digests[result.frame] = file_digest(job.mask(result.frame))
        times.append(result.time)
        progress()
    return close_record(job, begun, times, digests, earlier=len(kept), started=started)


def _earlier(job: Job, mask: Path) -> dict[str, Any]:
    """The record of the masks that are corrected; refuses where a hand's work would be lost."""
    if not (job.out / RECORD).is_file():
        raise DataError(f"{job.out} holds no masks to correct: segment the clip first, without --correct")
    if inside(mask, job.out):
        raise DataError(f"{mask} lies in {job.out}, where masks are replaced: copy it elsewhere")
    old = read_json(job.out / RECORD)
    for name, digest in old.get("masks", {}).items():
        path = job.out / Path(name).name
        if not job.force and digest is not None and path.is_file() and file_digest(path) != digest:
            raise DataError(f"{path} was changed by hand: copy it and give it to --correct, or replace it with --force")
    return old


def _before(job: Job, old: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Digests of the masks that stay; each must be as the earlier call left it."""
    kept = {}
    for name in names:
        path = job.mask(name)
        digest = old.get("masks", {}).get(path.name)
        if digest is None or not path.is_file() or file_digest(path) != digest:
            raise DataError(f"{path} is not as the earlier call left it: segment the clip again first")
        kept[name] = digest
    return kept
