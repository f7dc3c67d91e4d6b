"""The verdict on a published number, by the rule that `vosrepro.scoring.statistics` implements.

A verdict is about one metric of one row of the report; a row's verdict sums up those of its primary
metrics. Whether a comparison is allowed at all is decided in `vosrepro.reporting.evidence.deviations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vosrepro.scoring import statistics
from vosrepro.study.published import Published

Kind = Literal[
    "reproduced",
    "within-noise",
    "inconclusive",
    "exceeds",
    "not-reproduced",
    "not-comparable",
    "not-run",
    "unpublished",
]

_ALPHA = 0.05
_KINDS: dict[str, Kind] = {
    "reproduced": "reproduced",
    "within tolerance": "within-noise",
    "inconclusive": "inconclusive",
    "exceeds": "exceeds",
    "below": "not-reproduced",
}

#: Label and sign of each verdict: never told by color alone.
LABELS: dict[Kind, tuple[str, str]] = {
    "reproduced": ("reproduced", "✓"),
    "within-noise": ("within noise", "≈"),
    "inconclusive": ("inconclusive", "?"),
    "exceeds": ("exceeds", "↑"),
    "not-reproduced": ("not reproduced", "✗"),
    "not-comparable": ("not comparable", "≠"),
    "not-run": ("not run", "–"),
    "unpublished": ("nothing published", "·"),
}

#: What each verdict means, in the report's legend (specs: two one-sided tests at 5 %).
MEANINGS: dict[Kind, str] = {
    "reproduced": (
        "with three runs or more, the 90 % interval over seeds lies within the margin around the published number"
    ),
    "within-noise": "our mean lies within the margin, but the interval does not (or there are fewer than three runs)",
    "inconclusive": "our mean lies outside the margin, but the interval reaches into it (or fewer than three runs)",
    "exceeds": "the whole interval lies above the margin",
    "not-reproduced": "the whole interval lies below the margin",
    "not-comparable": (
        "something that moves the score by more than the margin differs (data, network size, protocol), "
        "so the two numbers stand side by side for orientation only"
    ),
    "not-run": "there is no score: the job has not run, or a server alone can score this split",
    "unpublished": "no paper prints this number",
}


@dataclass(frozen=True)
class Verdict:
    """A verdict and the sentence that explains it."""

    kind: Kind
    text: str
    p_below: float | None = None  # small: surely below the margin

    @property
    def label(self) -> str:
        """Words of the chip."""
        return LABELS[self.kind][0]

    @property
    def sign(self) -> str:
        """Symbol of the chip."""
        return LABELS[self.kind][1]


def judge(values: Sequence[float], paper: Published, margin: float | None, *, blocker: str | None = None) -> Verdict:
    """The verdict on one published number.

    Args:
        values: our scores by seed, in points.
        paper: the published number.
        margin: equivalence margin in points, set before any run; None if the metric has none.
        blocker: the deviation that forbids a comparison, if there is one.
    """
    if not values:
        return Verdict("not-run", MEANINGS["not-run"])
    if blocker:
        return Verdict("not-comparable", blocker)
    if margin is None:
        return Verdict("not-comparable", f"no margin was set in advance for {paper.key.metric}")
    result = statistics.verdict(values, paper.value, margin=margin, rounding=paper.rounding)
    kind = _KINDS[result.name]
    reach = ""
    if result.interval is not None:
        reach = f", 90 % interval {result.interval.low:+.1f} to {result.interval.high:+.1f}"
    text = f"{result.difference:+.1f} points against a margin of {margin:g} ({result.note}{reach}): {MEANINGS[kind]}"
    if result.in_prediction is not None:
        could = "could" if result.in_prediction else "could not"
        text += f"; the published number {could} be one more of our runs (95 % prediction interval)"
    return Verdict(kind, text, result.p_below)


def adjusted(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of one paper's rows, with "not reproduced" withdrawn where Holm's adjustment says so."""
    tested = [v for v in verdicts if v.p_below is not None]
    corrected = dict(zip(map(id, tested), statistics.holm([v.p_below or 0.0 for v in tested]), strict=True))
    result = []
    for verdict in verdicts:
        p_value = corrected.get(id(verdict), 0.0)
        if verdict.kind == "not-reproduced" and p_value > _ALPHA:
            text = f"{verdict.text}; but p = {p_value:.2f} after adjusting for {len(tested)} rows (Holm)"
            verdict = Verdict("inconclusive", text, verdict.p_below)
        result.append(verdict)
    return result


def sum_up(verdicts: Sequence[Verdict | None], measured: bool) -> Verdict:
    """A row's verdict from its primary metrics: "reproduced" needs all of them."""
    present = [v for v in verdicts if v is not None]
    if not measured:
        return Verdict("not-run", MEANINGS["not-run"])
    if not present:
        return Verdict("unpublished", MEANINGS["unpublished"])
    kinds = {v.kind for v in present}
    for kind in ("not-comparable", "not-run", "not-reproduced", "inconclusive", "within-noise"):
        if kind in kinds:
            return next(v for v in present if v.kind == kind)
    return next((v for v in present if v.kind == "reproduced"), present[0])
