"""The rules of the tiny study one after another, each in a fork of this process, by the rules of Snakemake.

A rule is due if an output is missing, an input is newer or an earlier rule of its inputs ran; its outputs are removed
before it begins and when it fails. A fork costs a tenth of a second, a Snakemake with its jobs ten.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from tortured import STUDY

from vosrepro.study.plan import load_plan

_LOADED = ("train", "infer", "score_run", "data", "report", "track")
_LOADED_PARTS = (
    "training.loop",
    "inference.entries",
    "inference.select",
    "scoring.entries",
    "reporting",
    "methods.stm",
)
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Rule:
    """A command and what it declares."""

    name: str
    command: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Ending:
    """How a series of rules ended.

    Attributes:
        rule: that failed; empty if all are done.
        status: its exit status, negative for a signal.
        said: what it printed.
        ran: the rules that ran.
    """

    rule: str = ""
    status: int = 0
    said: str = ""
    ran: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the study is complete."""
        return not self.rule

    @property
    def sentence(self) -> str:
        """What a person is told."""
        return next((line for line in reversed(self.said.splitlines()) if line.startswith("vosrepro: ")), "")


def load() -> None:
    """Import what the rules need, once; nothing is computed, so this process may be forked."""
    for name in _LOADED:
        import_module(f"vosrepro.commands.{name}")
    for name in _LOADED_PARTS:
        import_module(f"vosrepro.{name}")


def rules(folder: Path) -> list[Rule]:
    """Those of the study in a folder, in their order."""
    with contextlib.chdir(folder):
        plan = load_plan(STUDY)
    data, results = plan.data_manifest, plan.results
    found = [Rule("data", ("data", "manifest", "--study", str(STUDY), "--out", str(data)), (), (data,))]
    last = []
    for run in sorted(plan.runs, key=lambda run: -len(run.stages)):
        names = ("--study", str(STUDY), "--method", run.method, "--recipe", run.recipe, "--seed", str(run.seed))
        for node in run.stages:
            parent = (node.parent.record,) if node.parent else ()
            command = ("train", *names, "--threads", "1", "--stage", node.stage)
            found.append(Rule(f"train-{node.stage}", command, (data, *parent), (node.record, node.metrics)))
        weights = (run.selected_weights,) if run.selected_weights else ()
        if weights:
            outputs = (*weights, run.candidates, run.selection)
            found.append(Rule("select", ("select", *names), (data, run.stages[-1].record), outputs))
        found.append(Rule(f"infer-{run.method}", ("infer", *names), (data, *weights), (run.inference,)))
        found.append(Rule(f"score-{run.method}", ("score-run", *names), (data, run.inference), (run.scores,)))
        last.append(run.scores)
    report = ("report", "--study", str(STUDY), "--only")
    plots = tuple(results / f"plots/{name}.csv" for name in ("training", "selection", "scores"))
    metrics, mlflow = results / "metrics.json", results / "mlflow.json"
    found.append(Rule("outlets", (*report, "outlets"), (*last, data), (metrics, *plots)))
    track = ("track", "--study", str(STUDY), "--complete", "--out", str(mlflow))
    found.append(Rule("track", track, tuple(last), (mlflow,)))
    found.append(Rule("report", (*report, "pages"), (*last, metrics, mlflow), (Path("reports/all.html"),)))
    return found


@dataclass
class Chain:
    """A study in a folder.

    Attributes:
        folder: of the study.
        rules: see `rules`.
        incomplete: rules that a power cut ended; they are due, and what they left is removed.
        took: seconds of each rule.
    """

    folder: Path
    rules: list[Rule]
    incomplete: set[str] = field(default_factory=set)
    took: dict[str, float] = field(default_factory=dict)

    def go(
        self,
        *,
        until: str = "",
        disturb: Callable[[Rule, int], None] = lambda _rule, _pid: None,
        prepare: Callable[[Rule], None] = lambda _rule: None,
        power_cut: bool = False,
    ) -> Ending:
        """Run what is due.

        Args:
            until: the last rule; empty: all.
            disturb: called after a rule was started, with its process.
            prepare: called in the process of a rule before it begins.
            power_cut: what a failing rule leaves stays.
        """
        ran: list[str] = []
        made: set[Path] = set()
        for rule in self.rules:
            if self._due(rule, made):
                ran.append(rule.name)
                made |= set(rule.outputs)
                ending = self._run(rule, disturb, prepare)
                if ending is None and not all((self.folder / path).exists() for path in rule.outputs):
                    ending = Ending(rule.name, 0, "vosrepro: an output is missing after the rule ended well")
                if ending is not None:
                    self.incomplete |= {rule.name}
                    if not power_cut:
                        self._remove(rule)
                    return Ending(ending.rule, ending.status, ending.said, tuple(ran))
                self.incomplete -= {rule.name}
            if rule.name == until:
                break
        return Ending(ran=tuple(ran))

    def _due(self, rule: Rule, made: set[Path]) -> bool:
        outputs = [self.folder / path for path in rule.outputs]
        if rule.name in self.incomplete or set(rule.inputs) & made or not all(path.exists() for path in outputs):
            return True
        oldest = min(path.stat().st_mtime for path in outputs)
        inputs = [self.folder / path for path in rule.inputs]
        return any(path.exists() and path.stat().st_mtime > oldest for path in inputs)

    def _remove(self, rule: Rule) -> None:
        for path in rule.outputs:
            with contextlib.suppress(OSError):
                (self.folder / path).unlink()

    def _run(self, rule: Rule, disturb: Callable[[Rule, int], None], prepare: Callable[[Rule], None]) -> Ending | None:
        self._remove(rule)
        log = self.folder.parent / f"{self.folder.name}-{rule.name}.log"
        began = time.monotonic()
        process = begin(rule.command, self.folder, log, lambda: prepare(rule))
        disturb(rule, process)
        status = wait(process)
        self.took[rule.name] = time.monotonic() - began
        return None if status == 0 else Ending(rule.name, status, log.read_text(errors="replace"))


def begin(command: tuple[str, ...], folder: Path, log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Start a vosrepro command in a fork, in a process group of its own."""
    process = os.fork()
    if process:
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        return process
    status = 1
    try:
        os.setpgid(0, 0)
        _become_a_program(folder, log)
        prepare()
        status = import_module("vosrepro.cli").main(list(command))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become_a_program(folder: Path, log: Path) -> None:
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((null, file, file)):
        os.dup2(source, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    logging.getLogger().handlers.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ["VOSREPRO_MLFLOW"] = "off"


def wait(process: int, *, longest_s: float = _LONGEST_S) -> int:
    """Exit status of a fork, negative for a signal; one that hangs is killed."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGALRM


def traces(said: str) -> Iterator[str]:
    """Lines that show a traceback."""
    return (line for line in said.splitlines() if re.match(r"Traceback \(most recent", line))
