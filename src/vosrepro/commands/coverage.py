"""Every system and number of the sources: which entry it is, whether it runs in mini, can be imported, is in paper.

A line is one system on one benchmark: a group of rows of params/published.csv, or an entry of the study `paper`
without any. Numbers that are only recalled are counted, never shown. A hole is a published system that no
study runs and params/released.yaml does not explain; with one, the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vosrepro.study.params import load_study
from vosrepro.study.plan import Entry, load_plan
from vosrepro.study.published import METRICS, Published, load_published
from vosrepro.study.training_table import compare_training
from vosrepro.weights.released import Released, Unavailable, load_released

EntryName = tuple[str, str, str, str]  # method, recipe, variant, benchmark
_STUDIES = Path("params/studies")


@dataclass(frozen=True)
class CoverageLine:
    """One system on one benchmark.

    Attributes:
        published: how many numbers were published for it.
        numbers: its published numbers, for instance "J-Mean 87.8 (readme)"; "none published" if there are none.
        mini: "yes", "other settings" (the method runs there, with another recipe or variant), or "no".
        importable: the recipe of released weights, or why there is none.
        paper: "yes", "in released", "in published-masks", or why no study trains it.
        training: how many parameters of its training in the study `paper` differ from published ones or are assumed.
        hole: whether a reader would miss an explanation.
    """

    name: EntryName
    published: int
    numbers: str
    mini: str
    importable: str
    paper: str
    training: str
    hole: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to show."""
    parser.add_argument("--method", help="only this method")
    parser.add_argument("--holes", action="store_true", help="only lines that lack something")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 if there is a hole."""
    lines = coverage()
    holes = sum(line.hole for line in lines)
    shown = [line for line in lines if args.method in (None, line.name[0]) and (line.hole or not args.holes)]
    width = max((len("/".join(line.name)) for line in shown), default=10)
    print(f"{'system / benchmark':<{width}}  {'in mini':<14}  {'in paper':<18}  importable; published numbers")
    for line in shown:
        print(
            f"{'/'.join(line.name):<{width}}  {line.mini:<14}  {line.paper:<18}  "
            f"{line.importable}; {line.numbers}{line.training}"
        )
    with_numbers = [line for line in lines if line.published]
    count = sum(line.published for line in lines)
    print(f"{len(lines)} lines, {len(with_numbers)} of them with {count} published numbers; {holes} holes")
    return 1 if holes else 0


def coverage() -> list[CoverageLine]:
    """All lines, by method and recipe in the order of the study `paper`, then what only the sources have."""
    published = load_published(recalled=True)
    released = load_released()
    paper = _entries("paper")
    imported = _entries("released")
    minis = {name: entry for path in sorted(_STUDIES.glob("mini*.yaml")) for name, entry in _entries(path.stem).items()}
    groups: dict[EntryName, list[Published]] = {}
    for key, number in published.items():
        groups.setdefault(key[:4], []).append(number)
    masks = {name for name, entry in _entries("published-masks").items() if not entry.run.params.published_as}
    names = dict.fromkeys((*paper, *groups))
    return [
        _taken(name, groups[name])
        if name in masks
        else _line(name, groups.get(name, []), paper, imported, minis, released)
        for name in names
    ]


def _entries(study: str) -> dict[EntryName, Entry]:
    plan = load_plan(_STUDIES / f"{study}.yaml")
    found: dict[EntryName, Entry] = {}
    for entry in plan.entries:  # a recipe before its twins that are compared with the same numbers
        found.setdefault(entry.published_name, entry)
    return found


def _line(
    name: EntryName,
    numbers: list[Published],
    paper: Mapping[EntryName, Entry],
    imported: Mapping[EntryName, Entry],
    minis: Mapping[EntryName, Entry],
    released: Released,
) -> CoverageLine:
    method, recipe = name[:2]
    why = released.methods.get(method, {}).get(recipe)
    reason = why.unavailable if isinstance(why, Unavailable) else None
    in_paper = "yes" if name in paper else "in released" if name in imported else "no"
    source = next((e.run.recipe for n, e in imported.items() if n[:2] == name[:2]), None)
    importable = f"as {source}" if source else reason or "none released"
    explained = name in paper or name in imported or reason is not None
    mini = _in_mini(name, minis)
    known = sum(n.evidence != "recalled" for n in numbers)
    hole = not explained or mini == "no"
    return CoverageLine(name, known, _numbers(numbers), mini, importable, in_paper, _training(paper.get(name)), hole)


def _taken(name: EntryName, numbers: list[Published]) -> CoverageLine:
    """A system that is there by the masks of its authors alone: nothing to train, import or make small."""
    masks = "in published-masks"
    return CoverageLine(name, len(numbers), _numbers(numbers), "no", "masks of the authors", masks, "", hole=False)


def _training(entry: Entry | None) -> str:
    rows = compare_training(load_study(_STUDIES / "paper.yaml"), entry.run) if entry else ()
    if not rows:
        return ""
    counts = Counter(row.verdict for row in rows)
    return f"; training: {counts['equal']} equal, {counts['different']} different, {counts['assumed']} assumed"


def _in_mini(name: EntryName, minis: Mapping[EntryName, Entry]) -> str:
    if any(n[:3] == name[:3] for n in minis):
        return "yes"
    return "other settings" if any(n[0] == name[0] for n in minis) else "no"


def _numbers(numbers: list[Published]) -> str:
    shown = sorted((n for n in numbers if n.evidence != "recalled"), key=lambda n: METRICS.index(n.key.metric))
    texts = [f"{n.key.metric} {n.value:.{n.decimals}f}" for n in shown]
    evidence = ", ".join(dict.fromkeys(n.evidence for n in shown))
    recalled = len(numbers) - len(shown)
    parts = [f"{' '.join(texts)} ({evidence})"] if texts else []
    parts += [f"{recalled} recalled, not shown"] if recalled else []
    return "; ".join(parts) or "none published"
