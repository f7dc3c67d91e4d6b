"""What a job that fills the entries of a run writes beside their masks, wherever the masks come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vosrepro.study.digests import asked_inference
from vosrepro.study.records import InferenceRecord, InferredEntry
from vosrepro.tracking.journal import Journal

if TYPE_CHECKING:
    from vosrepro.study.plan import Entry, Run


def begin_run_journal(run: Run, entries: Sequence[Entry], tags: Mapping[str, str | None]) -> Journal:
    """Start the journal of a run's inference."""
    journal = Journal(run.journal("infer"))
    journal.start(
        key=f"{run.key}/infer/{asked_inference(entries)[:8]}",
        study=run.study,
        parent=run.key,
        kind="infer",
        params={e.key: dict(e.variant_params) for e in entries},
        tags=tags,
    )
    return journal


def keep_entry(entry: Entry, record: InferenceRecord) -> InferredEntry:
    """Write infer.json of an entry; what inference.json says of it."""
    record.write(entry.inference)
    return InferredEntry(infer=str(entry.inference), **record.digests)
