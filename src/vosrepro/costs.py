"""What a study costs: training time from measured throughput, and disk from the networks' sizes.

Nothing is guessed: a stage whose throughput nobody measured has no time. Figures come from the records of
stages that this checkout has trained, then from params/throughput.csv, which names the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vosrepro.artifacts import read_json
from vosrepro.errors import ConfigError, DataError
from vosrepro.published import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vosrepro.plan import Plan, StageNode

COLUMNS = ("method", "size", "stage", "machine", "gpus", "samples_per_second", "source")
#: The resume state holds the weights and two moments of the optimizer.
STATE_COPIES = 3


@dataclass(frozen=True)
class Throughput:
    """Samples per second of one training stage on one machine; `gpus` is 0 on a CPU."""

    samples_per_second: float
    machine: str
    gpus: int


@dataclass(frozen=True)
class StageCost:
    """Cost of one training job.

    Attributes:
        seconds: wall time, or None if its throughput was not measured.
        disk_bytes: checkpoints and resume state, or None if the network's size is not known.
    """

    node: StageNode
    throughput: Throughput | None
    seconds: float | None
    disk_bytes: int | None

    @property
    def gpu_hours(self) -> float | None:
        """Wall time times devices; 0 on a CPU."""
        if self.seconds is None or self.throughput is None:
            return None
        return self.seconds * self.throughput.gpus / 3600


def stage_costs(
    plan: Plan,
    measured: Mapping[tuple[str, str, str], Throughput],
    weight_bytes: Mapping[str, int],
) -> tuple[StageCost, ...]:
    """Cost of every training job of a study.

    Args:
        plan: the study.
        measured: (method, size, stage) -> throughput, see `load_throughput`.
        weight_bytes: digest of a stage -> bytes of its network's weights.
    """
    return tuple(_cost(node, plan.study.size, measured, weight_bytes) for node in plan.stages)


def load_throughput(
    path: Path | str = "params/throughput.csv", *, machine: str | None = None
) -> dict[tuple[str, str, str], Throughput]:
    """Read measured throughputs; of several machines the first row of a stage counts.

    Args:
        path: CSV with the columns of `COLUMNS`.
        machine: only rows whose machine contains this.

    Raises:
        ConfigError: naming file and line of a malformed row.
    """
    path = Path(path)
    found: dict[tuple[str, str, str], Throughput] = {}
    for line, row in read_rows(path, COLUMNS):
        key = (row["method"], row["size"], row["stage"])
        try:
            rate = Throughput(float(row["samples_per_second"]), row["machine"], int(row["gpus"]))
            if rate.samples_per_second <= 0 or rate.gpus < 0:
                raise ValueError("rates are positive")
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}, line {line}: gpus and samples_per_second must be numbers ({error})"
            ) from error
        if machine is None or machine in rate.machine:
            found.setdefault(key, rate)
    return found


def _cost(
    node: StageNode,
    size: str,
    measured: Mapping[tuple[str, str, str], Throughput],
    weight_bytes: Mapping[str, int],
) -> StageCost:
    rate = _recorded(node) or measured.get((node.method, size, node.stage))
    samples = node.params.steps * node.params.batch_size
    weights = weight_bytes.get(node.digest)
    copies = len(node.params.checkpoint_steps()) + STATE_COPIES
    return StageCost(
        node,
        rate,
        samples / rate.samples_per_second if rate else None,
        weights * copies if weights is not None else None,
    )


def _recorded(node: StageNode) -> Throughput | None:
    """What this checkout measured when it trained the stage with these parameters."""
    try:
        record = read_json(node.folder / "run.json")
        if record["digest"] != node.digest:
            return None
        hardware = record["provenance"]["hardware"]
        gpus = int(record["world_size"]) if record["device"] != "cpu" else 0
        name = hardware["gpu"] if gpus else f"{hardware['cores']} CPU cores ({hardware['cpu']})"
        return Throughput(float(record["samples_per_second"]), str(name), gpus)
    except (DataError, KeyError, TypeError, ValueError):
        return None
