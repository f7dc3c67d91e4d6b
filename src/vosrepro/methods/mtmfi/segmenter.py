"""MTMFI online: FRTM with two target models per object and another growth of the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from vosrepro.base.errors import ConfigError
from vosrepro.methods.frtm.segmenter import FRTMSegmenter

if TYPE_CHECKING:
    from vosrepro.methods.mtmfi.model import MTMFI

#: Videos of YouTube-VOS 2018 that upstream leaves out of every run by name (too large for its GPU).
SKIPPED_VIDEOS = (
    "226f1e10f7",
    "1bcd8a65de",
    "30fe0ed0ce",
    "4bef684040",
    "5f8241a147",
    "b1a8a404ad",
)


class MTMFISegmenter(FRTMSegmenter):
    """Segments one video; all objects and both levels at once.

    Args:
        model: the network.
        head: what the variant expects the network's head to be (None: any).
        skip_videos: give `SKIPPED_VIDEOS` their first masks only, as no one segments them upstream; the
            runner does it.
        options: see `FRTMSegmenter`.

    Raises:
        ConfigError: if the network has another head.

    Source: gbc-sid/MTMFI-VOS: model/tracker.py, inference.py.
    """

    defaults: ClassVar[dict[str, Any]] = {"channels": 64, "growth": "multiply"}

    def __init__(self, model: MTMFI, *, head: str | None = None, skip_videos: bool = False, **options: Any) -> None:
        if head is not None and model.head.split("-")[0] != head:
            raise ConfigError(
                f"the variant is for networks with head '{head}', but these weights have head "
                f"'{model.head}': use the variant of that name"
            )
        super().__init__(model, **options)
        self.skipped_videos = SKIPPED_VIDEOS if skip_videos else ()
