"""What a training job depends on, and the record (run.json) that it leaves."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vosrepro.base.errors import DataError
from vosrepro.base.files import atomic, file_digest
from vosrepro.base.provenance import provenance
from vosrepro.datasets.sets.catalog import training_parts
from vosrepro.study import paths
from vosrepro.study.digests import code_of, data_digest, stage_identity
from vosrepro.study.integrity import read_record, stage_weights
from vosrepro.study.records import DataManifest, StageRecord, WeightsFile
from vosrepro.tracking.journal import Journal, read_events

if TYPE_CHECKING:
    from vosrepro.study.plan import StageNode
    from vosrepro.training.state import StateFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Everything that determines the result of a stage, as digests.

    Attributes:
        data: digest of the data manifest.
        parent: path and SHA-256 of the weights that the stage starts from, or None.
        state: 16 digits, the name of the state folder.
    """

    data: str
    parent: WeightsFile | None
    state: str


def identify(node: StageNode) -> Identity:
    """Look up what a stage depends on.

    Raises:
        DataError: if the data manifest is missing.
        CheckpointError: if the previous stage has not been trained.
        DamagedError: if its weights or a record are not what the job that made them wrote.
    """
    manifest = paths.data_manifest(node.study)
    if not manifest.is_file():
        raise DataError(f"{manifest} is missing: run `snakemake -- {manifest}` (it checks the data sets) first")
    parts = {part for source in node.params.data for part in training_parts(source.set)}
    data = data_digest(read_record(DataManifest, manifest), parts)
    parent = None
    if node.parent is not None:
        sha256 = stage_weights(node.parent, node.parent.params.steps)
        parent = WeightsFile(path=str(node.parent.last_weights), sha256=sha256)
    return Identity(data, parent, stage_identity(node, data, parent.sha256 if parent else None))


def journal_key(node: StageNode) -> str:
    """Identity of the stage's run in the tracker."""
    return f"{node.method}/{node.recipe}/seed{node.seed}/{node.stage}/{node.digest[:8]}"


def begin_stage_journal(
    node: StageNode, identity: Identity, journal: Journal, *, step: int, facts: dict[str, Any]
) -> None:
    """Start the journal of a stage, or continue it from a saved step."""
    events = read_events(journal.path)
    ours = bool(events) and events[0].get("key") == journal_key(node)
    if not (step and ours):
        journal.start(
            key=journal_key(node),
            study=node.study,
            parent=f"{node.method}/{node.recipe}/seed{node.seed}",
            kind="train",
            params={**node.params.model_dump(mode="json"), "model": dict(node.model)},
            tags={
                "data_digest": identity.data,
                "state_digest": identity.state,
                **{name: value for name, value in facts.items() if name != "provenance"},
            },
        )
    if step:
        journal.resume(step=step)


def publish(node: StageNode, identity: Identity, folder: StateFolder, facts: dict[str, Any]) -> None:
    """Put the declared outputs of a finished stage in place, from its state folder.

    Args:
        node: the stage.
        identity: what it depended on.
        folder: holds all checkpoints and the finished journal.
        facts: what the job measured, see `vosrepro.training.loop`.
    """
    checkpoints = []
    for step in node.params.checkpoint_steps():
        target = node.weights(step)
        folder.publish(step, target)
        checkpoints.append(WeightsFile(step=step, path=str(target), sha256=file_digest(target)))
    for target in (node.metrics, node.journal):
        with atomic(target) as temporary:
            shutil.copyfile(folder.journal, temporary)
    StageRecord(
        stage=node.stage,
        digest=node.digest,
        state_digest=identity.state,
        data_digest=identity.data,
        parent=identity.parent,
        params=node.params.model_dump(mode="json"),
        model=dict(node.model),
        checkpoints=tuple(checkpoints),
        steps=node.params.steps,
        status="FINISHED",
        **facts,
    ).write(node.record)


def clear_stale(node: StageNode) -> None:
    """Remove what an earlier run with other parameters left among the outputs."""
    for path in (node.record, node.metrics):
        path.unlink(missing_ok=True)
    for path in node.last_weights.parent.glob("step-*.safetensors"):
        path.unlink()


def job_facts(node: StageNode, device: str, world_size: int) -> dict[str, Any]:
    """What run.json says of the circumstances; kept in the state so that it tells who trained."""
    return {
        "device": device,
        "world_size": world_size,
        "source_digest": code_of("train", node.method),
        "provenance": provenance(),
    }
