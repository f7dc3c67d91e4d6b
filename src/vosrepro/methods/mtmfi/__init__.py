"""`mtmfi`: multi-level target models with feature integration, on FRTM."""

from vosrepro.base.types import Method, Paper
from vosrepro.methods.frtm.prepare import prepare
from vosrepro.methods.frtm.train import train_step
from vosrepro.methods.mtmfi.convert import convert
from vosrepro.methods.mtmfi.model import MTMFI
from vosrepro.methods.mtmfi.segmenter import MTMFISegmenter

METHOD = Method(
    name="mtmfi",
    summary=("FRTM with target models on two feature levels and channel attention over features and scores."),
    segmenter=MTMFISegmenter,
    paper=Paper(
        title="MTMFI-VOS (repository, no paper found)",
        venue="2021",
        url="https://github.com/gbc-sid/MTMFI-VOS",
        code="gbc-sid/MTMFI-VOS",
    ),
    build=MTMFI,
    train_step=train_step,
    convert=convert,
    prepare=prepare,
    tries_kernels=True,
    bf16_equal_share=0.9991,
)
