"""Identities of results: what depends on which file, and on which parameter."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vosrepro.base.errors import ConfigError
from vosrepro.study import code
from vosrepro.study.digests import (
    MAKERS,
    asked_entry,
    asked_scores,
    asked_selection,
    asked_stage,
    code_of,
    code_record,
    entry_identity,
)
from vosrepro.study.plan import load_plan

METHODS = ("copy", "flow", "stm", "pml", "frtm", "gfrtm", "mtmfi", "parts")
FAMILY = ("frtm", "gfrtm", "mtmfi")
#: Trainings keep the code with which they began; these are done again by themselves.
REDONE = ("data", "resize", "select", "masks", "classes", "score", "report")

ALL = {kind: METHODS for kind in ("select", "masks", "classes")}
#: File touched -> kind of result -> methods whose results are made again ("" where no method runs).
TABLE = {
    "base/labels.py": {**ALL, "data": "", "resize": "", "score": "", "report": ""},
    "methods/common/masks.py": ALL,
    "methods/common/aggregation.py": dict.fromkeys(ALL, ("stm", "parts")),
    "methods/common/resnet.py": dict.fromkeys(ALL, ("stm", *FAMILY, "parts")),
    "methods/common/resizing.py": {"select": METHODS, "masks": METHODS},
    "methods/frtm/segmenter.py": dict.fromkeys(ALL, FAMILY),
    "methods/frtm/target.py": dict.fromkeys(ALL, FAMILY),
    "methods/gfrtm/segmenter.py": dict.fromkeys(ALL, ("gfrtm",)),
    "methods/stm/memory.py": dict.fromkeys(ALL, ("stm",)),
    "datasets/sets/davis.py": {**ALL, "data": "", "score": "", "report": ""},
    "datasets/prepare/checking.py": {"data": ""},
    "datasets/generated/scenes.py": {"data": ""},
    "inference/runner.py": {"select": METHODS, "masks": METHODS},
    "inference/videos.py": {"masks": METHODS},
    "inference/select.py": {"select": METHODS},
    "inference/classify.py": {"classes": METHODS},
    "inference/entries.py": {},
    "inference/own/segment.py": {},
    "scoring/measures.py": {"score": "", "report": ""},
    "scoring/counting/matching.py": {"score": "", "report": ""},
    "scoring/submission.py": {},
    "training/loop.py": {},
    "reporting/evidence/checks.py": {"report": ""},
    "reporting/pages/charts.py": {"report": ""},
    "lab/pml.py": {},
    "lab/fuzz.py": {},
    "lab/parity/stm.py": {},
    "commands/segment.py": {},
    "tracking/store.py": {},
    "workflow.py": {},
}


def redone(module: str) -> dict[str, tuple[str, ...] | str]:
    """Kind of result -> methods of which the module is in the import closure."""
    found: dict[str, tuple[str, ...] | str] = {}
    for kind in REDONE:
        own = METHODS if kind in ALL else ("",)
        closures = {m: code.closure(*MAKERS[kind], *([f"vosrepro.methods.{m}"] if m else [])) for m in own}
        holding = tuple(m for m in own if module in closures[m])
        if holding:
            found[kind] = "" if holding == ("",) else holding
    return found


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package that a test may edit; digests are of the copy."""
    package = tmp_path / "vosrepro"
    ignored = shutil.ignore_patterns("__pycache__", "templates", "*.md")
    shutil.copytree(Path(code.__file__).parents[1], package, ignore=ignored)
    monkeypatch.setattr(code, "_package", lambda top: package if top == "vosrepro" else None)
    forget()
    yield package
    monkeypatch.undo()
    forget()


def forget() -> None:
    for function in (code.code_digest, code.closure, code.source_of, code._parsed):
        function.cache_clear()


def digests() -> dict[tuple[str, str], str]:
    forget()
    return {(kind, m): code_of(kind, m) for kind in REDONE for m in (METHODS if kind in ALL else ("",))}


@pytest.mark.parametrize("file", TABLE)
def test_touching_a_file_makes_again_what_imports_it_and_nothing_else(file):
    found = redone("vosrepro." + file.removesuffix(".py").replace("/", "."))
    shown = "; ".join(f"{kind} {' '.join(methods)}".strip() for kind, methods in found.items()) or "nothing"
    print(f"{file:34} -> {shown}")
    assert found == TABLE[file]


@pytest.mark.parametrize(
    "file", ["methods/common/masks.py", "scoring/measures.py", "lab/pml.py", "methods/frtm/target.py"]
)
def test_a_statement_more_in_a_file_changes_exactly_the_digests_of_the_table(copied, file):
    before = digests()
    path = copied / file
    path.write_text(path.read_text() + "\nADDED = 1\n")
    after = digests()
    expected = {(k, m) for k, methods in TABLE[file].items() for m in (methods or ("",))}
    assert {key for key in before if before[key] != after[key]} == expected


