"""What each method's training and inference took, all its recipes and seeds together."""

from __future__ import annotations

from dataclasses import dataclass

from vosrepro.reporting.evidence.evidence import Evidence


@dataclass(frozen=True)
class Spending:
    """Wall time in seconds and the largest peak of memory in MB; zero where nothing is known."""

    method: str
    train_seconds: float
    trainings: int
    infer_seconds: float
    inferences: int
    memory_mb: float

    @property
    def seconds(self) -> float:
        """Of both together."""
        return self.train_seconds + self.infer_seconds


def spending(evidence: Evidence) -> tuple[Spending, ...]:
    """One line for each method, in the order of the plan."""
    return tuple(_of(evidence, method) for method in evidence.plan.methods)


def _of(evidence: Evidence, method: str) -> Spending:
    trained = [s.run for s in evidence.stages.values() if s.node.method == method and s.run]
    inferred = [i.infer for i in evidence.entries.values() if i.entry.run.method == method and i.infer]
    peaks = [run.peak_memory_mb or 0.0 for run in trained] + [record.memory.peak_mb for record in inferred]
    return Spending(
        method,
        train_seconds=sum(run.wall_seconds for run in trained),
        trainings=len(trained),
        infer_seconds=sum(record.wall_seconds or 0.0 for record in inferred),
        inferences=len(inferred),
        memory_mb=max(peaks, default=0.0),
    )
