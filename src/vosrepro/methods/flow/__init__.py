"""`flow`: carry the masks along dense optical flow. The floor that knows about motion."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.flow.segmenter import FlowSegmenter

METHOD = Method(
    name="flow",
    summary="Warps the previous masks with dense optical flow (DIS) from frame to frame.",
    segmenter=FlowSegmenter,
    paper=Paper(
        title="Fast Optical Flow using Dense Inverse Search",
        venue="ECCV 2016",
        url="https://arxiv.org/abs/1603.03590",
    ),
)
