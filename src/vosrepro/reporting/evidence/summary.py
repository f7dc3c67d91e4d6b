"""The sentences at the top of the pages, and the facts under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vosrepro.reporting.evidence.checks import Check
from vosrepro.reporting.evidence.deviations import part_of
from vosrepro.reporting.evidence.evidence import Evidence
from vosrepro.reporting.evidence.table import Row, Table
from vosrepro.reporting.evidence.verdicts import LABELS, VerdictKind
from vosrepro.scoring.counting.protocols import PROTOCOLS


@dataclass(frozen=True)
class Environment:
    """Where and with what the artifacts were made; several values where they disagree."""

    commits: tuple[str, ...]
    dirty: bool
    machines: tuple[str, ...]
    libraries: tuple[str, ...]
    python: tuple[str, ...]


def in_words(names: Iterable[str], *, last: str = " and ") -> str:
    """Names for a sentence: "a", "a and b" or "a, b and c"."""
    *others, end = names
    return last.join([", ".join(others), end] if others else [end])


def study_verdict(table: Table, checks: Sequence[Check]) -> str:
    """A few sentences: what was compared, what holds."""
    sentences = []
    made = [c for c in checks if c.passed is not None]
    if made:
        held = sum(bool(c.passed) for c in made)
        every = f"All {held}" if held == len(made) else f"{held} of {len(made)}"
        sentences.append(f"{every} of the study's own checks hold.".replace("All 1 of", "The one of"))
    missing = sum(not row.scored for row in table.rows)
    if missing:
        sentences.append(f"{missing} of {len(table.rows)} entries have no score.")
    sentences += [published_sentence(table.rows), proved(table.rows)]
    return " ".join(s for s in sentences if s)


def setting(table: Table, benchmark: str) -> str:
    """A real benchmark with which of its sequences were scored, and by which ground truth."""
    params = table.plan.benchmarks[benchmark]
    names = list(dict.fromkeys(o.sequence for row in table.on(benchmark) for e in row.entries for o in e.objects))
    protocol = PROTOCOLS.get(params.scoring or "")
    if not names or protocol is None:
        return params.title
    part = part_of(table.evidence, params)
    which = f"{len(names)} of the {part[1]} real videos" if part else f"{len(names)} real videos"
    listed = f"{', '.join(names)}; " if part else ""
    return f"{which} of {params.title} ({listed}ground truth: {protocol.title})"


def proved(rows: Iterable[Row]) -> str:
    """One sentence on the published values of single frames, all systems together; empty where there are none."""
    checks = [row.frames for row in rows if row.frames]
    values, beyond = sum(check.values for check in checks), sum(check.beyond for check in checks)
    if not values:
        return ""
    found = f"All {values:,}" if not beyond else f"{values - beyond:,} of {values:,}"
    return f"{found} published values of single frames come back up to their rounding."


def published_sentence(rows: Iterable[Row]) -> str:
    """One sentence on the rows that have published numbers."""
    rows = tuple(rows)
    kinds: Counter[VerdictKind] = Counter(r.verdict.kind for r in rows if any(c.verdict for c in r.cells.values()))
    total = sum(kinds.values())
    if not total:
        return ""
    if kinds["not-comparable"] + kinds["not-run"] == total:
        return "No score here is comparable with a paper's; published numbers stand beside ours for orientation."
    parts = [f"{n} {LABELS[k][0]}" for k, n in kinds.most_common()]
    speeds = sum(r.cells["FPS"].published is not None for r in rows)
    apart = f" {speeds} published speeds are of other hardware and carry no verdict." if speeds else ""
    return f"Of {total} rows with published scores: {', '.join(parts)}.{apart}"


def environment(evidence: Evidence) -> Environment:
    """Collect commits, machines and libraries from all artifacts, in the order in which they appear."""
    commits: dict[str, None] = {}
    machines: dict[str, None] = {}
    libraries: dict[str, None] = {}
    pythons: dict[str, None] = {}
    dirty = False
    for facts in evidence.provenances():
        if facts.git.commit:
            commits[facts.git.commit] = None
        dirty = dirty or bool(facts.git.dirty)
        if facts.hardware.name:
            machines[f"{facts.hardware.name}, {facts.hardware.cores or '?'} cores"] = None
        for library, version in sorted(facts.libraries.items()):
            if version:
                libraries[f"{library} {version}"] = None
        if facts.python:
            pythons[facts.python] = None
    return Environment(tuple(commits), dirty, tuple(machines), tuple(libraries), tuple(pythons))
