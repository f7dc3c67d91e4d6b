"""`copy`: repeat the first mask of every object for ever. The floor of every table."""

from vosrepro.base.types import Method
from vosrepro.methods.copy.segmenter import CopySegmenter

METHOD = Method(
    name="copy",
    summary="Repeats the first mask of each object in all later frames.",
    segmenter=CopySegmenter,
)
