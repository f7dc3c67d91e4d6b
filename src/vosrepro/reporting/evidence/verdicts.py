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

VerdictKind = Literal[
    "reproduced",
    "within-noise",
    "inconclusive",
    "exceeds",
    "not-reproduced",
    "not-comparable",
    "waiting",
    "not-run",
    "unpublished",
]

_ALPHA = 0.05
_KINDS: dict[str, VerdictKind] = {
    "reproduced": "reproduced",
    "within tolerance": "within-noise",
    "inconclusive": "inconclusive",
    "exceeds": "exceeds",
    "below": "not-reproduced",
}

#: Label and sign of each verdict: never told by color alone.
LABELS: dict[VerdictKind, tuple[str, str]] = {
    "reproduced": ("reproduced", "✓"),
    "within-noise": ("within noise", "≈"),
    "inconclusive": ("inconclusive", "?"),
    "exceeds": ("exceeds", "↑"),
    "not-reproduced": ("not reproduced", "✗"),
    "not-comparable": ("not comparable", "≠"),
    "waiting": ("waiting for the server", "…"),
    "not-run": ("not run", "–"),
    "unpublished": ("nothing published", "·"),
}

_OF_RELEASED = "; of released weights: "
_OF_MASKS = "; of masks that authors published: "

#: What each verdict means, in the report's legend (specs: two one-sided tests at 5 %).
MEANINGS: dict[VerdictKind, str] = {
    "reproduced": (
        "with three trainings or more, the 90 % interval over seeds lies within the margin around the published "
        f"number{_OF_RELEASED}the number comes back up to its rounding and what repetitions differ{_OF_MASKS}the "
        "number comes back up to its rounding, and so does every published value of a single frame"
    ),
    "within-noise": (
        "our mean lies within the margin, but the interval does not (or there are fewer than three trainings)"
        f"{_OF_RELEASED}within the margin, but not up to rounding"
    ),
    "inconclusive": (
        "our mean lies outside the margin, but the interval reaches into it (or there are fewer than three trainings)"
    ),
    "exceeds": "the whole interval lies above the margin",
    "not-reproduced": "the whole interval lies below the margin",
    "not-comparable": (
        "something that moves the score by more than the margin differs (data, network size, protocol), "
        "so the two numbers stand side by side for orientation only"
    ),
    "waiting": (
        "the masks are there, but a server alone can score this split: pack them with `snakemake -- submissions`, "
        "upload, and give what it answers to `vosrepro submit record`"
    ),
    "not-run": "there is no score: the job has not run",
    "unpublished": "no paper prints this number",
}


@dataclass(frozen=True)
class Origin:
    """Where the results of a row come from, as far as a verdict depends on it.

    Attributes:
        released: whether the weights are those that the authors released, so that nothing was trained.
        masks: whether the masks are those that the authors published, so that nothing was computed but scores.
        random: whether repetitions with one set of weights differ.
        copies: seeds that gave the very masks of another one, and are no results of their own.
        waiting: whether there are masks that only a server can score, and no score of them is recorded.
        another: what one more training would cost, in words; empty if not known.
    """

    released: bool = False
    masks: bool = False
    random: bool = False
    copies: int = 0
    waiting: bool = False
    another: str = ""


@dataclass(frozen=True)
class Verdict:
    """A verdict and the sentence that explains it."""

    kind: VerdictKind
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


def judge_number(
    values: Sequence[float],
    paper: Published,
    margin: float | None,
    *,
    blocker: str | None = None,
    origin: Origin = Origin(),
) -> Verdict:
    """The verdict on one published number.

    Args:
        values: our distinct results, in points: of trainings, or of repetitions with released weights.
        paper: the published number.
        margin: equivalence margin in points, set before any run; None if the metric has none.
        blocker: the deviation that forbids a comparison, if there is one.
        origin: where the results come from.
    """
    if not values:
        kind: VerdictKind = "waiting" if origin.waiting else "not-run"
        return Verdict(kind, MEANINGS[kind])
    if blocker:
        return Verdict("not-comparable", blocker)
    if origin.masks:
        return _of_masks(values, paper)
    if margin is None:
        return Verdict("not-comparable", f"no margin was set in advance for {paper.key.metric}")
    if origin.released:
        result = statistics.verdict_of_weights(
            values, paper.value, margin=margin, rounding=paper.rounding, random=origin.random
        )
    else:
        result = statistics.verdict(values, paper.value, margin=margin, rounding=paper.rounding)
    kind = _KINDS[result.name]
    trained, _, released = MEANINGS[kind].partition(_OF_MASKS)[0].partition(_OF_RELEASED)
    meaning = released if released and origin.released else trained
    return Verdict(kind, f"{_measured(result, origin)}: {meaning}{_after(result, origin)}", result.p_below)


def _of_masks(values: Sequence[float], paper: Published) -> Verdict:
    """Equal masks scored twice: there is neither margin nor spread, only the rounding of what is printed."""
    difference = values[0] - paper.value
    against = f"{difference:+.2f} points against a rounding of ±{paper.rounding:g}"
    if abs(difference) <= paper.rounding + 1e-9:
        return Verdict("reproduced", f"{against}: the authors' masks give the published number")
    return Verdict("not-reproduced", f"{against}: the authors' masks give another number than they published")


def with_frames(verdict: Verdict, agrees: bool, sentence: str) -> Verdict:
    """The verdict of a row of published masks with what its single frames say; they can only take it back."""
    if agrees or verdict.kind != "reproduced":
        return Verdict(verdict.kind, f"{verdict.text}; {sentence}", verdict.p_below)
    return Verdict("not-reproduced", f"the means come back, but {sentence}")


def _measured(result: statistics.MeasuredVerdict, origin: Origin) -> str:
    """What was found, in words."""
    level = f"{100 * result.interval.level:.0f}" if result.interval else ""
    reach = f", {level} % interval {result.interval.low:+.1f} to {result.interval.high:+.1f}" if result.interval else ""
    same = f"; {origin.copies} more gave the same masks and count as none" if origin.copies else ""
    return f"{result.difference:+.1f} points against a margin of {result.margin:g} ({result.note}{same}{reach})"


def _after(result: statistics.MeasuredVerdict, origin: Origin) -> str:
    """What else a reader wants to know: the prediction interval, or how many more trainings it takes."""
    text = ""
    if result.in_prediction is not None:
        could = "could" if result.in_prediction else "could not"
        text = f"; the published number {could} be one more of our runs (95 % prediction interval)"
    lacking = statistics.MIN_RUNS - result.runs
    if lacking > 0 and not origin.released:
        cost = f", {origin.another} each" if origin.another else ", at a cost that `vosrepro plan` lists"
        text += f"; {lacking} more {'seed' if lacking == 1 else 'seeds'} would allow a verdict{cost}"
    return text


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


def sum_up(verdicts: Sequence[Verdict | None], measured: bool, *, waiting: bool = False) -> Verdict:
    """A row's verdict from its primary metrics: "reproduced" needs all of them."""
    present = [v for v in verdicts if v is not None]
    if not measured:
        kind: VerdictKind = "waiting" if waiting else "not-run"
        return Verdict(kind, MEANINGS[kind])
    if not present:
        return Verdict("unpublished", MEANINGS["unpublished"])
    kinds = {v.kind for v in present}
    for kind in ("not-comparable", "waiting", "not-run", "not-reproduced", "inconclusive", "within-noise"):
        if kind in kinds:
            return next(v for v in present if v.kind == kind)
    return next((v for v in present if v.kind == "reproduced"), present[0])
