"""The literal command `snakemake --cores 8 --resources gpu=4 reports/all.html`.

Snakemake's parser gives every word after `--resources` to that option. The hook in
`snakemake_logger_plugin_vosrepro` puts targets back; these tests run it in the real environment because
the way Snakemake finds plugins is not promised for editable installs.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

import snakemake_logger_plugin_vosrepro as plugin

pytestmark = pytest.mark.workflow

SNAKEFILE = """
rule report:
    output: "reports/all.html"
    resources: gpu=2
    shell: "mkdir -p reports; echo {resources.gpu} > {output}"

rule other:
    output: "other.txt"
    shell: "echo other > {output}"
"""


def snakemake(folder: Path, line: str, *, module: bool = False) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("snakemake")
    if not program.is_file():
        pytest.skip(f"the environment of {sys.executable} has no snakemake program")
    start = [sys.executable, "-m", "snakemake"] if module else [str(program)]
    return subprocess.run([*start, *line.split()], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


@pytest.mark.slow
def test_the_literal_command_makes_the_report(workflow: Path) -> None:
    done = snakemake(workflow, "--cores 8 --resources gpu=4 reports/all.html")
    assert done.returncode == 0, done.stderr
    assert (workflow / "reports/all.html").read_text() == "2\n"
    assert not (workflow / "other.txt").exists()
    assert "gpu=4" in done.stderr  # "Provided resources": the limit is still understood


@pytest.mark.slow
def test_python_m_snakemake_with_two_targets_and_a_profile_makes_both(workflow: Path) -> None:
    profile = workflow / "profiles/default/config.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text('resources: ["gpu=0"]\nrerun-triggers: [mtime, input, params]\n')
    line = "--cores 8 --resources gpu=1 reports/all.html other.txt --quiet all"
    done = snakemake(workflow, line, module=True)
    assert done.returncode == 0, done.stderr
    assert (workflow / "reports/all.html").read_text() == "1\n"
    assert (workflow / "other.txt").exists()


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        pytest.param(
            "--cores 8 --resources gpu=4 reports/all.html",
            "reports/all.html --cores 8 --resources gpu=4",
            id="the command of the README's first line",
        ),
        pytest.param("--resources gpu=4 a b", "a b --resources gpu=4", id="several targets"),
        pytest.param(
            "--resources gpu=4 mem_mb=100 a --cores 8",
            "a --resources gpu=4 mem_mb=100 --cores 8",
            id="several values, then an option",
        ),
        pytest.param("first --resources gpu=4 a", "first a --resources gpu=4", id="targets around"),
        pytest.param(
            "--resources gpu=4 a mem_mb=1",
            "a --resources gpu=4 mem_mb=1",
            id="a value after a target",
        ),
        pytest.param("--res gpu=4 a", "a --res gpu=4", id="the short name"),
        pytest.param("--resource gpu=4 a", "a --resource gpu=4", id="an abbreviation"),
        pytest.param(
            "--resources gpu=4 results/x=1/y.json",
            "results/x=1/y.json --resources gpu=4",
            id="an equals sign in a path is not a resource",
        ),
        pytest.param("--resources gpu=4 a -- b", "--resources gpu=4 -- a b", id="swallowed and separated"),
        pytest.param(
            "--resources gpu=4 a --resources mem_mb=1 b",
            "a b --resources gpu=4 --resources mem_mb=1",
            id="the option twice",
        ),
    ],
)
def test_swallowed_targets_move_to_where_targets_are_read(typed: str, passed: str) -> None:
    assert plugin.normalise(typed.split()) == passed.split()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "reports/all.html",
        "reports/all.html --cores 8 --resources gpu=4",
        "--cores 8 --resources gpu=4 -- reports/all.html",
        "--cores 8 --resources gpu=4",
        "--resources=gpu=4 reports/all.html",
        "--resources gpu=4 --cores 8 reports/all.html",
        "--set-resources train:gpu=1 infer:gpu=1",
        "--set-resource-scopes gpu=local a",
        "--default-resources gpu=0 mem_mb=input.size",
        "--rerun-triggers mtime params --resources gpu=4 -n",
        "--resources base64//Z3B1PTQ= --target-jobs report:",
        "--restart-times 2 a",
        "-- --resources gpu=4 a",
    ],
)
def test_a_line_in_which_nothing_is_swallowed_stays_as_it_is(line: str) -> None:
    assert plugin.normalise(line.split()) == line.split()


@pytest.mark.parametrize(
    ("program", "touched"),
    [
        ("/env/bin/snakemake", True),
        ("/env/lib/python3.11/site-packages/snakemake/__main__.py", True),
        ("/env/bin/pytest", False),
        ("/env/bin/snakefmt", False),
        ("", False),
    ],
)
def test_only_the_command_line_of_snakemake_is_touched(
    program: str, touched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--resources", "gpu=4", "a"])
    importlib.reload(plugin)
    assert (sys.argv[1] == "a") is touched


def test_the_package_is_a_logger_plugin_that_leaves_the_output_alone() -> None:
    found = LoggerPluginRegistry().get_plugin("vosrepro")
    handler = found.log_handler(None, None)
    assert not handler.writes_to_stream
    assert not handler.writes_to_file
    assert not handler.needs_rulegraph
    assert handler.has_filter
    assert handler.has_formatter
