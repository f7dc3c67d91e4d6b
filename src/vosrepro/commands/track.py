"""Mirror the journals of a study into MLflow.

Without options: mirror once. The workflow starts `--follow` when it begins and calls `--complete` as its
last step. Look at the result with

    mlflow ui --backend-store-uri sqlite:///mlflow.db --workers 1

in this folder and http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning in a browser.
MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are respected; VOSREPRO_MLFLOW=off switches tracking off. A
store that does not work is a warning: results and reports never depend on it.
"""

from __future__ import annotations

import argparse
import logging

from vosrepro.base.targets import SourcePath, TargetPath
from vosrepro.study.paths import mlflow_outcome

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study and what to do."""
    parser.add_argument("--study", type=SourcePath, required=True, help="params/studies/<study>.yaml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--follow", action="store_true", help="mirror until the workflow ends")
    what.add_argument("--complete", action="store_true", help="mirror the rest and write --out")
    parser.add_argument("--parent-pid", type=int, help="with --follow: process of the workflow")
    parser.add_argument("--poll-s", type=float, default=2.0, help="(default: %(default)s)")
    parser.add_argument("--out", type=TargetPath, help=f"with --complete: default {mlflow_outcome('<study>')}")
    parser.add_argument(
        "--answer-s",
        type=float,
        default=60.0,
        help="with --complete: wait so long for a follower (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Follow, complete, or mirror once."""
    from vosrepro.base.errors import ConfigError
    from vosrepro.study.params import load_study
    from vosrepro.tracking.follower import complete, follow, mirror_once

    study = load_study(args.study).study
    if args.follow:
        if args.parent_pid is None:
            raise ConfigError("--follow needs --parent-pid, the process that it follows")
        follow(study, parent_pid=args.parent_pid, poll_s=args.poll_s)
        return 0
    if args.complete:
        out = args.out or mlflow_outcome(study)
        outcome = complete(study, out, answer_s=args.answer_s)
    else:
        outcome = mirror_once(study)
    runs = f"{len(outcome.runs)} runs in {outcome.tracking_uri}"
    log.info("%s: %s (%s)", study, outcome.status, outcome.note or runs)
    return 0
