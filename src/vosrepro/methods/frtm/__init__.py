"""`frtm`: fast and robust target models."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.frtm.convert import convert
from vosrepro.methods.frtm.model import FRTM
from vosrepro.methods.frtm.prepare import prepare
from vosrepro.methods.frtm.segmenter import FRTMSegmenter
from vosrepro.methods.frtm.train import train_step

METHOD = Method(
    name="frtm",
    summary=(
        "Optimizes a small linear target model per object on the first frame; a segmentation network refines its "
        "scores."
    ),
    segmenter=FRTMSegmenter,
    paper=Paper(
        title="Learning Fast and Robust Target Models for Video Object Segmentation",
        venue="CVPR 2020",
        url="https://arxiv.org/abs/2003.00908",
        code="andr345/frtm-vos",
    ),
    build=FRTM,
    train_step=train_step,
    convert=convert,
    prepare=prepare,
    tries_kernels=True,
    bf16_equal_share=0.9985,
)
