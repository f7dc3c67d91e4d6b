"""`gfrtm`: FRTM with a reuse gate."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.frtm.prepare import prepare
from vosrepro.methods.gfrtm.convert import convert
from vosrepro.methods.gfrtm.model import GFRTM
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter
from vosrepro.methods.gfrtm.train import train_step

METHOD = Method(
    name="gfrtm",
    summary=("FRTM with a gate that reuses the last computed frame where template matching sees little change."),
    segmenter=GFRTMSegmenter,
    paper=Paper(
        title="Learning Dynamic Network Using a Reuse Gate Function in Semi-supervised Video Object Segmentation",
        venue="CVPR 2021",
        url="https://arxiv.org/abs/2012.11655",
        code="HYOJINPARK/Reuse_VOS",
    ),
    build=GFRTM,
    train_step=train_step,
    convert=convert,
    prepare=prepare,
    tries_kernels=True,
    bf16_equal_share=0.9992,
)