def test_comments_docstrings_and_layout_change_no_digest(copied):
    before = digests()
    path = copied / "methods/common/masks.py"
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("Another text."))
    path.write_text("# a comment\n" + ast.unparse(tree) + "\n\n\n# another\n")
    assert digests() == before


def test_an_import_for_annotations_alone_does_not_count(copied):
    before = digests()
    path = copied / "inference/runner.py"
    path.write_text(
        path.read_text().replace("if TYPE_CHECKING:\n", "if TYPE_CHECKING:\n    from vosrepro.lab import fuzz\n")
    )
    forget()
    assert "vosrepro.lab.fuzz" not in code.closure("vosrepro.inference.videos")
    path.write_text(path.read_text() + "\n\ndef late():\n    from vosrepro.lab import fuzz\n    return fuzz\n")
    forget()
    assert "vosrepro.lab.fuzz" in code.closure("vosrepro.inference.videos")
    assert digests() != before


def test_the_closure_holds_what_python_imports():
    """Modules that a fresh interpreter loads with the maker of masks, but for packages that merely pass names on."""
    program = (
        "import sys, vosrepro.inference.videos, vosrepro.methods.frtm\n"
        "print(*[m for m in sys.modules if m.startswith('vosrepro.') and not hasattr(sys.modules[m], '__path__')])"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    held = code.closure("vosrepro.inference.videos", "vosrepro.methods.frtm")
    names = ("datasets.prepare", "datasets.generated", "study.params", "study.plan", "tracking.processes")
    passed_on = {f"vosrepro.{name}" for name in names}
    assert {m for m in loaded - held if not any(m.startswith(p) for p in passed_on)} == set()


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="no module 'vosrepro.inference.vidoes'"):
        code.code_digest("vosrepro.inference.vidoes")


@pytest.fixture
def plan(in_root):
    return load_plan("params/studies/mini.yaml")


def test_presentation_is_part_of_no_mask_no_selection_no_weights_and_no_score(plan):
    entry = next(e for e in plan.entries if e.key.startswith("stm/s012"))
    benchmark = entry.benchmark_params
    shown = {"title": "another", "margin_points": {}, "primary_metrics": ()}
    other = type(entry)(
        entry.run, entry.variant, entry.benchmark, entry.variant_params, benchmark.model_copy(update=shown)
    )
    assert asked_entry(other) == asked_entry(entry)
    assert asked_scores([other]) == asked_scores([entry])
    how = replace(entry, benchmark_params=benchmark.model_copy(update={"frame_source": "annotated"}))
    assert asked_entry(how) != asked_entry(entry)


@pytest.mark.parametrize(
    "change", [{"title": "another"}, {"log_every_steps": 3}, {"loader_workers": 7}, {"state_every_steps": 5}]
)
def test_how_a_training_is_watched_does_not_train_it_anew(plan, change):
    assert _digest_of_s0(plan, change) == _digest_of_s0(plan, {})


@pytest.mark.parametrize("change", [{"steps": 77}, {"batch_size": 9}, {"revision": 2}, {"precision": "bf16"}])
def test_what_a_training_learns_from_does(plan, change):
    assert _digest_of_s0(plan, change) != _digest_of_s0(plan, {})


def _digest_of_s0(plan, change):
    node = next(n for n in plan.stages if n.stage == "s0" and n.method == "stm")
    params = node.params.model_copy(update=change)
    return asked_stage((node.method, node.seed, node.stage), params, node.model, plan.study.data, (), None)


def test_selection_depends_on_its_split_its_metric_and_the_variant(plan):
    run = plan.run("stm", "s012", 0)
    selection = plan.study.selection
    before = asked_selection(run, selection)
    for change in ({"sequences": selection.sequences[:1]}, {"metric": "J-Mean"}, {"scoring": "davis2016"}):
        assert asked_selection(run, selection.model_copy(update=change)) != before


def test_the_record_of_code_names_every_kind_that_is_redone(plan):
    record = code_record(plan)
    assert set(REDONE) | {"train"} <= set(record)
    assert set(record["masks"]) == set(plan.methods)


def test_masks_depend_on_the_weights_and_the_data(plan):
    entry = plan.entries[0]
    identity = entry_identity(entry, "weights", "data")
    assert identity == entry_identity(entry, "weights", "data")
    assert identity != entry_identity(entry, "other", "data")
    assert identity != entry_identity(entry, "weights", "other")
