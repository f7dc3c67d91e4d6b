"""`parts`: tracks parts of an object and propagates their masks."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.parts.classifier import classifier
from vosrepro.methods.parts.drawing import draw_parts
from vosrepro.methods.parts.model import PartsNet
from vosrepro.methods.parts.segmenter import PartsSegmenter
from vosrepro.methods.parts.train import train_step
from vosrepro.methods.parts.transfer import transfer

METHOD = Method(
    name="parts",
    summary="Cuts objects into parts, finds all parts again by one correlation, and joins their propagated masks.",
    paper=Paper(
        title="One-shot video object segmentation by tracking parts (unfinished master's thesis, completed by us)",
        venue="2019",
        url="https://github.com/WangYuTum/MasterThesis2",
        code="WangYuTum/MasterThesis2",
    ),
    segmenter=PartsSegmenter,
    build=PartsNet,
    train_step=train_step,
    transfer=transfer,
    classifier=classifier,
    draw=draw_parts,
    bf16_equal_share=0.9978,
)
