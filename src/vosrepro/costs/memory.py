"""How much main memory a job asks a cluster for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vosrepro.study.params import StageParams

#: MB of a process with torch: 1300 measured on a CPU (two ranks of the mini PML), the rest for a CUDA context.
_PROCESS = 4000
#: MB of a loader worker: 430 measured there, and the decoded frames that it may keep (training/data/loader.py).
_WORKER = 430 + 537
#: Batches that a worker prepares ahead.
_AHEAD = 4
_MARGIN = 1.25


def training_mb(params: StageParams, ranks: int) -> int:
    """Main memory of a training: its ranks, their loader workers, and the samples that wait."""
    workers = ranks * params.loader_workers
    frames = params.clips.frames or 1
    height, width = params.clips.size_px
    sample = frames * height * width * (3 * 4 + 8) / 1e6  # RGB as float32 and labels as int64
    waiting = max(workers, ranks) * _AHEAD * sample * params.batch_size / ranks
    return round(_MARGIN * (ranks * _PROCESS + workers * _WORKER + waiting))
