"""`stm`: space-time memory network, as improved by MiVOS' Mask-Propagation."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.stm.build import build
from vosrepro.methods.stm.convert import convert
from vosrepro.methods.stm.correspondence import correspond
from vosrepro.methods.stm.prepare import prepare
from vosrepro.methods.stm.segmenter import STMSegmenter
from vosrepro.methods.stm.train import train_step
from vosrepro.methods.stm.transfer import transfer

METHOD = Method(
    name="stm",
    summary="Matches each frame to a memory of earlier frames and their masks, pixel by pixel.",
    segmenter=STMSegmenter,
    paper=Paper(
        title="Modular Interactive Video Object Segmentation (propagation network)",
        venue="CVPR 2021",
        url="https://arxiv.org/abs/2103.07941",
        code="hkchengrex/Mask-Propagation",
    ),
    build=build,
    train_step=train_step,
    transfer=transfer,
    convert=convert,
    prepare=prepare,
    correspond=correspond,
    bf16_equal_share=0.9996,
)
