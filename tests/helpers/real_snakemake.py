"""Running the installed snakemake on a checkout, as a user would."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vosrepro.training.devices.launch import THREADS
from vosrepro.training.devices.requests import SOCKET

BIN = Path(sys.executable).parent


@functools.cache
def warm() -> str:
    """The socket of one warm process for all workflows of this test process: each of its own would import torch."""
    socket = Path(tempfile.mkdtemp(prefix="vosrepro-")) / "warm"
    command = [sys.executable, "-m", "vosrepro.training.devices.warm", str(socket), str(os.getpid())]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    return str(socket)


def start(
    folder: Path, *arguments: str, own: bool = False, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Begin `snakemake ARGUMENTS` in a folder, without MLflow.

    Args:
        folder: a checkout.
        arguments: of snakemake.
        own: with a warm process of its own, as every workflow of a user has.
        environment: added to that of the tests.
    """
    whole = os.environ | {"VOSREPRO_MLFLOW": "off", "OMP_NUM_THREADS": "1"} | dict(environment or {})
    whole["PATH"] = f"{BIN}{os.pathsep}{whole['PATH']}"
    if not own:
        whole[SOCKET] = warm()
    return subprocess.Popen(
        [str(BIN / "snakemake"), *arguments],
        cwd=folder,
        env=whole,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def snakemake(
    folder: Path, *arguments: str, expect: int = 0, own: bool = False, environment: Mapping[str, str] | None = None
) -> str:
    """What `snakemake ARGUMENTS` prints; fails if its status is not `expect`; the others: see `start`."""
    with start(folder, *arguments, own=own, environment=environment) as process:
        try:
            output, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == expect, output[-4000:]
    return output
