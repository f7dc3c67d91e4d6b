"""`pml`: segments by nearest neighbours in a learned pixel embedding."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.pml.convert import build, convert, transfer
from vosrepro.methods.pml.segmenter import PMLSegmenter
from vosrepro.methods.pml.train import train_step

METHOD = Method(
    name="pml",
    summary="Embeds every pixel and gives it the labels of its nearest neighbours in the first frame.",
    paper=Paper(
        title="Blazingly Fast Video Object Segmentation with Pixel-Wise Metric Learning",
        venue="CVPR 2018",
        url="https://arxiv.org/abs/1804.03131",
        code="sydney0zq/PML",
    ),
    segmenter=PMLSegmenter,
    build=build,
    train_step=train_step,
    transfer=transfer,
    convert=convert,
    bf16_equal_share=0.9992,
)
