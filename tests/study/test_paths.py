"""Folders of results are spelled in one module, and the rules of the workflow spell the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vosrepro.study import paths
from vosrepro.study.params import load_study
from vosrepro.study.plan import load_plan

FOLDERS = r"(results|state|logs|weights|benchmarks|submissions|reports)"
FILES = re.compile(
    r"(run|selected|inference|infer|scores|score|data|mlflow|correspondences)\.json|metrics\.jsonl|selection\.csv|sizes\.json"
    r"|selected\.safetensors"
)
RUN = ("{study}", "{method}", "{recipe}", "{seed}")


def doc(tree: ast.AST) -> set[int]:
    """Identities of the docstrings of a module."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]  # pyright: ignore
    firsts = [body[0].value for body in bodies if body and isinstance(body[0], ast.Expr)]
    return {id(value) for value in firsts}


def spelled(text: str) -> Iterator[str]:
    """Strings of a module that begin with a folder of results, or name one as a path."""
    tree = ast.parse(text)
    skipped = doc(tree)
    as_paths = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path":
            as_paths |= {id(argument) for argument in node.args}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            as_paths |= {id(node.left), id(node.right)}
        if isinstance(node, ast.Compare):
            as_paths |= {id(side) for side in (node.left, *node.comparators)}
        if isinstance(node, ast.keyword) and node.arg in ("default", "root", "folder"):
            as_paths.add(id(node.value))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in skipped:
            continue
        begins = re.match(f"{FOLDERS}/", node.value)
        if begins or (id(node) in as_paths and re.fullmatch(FOLDERS, node.value)) or FILES.fullmatch(node.value):
            yield node.value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('x = Path("results") / name', ["results"]),
        ('x = root / "state"', ["state"]),
        ('x = f"logs/{name}.log"', ["logs/"]),
        ('parser.add_argument("--out", default="reports")', ["reports"]),
        ('x = folder / "run.json"', ["run.json"]),
        ('if part == "results": pass', ["results"]),
        ('"""results/<study>/data.json"""\nx = record["weights"]', []),
    ],
)
def test_the_search_for_spelled_paths_finds_them(text, found):
    assert list(spelled(text)) == found


def test_no_other_module_spells_a_folder_or_a_file_of_results(root):
    package = root / "src/vosrepro"
    found = {
        str(file.relative_to(package)): names
        for file in sorted(package.rglob("*.py"))
        if (names := list(spelled(file.read_text(encoding="utf-8"))))
    }
    assert set(found.pop("study/paths.py")) >= {"results", "state", "run.json"}
    assert found == {}


def patterns(root: Path) -> dict[str, set[str]]:
    """Paths of results in the rules, by file; what the study's name is written into counts as its wildcard."""
    found = {}
    for file in sorted((root / "workflow/rules").glob("*.smk")):
        strings = re.findall(rf'"({FOLDERS}/[^"]*)"', file.read_text(encoding="utf-8"))
        texts = {text.replace("{JOBS.name}", "{study}").replace("{{", "{").replace("}}", "}") for text, _ in strings}
        found[file.stem] = texts
    return found


def test_the_rules_spell_paths_as_the_code_does(root):
    run = paths.run_folder(*RUN)
    zipped = paths.submission(*RUN, "{variant}", "{benchmark}")
    imported = paths.imported_weights("{method}", "{recipe}")
    kept = paths.prepared_set("{set}")
    known = [
        *(paths.data_manifest("{study}"), paths.mlflow_outcome("{study}"), paths.study_metrics("{study}")),
        paths.study_plot("{study}", "{name}"),
        *(run / "{stage}" / name for name in (paths.STAGE_RECORD, paths.STAGE_METRICS)),
        *(run / name for name in (paths.SELECTION_RECORD, paths.SELECTION_TABLE, paths.SELECTED_WEIGHTS)),
        *(run / name for name in (paths.RUN_INFERENCE, paths.RUN_SCORES)),
        *(kept, kept.with_suffix(".csv"), paths.prepared_set("converted/{kind}")),
        *(imported, imported.with_suffix(".json"), zipped, zipped.with_suffix(".json")),
        *(paths.resized_folder("{resized}") / paths.RESIZED_SIZES, paths.REPORTS / "all.html"),
    ]
    spelled = set.union(*patterns(root).values())
    files = {text for text in spelled if not text.startswith(("logs/", "benchmarks/"))}
    assert files == {path.as_posix() for path in known}


def test_logs_of_a_run_lie_where_the_report_looks_for_them(root):
    found = patterns(root)
    kinds = {"train": "train-{stage}", "select": "select", "infer": "infer", "score": "score"}
    for rule, kind in kinds.items():
        log = paths.run_log(*RUN, kind).as_posix()
        assert log in found[rule]
        timed = {text for text in found[rule] if text.startswith("benchmarks/")}
        assert timed <= {log.replace("logs/", "benchmarks/").replace(".log", ".tsv")}


def test_the_files_of_a_plan_are_those_of_the_paths(in_root):
    plan = load_plan(load_study("params/studies/mini.yaml"))
    run = plan.run("stm", "s012", 0)
    folder = Path("results/mini/stm/s012/seed0")
    assert (run.selection, run.inference, run.scores) == (
        folder / "selected.json",
        folder / "inference.json",
        folder / "scores.json",
    )
    assert run.stages[-1].record == folder / "s2/run.json"
    entry = next(e for e in plan.entries_of(run) if e.benchmark == "davis16-val")
    assert entry.score == folder / entry.variant / "davis16-val/score.json"
    assert plan.data_manifest == Path("results/mini/data.json")


def test_a_file_in_the_folder_of_a_run_tells_the_run(tmp_path):
    file = tmp_path / "results/old/results/mini/stm/s2/seed3/s2/weights/step-5.safetensors"
    assert list(paths.runs_that_hold(file)) == [(tmp_path / "results/old", "mini", "stm", "s2", "3")]
    assert list(paths.runs_that_hold(tmp_path / "weights/stm/s2.safetensors")) == []
